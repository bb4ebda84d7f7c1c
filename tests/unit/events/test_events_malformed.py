"""More than two hundred broken envelopes against the real `parse_event`, each with the path it must name.

Nothing is doubled. Every refused value that could be personal data carries CANARY, which no message may repeat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from dispatcher.errors import InvalidEvent
from dispatcher.events import CATALOGUE, parse_event
from dispatcher.events.problems import MAX_PROBLEMS

CANARY = "kanarienvogel"
ABSENT = object()
HUGE = 10**5000


def deep(levels: int) -> Any:
    value: Any = CANARY
    for _ in range(levels):
        value = [value]
    return value


def envelope(event_type: str, **changes: Any) -> dict[str, Any]:
    payload = {**CATALOGUE[event_type].EXAMPLE, **changes}
    return {
        "event_type": event_type,
        "event_family": "CDP",
        "payload": {name: value for name, value in payload.items() if value is not ABSENT},
    }


NOT_TEXT: list[Any] = [None, 7, 7.5, True, math.nan, b"bytes", ["x"], {"a": CANARY}, deep(5_000), object(), HUGE]
BAD_TEXT = ["\x00", f"{CANARY}\x00", f"\ud800{CANARY}", "x" * 190_001]
BLANK = ["", " ", "\t\n", "\u3000"]
BAD_COUNT: list[Any] = [
    None,
    True,
    "five",
    "5.0",
    "-5",
    "",
    " 5",
    "5_0",
    "\u0665",
    "9" * 17,
    5.5,
    -1,
    math.nan,
    math.inf,
    HUGE,
    [5],
    {},
]
BAD_AMOUNT: list[Any] = [
    None,
    False,
    "200.5",
    "1,5",
    "",
    math.nan,
    math.inf,
    -math.inf,
    -0.01,
    1e300,
    HUGE,
    [1],
    {},
    b"1",
]
BAD_EMAIL = [
    CANARY, f"{CANARY}@", f"@{CANARY}.com", f"{CANARY}@host", f"a b@{CANARY}.com", f"{CANARY}@x..com",
    f".{CANARY}@x.com", f"{CANARY}.@x.com", f"{CANARY}..a@x.com", f"{CANARY}@-x.com", f"{CANARY}@x-.com",
    f"{CANARY}@x.c", f"{CANARY}@127.0.0.1", f"{CANARY}@@x.com", f"<{CANARY}@x.com>", f"{CANARY}@x.com,b@y.com",
    f"{CANARY}@x.com\x00", f"{CANARY}\n@x.com", f"joão-{CANARY}@x.com", f"{CANARY}@exämple.com",
    f"{'a' * 65}@x.com", f"a@{'b.' * 130}com", f"{CANARY}\u200b@x.com",
]  # fmt: skip
BAD_URL = ["", "loja.example", "ftp://x.example", "http://", "https:///x", "https://a b", "javascript:alert(1)", "//x"]
LINE = {"product_id": "P", "product_title": "T", "price": 1, "quantity": 1}
BASIS = {"category": "communications", "type": "consent", "status": "granted"}


def fields() -> Iterator[tuple[str, str, Any, str]]:
    """Event type, field, bad value, path below `$.payload`."""
    yield from (("ORDER_PLACED", "cf_order_id", bad, "") for bad in [ABSENT, *NOT_TEXT, *BAD_TEXT, *BLANK])
    yield from (("ORDER_PLACED", "name", bad, "") for bad in [*NOT_TEXT[1:], *BAD_TEXT])
    yield from (("ORDER_PLACED", "email", bad, "") for bad in [ABSENT, *NOT_TEXT, *BAD_TEXT, *BLANK, *BAD_EMAIL])
    yield from (("ORDER_PLACED", "cf_order_total_items", bad, "") for bad in [ABSENT, *BAD_COUNT])
    yield from (("ORDER_PLACED", "cf_order_payment_amount", bad, "") for bad in [ABSENT, *BAD_AMOUNT])
    yield from (("ORDER_PLACED", "cf_order_payment_method", bad, "") for bad in [ABSENT, "credit card", "", None, [1]])
    yield from (("CART_ABANDONED", "cf_cart_total_items", bad, "") for bad in [ABSENT, *BAD_COUNT])
    yield from (("ORDER_PLACED_ITEM", name, ABSENT, "") for name in ("cf_order_product_id", "cf_order_product_sku"))
    yield from (("CART_ABANDONED_ITEM", name, ABSENT, "") for name in ("cf_cart_product_id", "cf_cart_product_sku"))
    yield from (("ECOMMERCE_ORDER_PAID", "total_items", bad, "") for bad in [ABSENT, "5", *BAD_COUNT])
    yield from (("ECOMMERCE_CART_ABANDONED", "total_items", bad, "") for bad in [ABSENT, 0, "5"])
    yield from (("ECOMMERCE_CART_ABANDONED", "checkout_url", bad, "") for bad in [ABSENT, *NOT_TEXT[:4], *BAD_URL])
    yield from (("ECOMMERCE_ORDER_PAID", "currency", bad, "") for bad in [ABSENT, "brl", "GBP", "", 986])
    yield from (("ECOMMERCE_ORDER_PAID", "phone", bad, "") for bad in ["48999990000", "+0489", "+55 48 9999", 5548])
    yield ("ECOMMERCE_ORDER_PAID", "payment_methods", ["pix"] * 6, "")
    yield ("ECOMMERCE_ORDER_PAID", "payment_methods", ["pix", " "], "[1]")
    yield from (("ECOMMERCE_ORDER_PAID", "payment_methods", bad, "") for bad in ["pix", {"pix"}, {"pix": 1}, 5])
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [LINE] * 21, "")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [LINE, CANARY], "[1]")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "product_id": "x" * 151}], "[0].product_id")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "product_title": "x" * 256}], "[0].product_title")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "quantity": 0}], "[0].quantity")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "price": "1"}], "[0].price")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "categories": ["c"] * 11}], "[0].categories")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "sku": "\x00"}], "[0].sku")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "title": "T"}], "[0].title")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "a\x00": "T"}], '[0]["a\\u0000"]')
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, "\ud800": "T"}], "[0]")
    yield ("ECOMMERCE_ORDER_PAID", "line_items", [{**LINE, HUGE: "T"}], '[0]["<unprintable int object>"]')
    yield from (("ECOMMERCE_ORDER_REFUNDED", name, ABSENT, "") for name in ("identifier", "currency", "price"))
    yield ("ECOMMERCE_ORDER_CANCELLED", "cancel_reason", "regret", "")
    yield ("ECOMMERCE_ORDER_FULFILLED", "tracking_url", "x", "")
    yield ("ECOMMERCE_SHIPMENT_DELIVERED", "order_identifier", ABSENT, "")
    yield ("ORDER_PLACED", "legal_bases", [{**BASIS, "category": "data_processing"}], "[0].category")
    yield ("ORDER_PLACED", "legal_bases", [BASIS, {**BASIS, "type": "will"}], "[1].type")
    yield ("ORDER_PLACED", "legal_bases", [{"category": "communications", "type": "consent"}], "[0].status")
    yield from (("ORDER_PLACED", "legal_bases", bad, "") for bad in [BASIS, "consent", [BASIS] * 10_001])
    yield from (("CONVERSION", "conversion_identifier", bad, "") for bad in [ABSENT, "x" * 256, *BLANK])
    yield from (("CONVERSION", "tags", bad, "") for bad in ["loja", {"a": 1}, 5, {"loja"}])
    yield from (("CONVERSION", "tags", ["loja", bad], "[1]") for bad in ["Loja", "", " ", None, 5, ["x"], "\ud800"])
    yield from (("CONVERSION", "available_for_mailing", bad, "") for bad in ["true", 1, 0, [True]])
    yield from (
        ("CONVERSION", "cf_size", bad, "")
        for bad in [1.5, math.nan, HUGE, {"a": 1}, [1], [[]], deep(5_000), "\x00", ["\ud800"], b"M", ["M"] * 10_001]
    )
    yield from (("SALE", "value", bad, "") for bad in [ABSENT, *BAD_AMOUNT])
    yield from (("OPPORTUNITY", "funnel_name", bad, "") for bad in [ABSENT, "outro", None, ["default"]])
    yield from (("OPPORTUNITY_LOST", "reason", bad, "") for bad in [ABSENT, *BLANK])
    yield from (("CHAT_STARTED", name, ABSENT, "") for name in ("chat_subject", "cf_chat_status"))
    yield ("CHAT_FINISHED", "cf_chat_transcript_message", ABSENT, "")
    yield from (("CALL_FINISHED", name, ABSENT, "") for name in ("call_from_number", "call_status"))
    yield from (
        ("CALL_FINISHED", "call_started_at", bad, "")
        for bad in [1772456405, "yesterday", "2026-03-02", "2026-03-02T10:00:05", "2026-13-02T10:00:05Z", ""]
    )
    yield from (("CALL_FINISHED", "call_duration", bad, "") for bad in [95, "95s", "-1", ""])
    yield ("CALL_FINISHED", "call_record", "x", "")
    yield from (("MEDIA_PLAYBACK_STARTED", name, ABSENT, "") for name in ("media_type", "media_identifier"))
    yield ("MEDIA_PLAYBACK_STARTED", "media_finished", True, "")
    yield from (("MEDIA_PLAYBACK_STOPPED", "media_finished", bad, "") for bad in ["no", 1])
    yield from (("MEDIA_PLAYBACK_STOPPED", "media_duration", bad, "") for bad in ["1800", 1.5, -1, True])


def cases() -> Iterator[tuple[object, str]]:
    for event_type, field, bad, below in fields():
        yield envelope(event_type, **{field: bad}), f"$.payload.{field}{below}"
    good = envelope("ORDER_PLACED")
    for event_type in CATALOGUE:  # an undocumented key is refused by every type
        yield envelope(event_type, undocumented=CANARY), "$.payload.undocumented"
    for whole in [None, 5, "{}", b"{}", [good], (good,), True, math.nan, object(), deep(100_000), CANARY]:
        yield whole, "$"
    for bad in [
        ABSENT,
        None,
        5,
        "",
        "order_placed",
        "ORDER_PLACED ",
        f"{CANARY}\x00",
        "\ud800",
        "X" * 10**6,
        [],
        deep(9999),
    ]:
        changed = {**good, "event_type": bad}
        yield {name: value for name, value in changed.items() if value is not ABSENT}, "$.event_type"
    for bad in [ABSENT, None, "cdp", "", 5, ["CDP"], "CDP\x00", deep(9999)]:
        changed = {**good, "event_family": bad}
        yield {name: value for name, value in changed.items() if value is not ABSENT}, "$.event_family"
    for bad in [ABSENT, None, [], "x", 5, [good["payload"]], deep(100_000)]:
        changed = {**good, "payload": bad}
        yield {name: value for name, value in changed.items() if value is not ABSENT}, "$.payload"
    odd_names: list[tuple[Any, str]] = [
        ("timestamp", "$.timestamp"), ("\x00", '$["\\u0000"]'), ("\ud800", '$["\\ud800"]'), (b"x", '$["…"]'),
        (None, '$["…"]'), (f"{CANARY}@x.com", '$["…"]'), (5, "$[5]"), (("a", 1), '$["…"]'), (HUGE, '$["…"]'),
    ]  # fmt: skip
    for name, path in odd_names:
        yield {**good, name: 1}, path
        yield {**good, "payload": {**good["payload"], name: deep(5_000)}}, path.replace("$", "$.payload", 1)
    yield envelope("CONVERSION", **{f"cf_{CANARY}@x": "M"}), '$.payload["…"]'
    yield envelope("CONVERSION", cf_="M"), "$.payload.cf_"
    yield envelope("CONVERSION", **{"cf_a\x00": "M"}), '$.payload["cf_a\\u0000"]'
    yield envelope("ORDER_PLACED", cart_id="CART-77"), "$.payload.cart_id"
    yield envelope("CHAT_FINISHED", cf_chat_transcript_message="☕" * 65_000), "$"
    yield envelope("CONVERSION", **{f"cf_{n}": "x" * 200 for n in range(1_000)}), "$"


CASES = list(cases())


def test_there_are_more_than_two_hundred_of_them() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_broken_envelope_is_refused_with_its_path_and_without_its_content(number: int) -> None:
    broken, path = CASES[number]
    with pytest.raises(InvalidEvent) as refused:
        parse_event(broken)
    assert path in [problem.path for problem in refused.value.problems]
    assert len(refused.value.problems) == 1
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None  # pydantic's own error holds the input
    str(refused.value).encode()


def test_every_problem_of_envelope_and_payload_is_named_at_once() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event(
            {
                "event_type": "ORDER_PLACED",
                "event_family": "CRM",
                "payload": {
                    "email": "x",
                    "cf_order_id": 1001,
                    "cf_order_total_item": 5,
                    "cf_order_payment_amount": "1",
                },
                "uuid": "x",
            }
        )
    assert {problem.path for problem in refused.value.problems} == {
        "$.event_family",
        "$.uuid",
        "$.payload.cf_order_total_item",
        "$.payload.email",
        "$.payload.cf_order_id",
        "$.payload.cf_order_total_items",
        "$.payload.cf_order_status",
        "$.payload.cf_order_payment_method",
        "$.payload.cf_order_payment_amount",
    }
    assert "did you mean cf_order_total_items?" in str(refused.value)


def test_an_unknown_type_names_the_accepted_ones_and_the_likeliest_first() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event({"event_type": "cart-abandonned", "event_family": "CDP", "payload": {"email": CANARY}})
    by_path = {problem.path: problem.message for problem in refused.value.problems}
    assert by_path.keys() == {"$.event_type", "$.payload.email"}
    assert "use one of CART_ABANDONED, " in by_path["$.event_type"]
    assert all(event_type in by_path["$.event_type"] for event_type in CATALOGUE)


def test_a_flood_of_problems_is_counted_rather_than_listed() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event(envelope("ORDER_PLACED", **{f"k{n}": 1 for n in range(30_000)}))
    assert len(refused.value.problems) == MAX_PROBLEMS + 1
    assert str(refused.value.problems[-1]) == "$: and 29800 more problems"
