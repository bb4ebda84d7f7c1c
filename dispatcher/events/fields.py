"""The kinds of values RD Station's payloads are made of (rdstation-api.md §3).

Each kind refuses what cannot be sent or stored (NUL, lone surrogates, NaN) by itself, so that no payload needs a
second look. Content is kept as it is; only an e-mail is trimmed, because a blank around it is never meant and would
cost the shop its event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from dispatcher.events.problems import LINE_TEXT, NOT_BLANK, PATTERNS

MAX_BODY_BYTES: Final = 190_000
"""UTF-8 bytes of the whole envelope; RD Station writes "0,2Mb" (rdstation-api.md §12, row 2)."""

MAX_NUMBER: Final = 2**53 - 1
"""The largest whole number that every JSON reader keeps exact."""

MAX_ITEMS: Final = 10_000
"""Elements of a list without a documented limit, so that a hostile one is refused before it is walked."""

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL: Final = rf"^{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])$"
URL: Final = (
    r"^[Hh][Tt][Tt][Pp][Ss]?://(?:[^\s\x00/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s\x00/?#@:\[\]]+)"
    r"(?::[0-9]{1,5})?(?:[/?#][^\s\x00]*)?$"
)
E164: Final = r"^\+[1-9][0-9]{6,14}$"
RFC3339: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})$"
SECONDS: Final = r"^[0-9]{1,9}$"
DIGITS: Final = r"^[0-9]{1,16}$"
PATTERNS[EMAIL] = "must be an e-mail address such as ana@example.com, in ASCII (a domain with accents as xn--…)"
PATTERNS[URL] = "must be a URL that starts with http:// or https://, without blanks"
PATTERNS[E164] = "must be a phone number in E.164 form, such as +5548999990000"
PATTERNS[RFC3339] = "must be a moment in RFC 3339 form, such as 2026-03-02T10:00:05-03:00"
PATTERNS[SECONDS] = "must be a number of seconds, as text"


def _refused(message: str) -> NoReturn:
    raise PydanticCustomError("refused", message)


def _local_part(value: str) -> str:
    if value.index("@") > 64:
        _refused("must have at most 64 characters before the @")
    return value


def _lower_case(value: str) -> str:
    if value != value.lower():
        _refused("must be lower case")
    return value


def _moment(value: str) -> str:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        _refused(PATTERNS[RFC3339])
    return value


def _number(value: object) -> int | float | None:
    """The value as a plain finite number, or None if it is none; true and false are none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else None
    return float(value) if isinstance(value, float) and math.isfinite(value) else None


def _whole(value: object) -> object:
    number = _number(value)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return value if number is None else number


def _whole_or_digits(value: object) -> object:
    if not isinstance(value, str):
        return _whole(value)
    if not (value.isascii() and value.isdigit() and len(value) <= 16):
        _refused('must be a whole number, or one in digits such as "5"')
    return int(value)


def _amount(value: object) -> int | float:
    number = _number(value)
    if number is None:
        _refused("must be a finite number such as 199.9 (a decimal point, no quotes)")
    if not 0 <= number <= MAX_NUMBER:
        _refused(f"must be from 0 to {MAX_NUMBER}")
    return number


def listed(value: object) -> object:
    """A JSON array of a length worth walking; sets and iterators have no stable order and are refused."""
    if not isinstance(value, list | tuple):
        _refused("must be a list (a JSON array)")
    if len(value) > MAX_ITEMS:
        _refused(f"must have at most {MAX_ITEMS} items")
    return value


Text = Annotated[str, StringConstraints(strict=True, max_length=MAX_BODY_BYTES, pattern=LINE_TEXT)]
"""Free text; may be empty."""

FilledText = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_BODY_BYTES, pattern=NOT_BLANK)]
"""Text with something in it: identifiers, and whatever RD Station requires."""

Email = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, max_length=254, pattern=EMAIL),
    AfterValidator(_local_part),
    Field(description="Identifies the lead. Blanks around it are removed; upper case is kept."),
]
"""The lead's address, at most 254 characters; required in every type (rdstation-api.md §3.1)."""

Url = Annotated[str, StringConstraints(strict=True, max_length=MAX_BODY_BYTES, pattern=URL)]
Phone = Annotated[str, StringConstraints(strict=True, pattern=E164)]
Moment = Annotated[str, StringConstraints(strict=True, max_length=64, pattern=RFC3339), AfterValidator(_moment)]
Seconds = Annotated[str, StringConstraints(strict=True, pattern=SECONDS)]
Flag = Annotated[bool, Field(strict=True)]

Count = Annotated[int, Field(strict=True, ge=0, le=MAX_NUMBER), BeforeValidator(_whole)]
"""A whole number from 0; 5.0 is taken as 5, true is refused."""

PositiveCount = Annotated[int, Field(strict=True, ge=1, le=MAX_NUMBER), BeforeValidator(_whole)]

LegacyCount = Annotated[
    int,
    Field(strict=True, ge=0, le=MAX_NUMBER),
    BeforeValidator(_whole_or_digits, json_schema_input_type=int | Annotated[str, StringConstraints(pattern=DIGITS)]),
]
"""As `Count`, and "5" is taken as 5: RD Station's own sample sends text here (rdstation-api.md §3.1)."""

Amount = Annotated[
    int | float | Decimal,
    PlainValidator(_amount),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_NUMBER}),
]
"""Money in the major unit, as a JSON number; a `Decimal` becomes the nearest one."""

Currency = Literal["ARS", "BRL", "CAD", "CLP", "COP", "EUR", "MXN", "PEN", "USD", "UYU"]
"""What RD Station's own n8n node offers (rdstation-api.md §3.5)."""

Tag = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=MAX_BODY_BYTES, pattern=NOT_BLANK),
    AfterValidator(_lower_case),
]
Tags = Annotated[Sequence[Tag], BeforeValidator(listed), AfterValidator(tuple)]
PaymentMethods = Annotated[Sequence[FilledText], Field(max_length=5), BeforeValidator(listed), AfterValidator(tuple)]
Categories = Annotated[Sequence[Text], Field(max_length=10), BeforeValidator(listed), AfterValidator(tuple)]


def _custom(value: Any) -> str | int | bool | tuple[str, ...] | None:
    """A value of a custom field: RD Station knows STRING, INTEGER, BOOLEAN and STRING[] (rdstation-api.md §9)."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _sendable(value)
    whole = _whole(value)
    if isinstance(whole, int) and abs(whole) <= MAX_NUMBER:
        return whole
    if isinstance(value, list | tuple) and len(value) <= MAX_ITEMS and all(isinstance(item, str) for item in value):
        return tuple(map(_sendable, value))
    _refused("must be text, a whole number, true, false or a list of texts")


def _sendable(value: str) -> str:
    if "\x00" in value:
        _refused("must not hold NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        _refused("must be valid Unicode text; it holds a lone surrogate")
    return str(value)


CustomValue = Annotated[
    Any,
    PlainValidator(_custom),
    WithJsonSchema(
        {"anyOf": [{"type": kind} for kind in ("string", "integer", "boolean")]
         + [{"type": "array", "items": {"type": "string"}}]}
    ),
]  # fmt: skip

ATTACHED: Final = Field(exclude=True)
"""Marks a field that travels beside the payload and is never sent (`Event.attached`)."""
