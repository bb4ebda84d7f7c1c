"""Issue 3, line 1: each rule of docs/event-types.md and the JSON Schemas has an example that fails, with its path.

Nothing is doubled. The rules are read from the schemas, so a rule that nobody keeps cannot be documented.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dispatcher.errors import InvalidEvent
from dispatcher.events import CATALOGUE, parse_event
from dispatcher.events.fields import E164, EMAIL, RFC3339, SECONDS, URL
from dispatcher.events.problems import LINE_TEXT, NOT_BLANK
from dispatcher.events.schema import json_schema

BROKEN_FORM = {
    LINE_TEXT: "\x00", NOT_BLANK: " \t", EMAIL: "ana at cliente.example", URL: "ftp://loja.example",
    E164: "48999990000", RFC3339: "2026-03-02", SECONDS: "95s",
}  # fmt: skip
OTHER_KIND = {"string": 7, "integer": "five", "number": "1,5", "boolean": "true", "array": "x", "object": "x"}
GOOD_PART: dict[str, dict[str, Any]] = {
    "LineItem": {"product_id": "P", "product_title": "T", "price": 1, "quantity": 1},
    "LegalBasis": {"category": "communications", "type": "consent", "status": "granted"},
}

Case = tuple[str, dict[str, Any], str]
"""What is broken, the payload, the path to be named."""


def cases(event_type: str) -> Iterator[Case]:
    """Every rule of a type, broken once, everything else being right."""
    schema = json_schema(event_type)
    example = dict(CATALOGUE[event_type].EXAMPLE)
    payload = schema["properties"]["payload"]
    yield from _missing(payload, example)
    for name, field in payload["properties"].items():
        for what, bad, below in _broken(field, schema["$defs"]):
            yield f"{name}: {what}", {**example, name: bad}, f".{name}{below}"
    yield "an unknown field", {**example, "undocumented": "x"}, ".undocumented"


def _missing(schema: dict[str, Any], good: dict[str, Any]) -> Iterator[Case]:
    for name in schema.get("required", ()):
        yield f"{name}: missing", {key: value for key, value in good.items() if key != name}, f".{name}"


def _broken(field: dict[str, Any], parts: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """What is wrong, the value, and the path below the field."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    if len(kinds) > 1:  # a number, or the same as text
        yield "of no kind", [], ""
        return
    (kind,) = kinds
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        yield "no object", "x", ""
        yield from ((f"{name}.{what}", bad, path) for what, bad, path in _part(parts[name], GOOD_PART[name], parts))
        return
    if "enum" in kind or "const" in kind:
        yield "no such word", "no such word", ""
        return
    yield f"no {kind['type']}", OTHER_KIND[kind["type"]], ""
    yield from _bounds(kind)
    if kind["type"] == "array":
        yield from _items(kind, parts)


def _bounds(kind: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if "pattern" in kind:
        yield "of another form", BROKEN_FORM[kind["pattern"]], ""
    if kind.get("minLength"):
        yield "empty", "", ""
    if kind.get("maxLength", 10**6) < 10_000:
        longer = "x" * (kind["maxLength"] + 1)
        yield "too long", f"a@{longer}.example" if kind.get("pattern") == EMAIL else longer, ""
    if "minimum" in kind:
        yield "too little", kind["minimum"] - 1, ""
    if "maximum" in kind:
        yield "too much", kind["maximum"] + 2, ""


def _items(kind: dict[str, Any], parts: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    items = kind["items"]
    good: Any = GOOD_PART.get(items.get("$ref", "").rpartition("/")[2], "x")
    if "maxItems" in kind:
        yield "too many", [good] * (kind["maxItems"] + 1), ""
    for what, bad, below in _broken(items, parts):
        yield what, [good, bad], f"[1]{below}"


def _part(schema: dict[str, Any], good: dict[str, Any], parts: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    yield from _missing(schema, good)
    for name, field in schema["properties"].items():
        for what, bad, below in _broken(field, parts):
            yield f"{name}: {what}", {**good, name: bad}, f".{name}{below}"
    yield "an unknown field", {**good, "undocumented": "x"}, ".undocumented"


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_each_documented_rule_of_a_type_is_kept_and_names_its_field(event_type: str) -> None:
    broken = list(cases(event_type))
    assert len(broken) > len(CATALOGUE[event_type].sent_fields)
    for what, payload, path in broken:
        with pytest.raises(InvalidEvent) as refused:
            parse_event({"event_type": event_type, "event_family": "CDP", "payload": payload})
        assert [problem.path for problem in refused.value.problems] == [f"$.payload{path}"], what


def test_the_rules_of_the_reference_are_among_them() -> None:
    """rdstation-api.md §3: 20 lines, 5 payment methods, 10 categories, sizes, currencies, legal bases."""
    order = {what for what, _, _ in cases("ECOMMERCE_ORDER_PLACED")}
    assert {
        "line_items: too many", "line_items: LineItem.categories: too many", "payment_methods: too many",
        "line_items: LineItem.product_id: too long", "line_items: LineItem.product_title: too long",
        "currency: no such word", "price: too little", "legal_bases: LegalBasis.category: no such word",
        "legal_bases: LegalBasis.type: no such word", "legal_bases: LegalBasis.status: no such word",
        "order_url: of another form", "phone: of another form", "email: of another form",
    } <= order  # fmt: skip
    assert {"conversion_identifier: too long", "tags: no array"} <= {what for what, _, _ in cases("CONVERSION")}
    assert "total_items: too little" in {what for what, _, _ in cases("ECOMMERCE_CART_ABANDONED")}
