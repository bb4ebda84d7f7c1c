"""The sandbox's own payload rules, one row per type (rdstation-api.md §3).

Written independently of `dispatcher.events`: a twin that shared the client's validator could not catch its bugs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from dispatcher.sandbox.answers import ApiError, error
from dispatcher.sandbox.options import Options

Check = Callable[[object, str], list[ApiError]]
"""A value and its path; answers what is wrong with it."""

_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_URL = re.compile(r"https?://[^\s/]+\S*")
_E164 = re.compile(r"\+[1-9]\d{6,14}")

LEGACY = ("ORDER_PLACED", "ORDER_PLACED_ITEM", "CART_ABANDONED", "CART_ABANDONED_ITEM")
QUALIFICATION = ("OPPORTUNITY", "SALE", "OPPORTUNITY_LOST")
CURRENCIES = ("ARS", "BRL", "CAD", "CLP", "COP", "EUR", "MXN", "PEN", "USD", "UYU")


def text(value: object, path: str) -> list[ApiError]:
    """A string with something in it."""
    if not isinstance(value, str):
        return [error("INVALID_DATA_TYPE", "Must be of type 'STRING'.", path, data_type="STRING")]
    return [] if value.strip() else [error("CANNOT_BE_BLANK", "Cannot be blank.", path)]


def loose_text(value: object, path: str) -> list[ApiError]:
    """A string, empty or not."""
    return text(value, path) if value != "" else []


def email(value: object, path: str) -> list[ApiError]:
    """Something an address could be."""
    if problems := text(value, path):
        return problems
    return [] if _EMAIL.fullmatch(str(value)) else [error("INVALID_EMAIL_FORMAT", "Invalid email format.", path)]


def phone(value: object, path: str) -> list[ApiError]:
    """E.164."""
    if problems := text(value, path):
        return problems
    return [] if _E164.fullmatch(str(value)) else [error("INVALID_FORMAT", "Must be in E.164 format.", path)]


def url(value: object, path: str) -> list[ApiError]:
    """An http or https address."""
    if problems := text(value, path):
        return problems
    return [] if _URL.fullmatch(str(value)) else [error("INVALID_FORMAT", "Must be an http(s) URL.", path)]


def number(value: object, path: str) -> list[ApiError]:
    """A JSON number, zero or more."""
    beyond = math.inf  # `isfinite` would fail for a whole number that no float can hold
    if isinstance(value, bool) or not isinstance(value, int | float) or not -beyond < value < beyond:
        return [error("INVALID_DATA_TYPE", "Must be of type 'NUMBER'.", path, data_type="NUMBER")]
    return [] if value >= 0 else [error("INVALID", "Must be zero or more.", path)]


def integer(minimum: int = 0, *, as_text: bool = False) -> Check:
    """A whole JSON number; the retired types' integers also pass as text, as in RD Station's own sample."""

    def check(value: object, path: str) -> list[ApiError]:
        if as_text and isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            return [error("INVALID_DATA_TYPE", "Must be of type 'INTEGER'.", path, data_type="INTEGER")]
        return [] if value >= minimum else [error("INVALID", f"Must be {minimum} or more.", path)]

    return check


def boolean(value: object, path: str) -> list[ApiError]:
    """A JSON boolean."""
    return [] if isinstance(value, bool) else [error("MUST_BE_BOOLEAN", "Must be boolean.", path)]


def one_of(*options: str) -> Check:
    """One of these words."""

    def check(value: object, path: str) -> list[ApiError]:
        if isinstance(value, str) and value in options:
            return []
        return [error("INVALID_OPTION", "Must be one of the valid options.", path, valid_options=list(options))]

    return check


def list_of(check: Check, *, longest: int | None = None) -> Check:
    """An array; more than `longest` elements is an excess, which can be switched off."""

    def check_all(value: object, path: str) -> list[ApiError]:
        if not isinstance(value, list):
            return [error("INVALID_DATA_TYPE", "Must be of type 'SET'.", path, data_type="SET")]
        if longest is not None and len(value) > longest:
            return [error("TOO_LONG", f"Must have at most {longest} elements.", path, maximum=longest)]
        return [problem for at, one in enumerate(value) for problem in check(one, f"{path}[{at}]")]

    return check_all


def at_most(longest: int) -> Check:
    """A non-empty string of at most so many characters."""

    def check(value: object, path: str) -> list[ApiError]:
        if not (problems := text(value, path)) and len(str(value)) > longest:
            return [error("TOO_LONG", f"Must have at most {longest} characters.", path, maximum=longest)]
        return problems

    return check


def tag(value: object, path: str) -> list[ApiError]:
    """Lower case only."""
    if not (problems := text(value, path)) and str(value) != str(value).lower():
        return [error("VALUES_MUST_BE_LOWERCASE", "Values must be lowercase.", path)]
    return problems


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """An object with these fields."""

    def check(value: object, path: str) -> list[ApiError]:
        if not isinstance(value, dict):
            return [error("INVALID_DATA_TYPE", "Must be of type 'OBJECT'.", path, data_type="OBJECT")]
        return _fields(value, required, optional, path)

    return check


def _fields(
    value: dict[str, object], required: Mapping[str, Check], optional: Mapping[str, Check], path: str
) -> list[ApiError]:
    problems: list[ApiError] = []
    for name, check in required.items():
        if value.get(name) is None:
            problems.append(error("CANNOT_BE_NULL", "Cannot be null.", f"{path}.{name}"))
        else:
            problems += check(value[name], f"{path}.{name}")
    for name, check in optional.items():
        if value.get(name) is not None:
            problems += check(value[name], f"{path}.{name}")
    return problems


_legal_basis = record(
    {
        "category": one_of("communications"),
        "type": one_of(
            "pre_existent_contract", "consent", "legitimate_interest", "judicial_process", "vital_interest",
            "public_interest",
        ),
        "status": one_of("granted", "declined"),
    },
    {},
)  # fmt: skip
_line_item = record(
    {"product_id": at_most(150), "product_title": at_most(255), "price": number, "quantity": integer(1)},
    {
        "product_url": url, "image_url": url, "variant_id": text, "variant_title": text, "sku": text,
        "categories": list_of(text, longest=10),
    },
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TypeRule:
    """One event type: what its payload must and may hold, `email` aside."""

    required: Mapping[str, Check]
    optional: Mapping[str, Check]


_contact = {"name": loose_text, "mobile_phone": loose_text, "personal_phone": loose_text, "phone": phone}
_bases = {"legal_bases": list_of(_legal_basis)}
_profile = dict.fromkeys(
    (
        "name", "job_title", "state", "city", "country", "personal_phone", "mobile_phone", "twitter", "facebook",
        "linkedin", "website", "company_name", "company_site", "company_address",
    ),
    loose_text,
)  # fmt: skip
_money: dict[str, Check] = {"currency": one_of(*CURRENCIES), "price": number}
_items: dict[str, Check] = {"line_items": list_of(_line_item, longest=20)}
_shipping: dict[str, Check] = {
    "shipping_price": number, "shipping_city": loose_text, "shipping_state": loose_text,
    "shipping_country": loose_text, "order_url": url, "payment_methods": list_of(text, longest=5),
}  # fmt: skip


def _ecommerce(required: Mapping[str, Check], optional: Mapping[str, Check]) -> TypeRule:
    return TypeRule({"identifier": text, **required}, {**_contact, **_bases, **optional})


def _legacy(**required: Check) -> TypeRule:
    return TypeRule(required, {"name": loose_text, **_bases})


_checkout = _ecommerce({"checkout_url": url, **_money, "total_items": integer(1)}, _items)
_order = _ecommerce({**_money, "total_items": integer()}, {**_items, **_shipping})
_chat = {"chat_subject": text, "cf_chat_status": text}
_chat_extras = {"cf_chat_type": loose_text, "cf_birthdate": loose_text, "cf_gender": loose_text, **_profile, **_bases}
_media = {"media_type": text, "media_identifier": text}
_media_extras: dict[str, Check] = {
    **_profile, **_bases, "media_metadata": url, "media_recorded_content": boolean, "media_category": loose_text,
    "media_duration": integer(), "media_published_date_timestamp": text,
}  # fmt: skip

TYPES: dict[str, TypeRule] = {
    "ORDER_PLACED": _legacy(
        cf_order_id=text, cf_order_total_items=integer(as_text=True), cf_order_status=text,
        cf_order_payment_method=one_of("Credit Card", "Debit Card", "Invoice", "Others"),
        cf_order_payment_amount=number,
    ),
    "ORDER_PLACED_ITEM": _legacy(cf_order_id=text, cf_order_product_id=text, cf_order_product_sku=text),
    "CART_ABANDONED": _legacy(cf_cart_id=text, cf_cart_total_items=integer(as_text=True), cf_cart_status=text),
    "CART_ABANDONED_ITEM": _legacy(cf_cart_id=text, cf_cart_product_id=text, cf_cart_product_sku=text),
    "ECOMMERCE_CHECKOUT_STARTED": _checkout,
    "ECOMMERCE_CART_ABANDONED": _checkout,
    "ECOMMERCE_ORDER_PLACED": _order,
    "ECOMMERCE_ORDER_PAID": _order,
    "ECOMMERCE_ORDER_CANCELLED": _ecommerce(
        {}, {"cancel_reason": one_of("customer", "declined", "fraud", "inventory", "other")}
    ),
    "ECOMMERCE_ORDER_REFUNDED": _ecommerce(_money, {"total_items": integer(), "order_identifier": text}),
    "ECOMMERCE_ORDER_FULFILLED": _ecommerce(
        {},
        {"order_identifier": text, "tracking_company": loose_text, "tracking_code": loose_text, "tracking_url": url},
    ),
    "ECOMMERCE_SHIPMENT_DELIVERED": _ecommerce({"order_identifier": text}, {}),
    "CONVERSION": TypeRule(
        {"conversion_identifier": at_most(255)},
        {
            **_profile, **_bases, "phone": phone, "client_tracking_id": loose_text, "traffic_source": loose_text,
            "traffic_medium": loose_text, "traffic_campaign": loose_text, "traffic_value": loose_text,
            "tags": list_of(tag), "available_for_mailing": boolean,
        },
    ),
    "OPPORTUNITY": TypeRule({"funnel_name": one_of("default")}, {}),
    "SALE": TypeRule({"funnel_name": one_of("default")}, {"value": number}),
    "OPPORTUNITY_LOST": TypeRule({"funnel_name": one_of("default")}, {"reason": loose_text}),
    "CHAT_STARTED": TypeRule(_chat, _chat_extras),
    "CHAT_FINISHED": TypeRule({**_chat, "cf_chat_transcript_message": text}, _chat_extras),
    "CALL_FINISHED": TypeRule(
        {"call_from_number": text, "call_status": text},
        {
            **_profile, **_bases, "call_user_email": loose_text, "call_started_at": loose_text,
            "call_duration": loose_text, "call_type": one_of("Inbound", "Outbound"),
            "call_status_description": loose_text, "call_phone_type": loose_text, "call_carrier": loose_text,
            "call_record": loose_text,
        },
    ),
    "MEDIA_PLAYBACK_STARTED": TypeRule(_media, _media_extras),
    "MEDIA_PLAYBACK_STOPPED": TypeRule(
        _media,
        {
            **_media_extras, "media_finished": boolean, "media_user_interaction_duration": integer(),
            "media_user_interaction_percentage": integer(), "media_user_interaction_date_timestamp": text,
        },
    ),
}  # fmt: skip


def problems_of(
    event: object, options: Options, *, legacy: Literal["accept", "reject"], root: str = "$"
) -> list[ApiError]:
    """Everything wrong with one envelope, with paths below `root` (`$`, or `$[3]` in a batch)."""
    if not isinstance(event, dict):
        return [error("INVALID_DATA_TYPE", "Must be of type 'OBJECT'.", root, data_type="OBJECT")]
    event_type = event.get("event_type")
    retired = event_type in LEGACY and legacy == "reject"
    if not isinstance(event_type, str) or event_type not in TYPES or retired:
        offered = sorted(name for name in TYPES if legacy == "accept" or name not in LEGACY)
        path = f"{root}.event_type"
        return [error("INVALID_OPTION", "Must be one of the valid options.", path, valid_options=offered)]
    problems = one_of("CDP")(event.get("event_family"), f"{root}.event_family")
    payload = event.get("payload")
    if not isinstance(payload, dict):
        kind = error("INVALID_DATA_TYPE", "Must be of type 'OBJECT'.", f"{root}.payload", data_type="OBJECT")
        return [*problems, kind]
    rule = TYPES[event_type]
    problems += _lead(payload, options, f"{root}.payload")
    problems += _fields(payload, rule.required, rule.optional, f"{root}.payload")
    if options.unknown_keys == "refuse" and event_type != "CONVERSION":
        problems += [
            error("INVALID_FIELDS", "Is not a field of this event type.", f"{root}.payload.{name}")
            for name in _unknown(payload, rule)
        ]
    if options.excess == "accept":
        problems = [problem for problem in problems if problem["error_type"] != "TOO_LONG"]
    return problems


def dropped_of(event: object) -> tuple[str, ...]:
    """The payload fields of a good event that are not stored, and nobody is told (§3.1).

    Which custom fields an account has is not played: each `cf_…` of a CONVERSION counts as stored.
    """
    if not isinstance(event, dict) or not isinstance(payload := event.get("payload"), dict):
        return ()
    custom = event["event_type"] == "CONVERSION"
    unknown = _unknown(payload, TYPES[event["event_type"]])
    return tuple(name for name in unknown if not (custom and name.startswith("cf_")))


def _unknown(payload: dict[str, object], rule: TypeRule) -> list[str]:
    known = {"email", *rule.required, *rule.optional}
    return [name for name in payload if name not in known]


def _lead(payload: dict[str, object], options: Options, path: str) -> list[ApiError]:
    """§3.1: an e-mail names the lead; whether a phone alone does depends on the account."""
    if payload.get("email") is not None:
        return email(payload["email"], f"{path}.email")
    if payload.get("phone") is None:
        return [error("AT_LEAST_ONE_REQUIRED", "At least one of email, phone is required.", f"{path}.email")]
    return [] if options.phone_only == "accept" else [error("MISSING", "Is missing.", f"{path}.email")]


def lead_of(event: object) -> str | None:
    """The lead an envelope names: the e-mail, trimmed and lower-cased, else the phone."""
    payload = event.get("payload") if isinstance(event, dict) else None
    if isinstance(payload, dict):
        for name in ("email", "phone"):
            if isinstance(value := payload.get(name), str) and value.strip():
                return value.strip().lower()
    return None
