"""Two hundred lines that are no envelopes: a table of named ones, and a generator that breaks good ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dispatcher import Sale

ENVELOPE: dict[str, Any] = {
    "event_type": "ORDER_PLACED",
    "event_family": "CDP",
    "payload": {
        "email": "ana@cliente.example",
        "name": "Ana",
        "cf_order_id": "1001",
        "cf_order_total_items": 5,
        "cf_order_status": "paid",
        "cf_order_payment_method": "Credit Card",
        "cf_order_payment_amount": 200.5,
    },
}
GOOD = json.dumps(ENVELOPE).encode()


def order(number: int) -> bytes:
    """A good line."""
    return json.dumps({**ENVELOPE, "payload": {**ENVELOPE["payload"], "cf_order_id": f"good-{number}"}}).encode()


def _with(field: str, literal: str) -> bytes:
    """The good line with one payload field set to this JSON text."""
    payload = {**ENVELOPE["payload"], field: "@@"}
    return json.dumps({**ENVELOPE, "payload": payload}).replace('"@@"', literal).encode()


NAMED: dict[str, tuple[bytes, str]] = {
    "text": (b"hello", "$"),
    "half an object": (GOOD[:-2], "$"),
    "two objects": (GOOD + b" " + GOOD, "$"),
    "single quotes": (GOOD.replace(b'"', b"'"), "$"),
    "trailing comma": (GOOD[:-1] + b",}", "$"),
    "comment": (b"// " + GOOD, "$"),
    "a number": (b"42", "$"),
    "null": (b"null", "$"),
    "an array": (b"[" + GOOD + b"]", "$"),
    "a string": (b'"ORDER_PLACED"', "$"),
    "an empty object": (b"{}", "$.event_type"),
    "latin-1": (json.dumps(ENVELOPE).replace("Ana", "Ação").encode("latin-1"), "$"),
    "utf-16": (json.dumps(ENVELOPE).encode("utf-16"), "$"),
    "utf-16 without a mark": (json.dumps(ENVELOPE).encode("utf-16-be"), "$"),
    "utf-32": (json.dumps(ENVELOPE).encode("utf-32-le"), "$"),
    "cut utf-8": (GOOD.replace(b"Ana", "Ana ção".encode()[:-2]), "$"),
    "overlong utf-8": (GOOD.replace(b"Ana", b"\xc0\x80"), "$"),
    "utf-8 surrogate": (GOOD.replace(b"Ana", b"\xed\xa0\x80"), "$"),
    "a raw NUL": (GOOD.replace(b"Ana", b"A\x00a"), "$"),
    "nothing but NULs": (b"\x00" * 64, "$"),
    "a raw control character": (GOOD.replace(b"Ana", b"A\x01a"), "$"),
    "an escaped NUL": (_with("name", '"A\\u0000a"'), "$.payload.name"),
    "a NUL in an identifier": (_with("cf_order_id", '"1\\u0000"'), "$.payload.cf_order_id"),
    "a lone high surrogate": (_with("name", '"\\ud800"'), "$.payload.name"),
    "a lone low surrogate": (_with("cf_order_status", '"\\udc00"'), "$.payload.cf_order_status"),
    "a surrogate in a name": (GOOD.replace(b'"name"', b'"\\ud800"'), '$.payload["\\ud800"]'),
    "a surrogate in the type": (GOOD.replace(b'"ORDER_PLACED"', b'"\\udfff"'), "$.event_type"),
    "NaN": (_with("cf_order_payment_amount", "NaN"), "$.payload.cf_order_payment_amount"),
    "Infinity": (_with("cf_order_payment_amount", "Infinity"), "$.payload.cf_order_payment_amount"),
    "-Infinity": (_with("cf_order_total_items", "-Infinity"), "$.payload.cf_order_total_items"),
    "a number beyond floats": (_with("cf_order_payment_amount", "1e999"), "$.payload.cf_order_payment_amount"),
    "a number of 5000 digits": (_with("cf_order_total_items", "9" * 5000), "$"),
    "NaN in a list": (_with("legal_bases", "[[1, NaN]]"), "$.payload.legal_bases[0][1]"),
    "a field twice": (GOOD.replace(b'"name"', b'"email": "b@c.example", "name"'), "$.payload.email"),
    "the type twice": (b'{"event_type": "SALE", ' + GOOD[1:], "$.event_type"),
    "arrays without end": (b"[" * 100_000, "$"),
    "objects without end": (b'{"a":' * 100_000, "$"),
    "arrays nested 5000 deep": (b"[" * 5000 + b"]" * 5000, "$"),
    "a payload nested 500 deep": (_with("name", "[" * 500 + "]" * 500), "$.payload.name"),
    "a body over RD Station's limit": (
        _with("name", json.dumps("a" * 150_000)).replace(b"paid", b"b" * 150_000),
        "$",
    ),
    "a line over one MiB": (_with("name", json.dumps("a" * 1_200_000)), "$"),
    "a line of garbage over one MiB": (b"x" * 3_000_000, "$"),
    "no type": (GOOD.replace(b'"event_type"', b'"type"'), "$.event_type"),
    "no family": (GOOD.replace(b'"event_family"', b'"family"'), "$.event_family"),
    "another family": (GOOD.replace(b'"CDP"', b'"CRM"'), "$.event_family"),
    "an unknown type": (GOOD.replace(b"ORDER_PLACED", b"ORDER_PLASED"), "$.event_type"),
    "a type in lower case": (GOOD.replace(b"ORDER_PLACED", b"order_placed"), "$.event_type"),
    "no payload": (b'{"event_type": "ORDER_PLACED", "event_family": "CDP"}', "$.payload"),
    "a field of another envelope": (b'{"key": "x", ' + GOOD[1:], "$.key"),
    "a field that is only attached": (_with("cart_id", '"c1"'), "$.payload.cart_id"),
    "a misspelt field": (GOOD.replace(b'"name"', b'"nmae"'), "$.payload.nmae"),
    "an address without @": (_with("email", '"ana"'), "$.payload.email"),
    "an identifier that is an address": (_with("cf_order_id", '"a@b.example"'), "$.payload.cf_order_id"),
    "a payment method of no list": (_with("cf_order_payment_method", '"Pix"'), "$.payload.cf_order_payment_method"),
    "a type that needs a key": (
        json.dumps({**ENVELOPE, "event_type": "SALE", "payload": dict(Sale.EXAMPLE)}).encode(),
        "key",
    ),
}
"""Name → the line, and a path that must be told for it."""

_WRONG = {
    "null": "null",
    "a boolean": "true",
    "a list": "[1, 2]",
    "an object": '{"a": 1}',
    "an empty text": '""',
    "a text of blanks": '"   "',
    "a huge number": "1" + "0" * 40,
    "a negative number": "-1",
}
_REQUIRED = [name for name in ENVELOPE["payload"] if name != "name"]


def malformed() -> Iterator[tuple[str, bytes, str]]:
    """Name, line and expected path of 200 lines at least, no two alike."""
    for name, (line, path) in NAMED.items():
        yield name, line, path
    for field in _REQUIRED:
        payload = {key: value for key, value in ENVELOPE["payload"].items() if key != field}
        yield f"no {field}", json.dumps({**ENVELOPE, "payload": payload}).encode(), f"$.payload.{field}"
        for kind, literal in _WRONG.items():
            if kind != "a huge number" or field == "cf_order_total_items":
                yield f"{kind} as {field}", _with(field, literal), f"$.payload.{field}"
    for field in ("event_type", "event_family", "payload"):
        for kind, literal in _WRONG.items():
            broken = json.dumps({**ENVELOPE, field: "@@"}).replace('"@@"', literal)
            if not (field == "payload" and kind == "an object"):
                yield f"{kind} as {field}", broken.encode(), f"$.{field}"
    for cut in range(7, len(GOOD) - 1, len(GOOD) // 75):
        yield f"cut after {cut} bytes", GOOD[:cut], "$"
