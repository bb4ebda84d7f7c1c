"""What is kept of envelopes that no event can be made of, with the real `salvage`. Nothing is doubled."""

from __future__ import annotations

import hashlib
import json
import math
from decimal import Decimal
from typing import Any

import pytest

from dispatcher.events import LegalBasis
from dispatcher.events.salvage import MAX_DEPTH, MAX_TEXT_BYTES, salvage

BROKEN: dict[str, Any] = {"event_type": "ORDER_PLACED", "payload": {"email": " Ana@Cliente.example ", "cf_order_id": 5}}


class Hostile:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("looked at")


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("looked at")


def cycle() -> list[Any]:
    ring: list[Any] = []
    ring += [ring, ring, {"ring": ring}]
    return ring


def test_a_broken_envelope_keeps_its_content_type_and_lead() -> None:
    kept = salvage(BROKEN)
    assert json.loads(kept.text) == BROKEN
    assert kept.event_type == "ORDER_PLACED"
    assert kept.email == "Ana@Cliente.example"
    assert kept.key == f"INVALID:{hashlib.sha256(kept.text.encode()).hexdigest()}"
    assert not kept.truncated


@pytest.mark.parametrize("event_type", ["order_placed", "", "A" * 65, "ORDER PLACED", "ORDER_PLACED\n", 5, None, []])
def test_a_type_without_the_form_of_one_is_filed_as_invalid(event_type: object) -> None:
    assert salvage({**BROKEN, "event_type": event_type}).event_type == "INVALID"


@pytest.mark.parametrize("email", [None, 5, "", "x", "a@b.co\x00", "\ud800@b.co", "a" * 10**6 + "@b.co", ["a@b.co"]])
def test_an_implausible_address_is_no_lead(email: object) -> None:
    assert salvage({"payload": {"email": email}}).email is None


def test_what_json_does_not_know_is_kept_as_text() -> None:
    odd = {
        "nul": "\x00",
        "surrogate": "\ud800",
        "nan": math.nan,
        "infinity": -math.inf,
        "bytes": b"\xffa",
        "decimal": Decimal("1.50"),
        "set": {"b", "a"},
        "part": LegalBasis(category="communications", type="consent", status="granted"),
        "huge": 2**64,
        "object": object(),
        b"key": 1,
    }
    kept = salvage(odd)
    assert kept.text.isascii()
    assert json.loads(kept.text) == {
        "nul": "\x00",
        "surrogate": "\ud800",
        "nan": "nan",
        "infinity": "-inf",
        "bytes": "\\xffa",
        "decimal": "1.50",
        "set": ["a", "b"],
        "part": {"category": "communications", "type": "consent", "status": "granted"},
        "huge": "0x10000000000000000",
        "object": "<object>",
        "<bytes> key": 1,
    }
    assert not kept.truncated


@pytest.mark.parametrize(
    "huge",
    [
        "x" * 10**6,
        ["é" * 9] * 10**5,
        {str(n): n for n in range(10**5)},
        [[] for _ in range(10**6)],
        "\U0001f600" * 10**5,
        cycle(),
    ],
    ids=["text", "list", "dict", "empty lists", "emoji", "cycle"],
)
def test_the_text_is_capped_and_says_where_it_was_cut(huge: object) -> None:
    kept = salvage({"event_type": "SALE", "payload": huge})
    assert kept.truncated
    assert "[cut" in kept.text
    assert MAX_TEXT_BYTES // 2 < len(kept.text) <= MAX_TEXT_BYTES
    assert json.loads(kept.text)["event_type"] == kept.event_type == "SALE"


def test_deep_nesting_is_cut_at_a_depth() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    kept = salvage(deep)
    assert kept.text == "[" * MAX_DEPTH + '"[cut: deeper levels]"' + "]" * MAX_DEPTH
    assert kept.truncated


def test_two_long_texts_with_the_same_start_keep_different_keys() -> None:
    assert salvage("x" * 10**6 + "a").key != salvage("x" * 10**6 + "b").key
    assert salvage("x" * 10**6).key == salvage("x" * 10**6).key


@pytest.mark.parametrize(
    "hostile", [[Hostile()], {"payload": Hostile()}, HostileDict(a=1), [HostileDict(a=1)]], ids=range(4)
)
def test_an_object_that_raises_when_looked_at_is_filed_all_the_same(hostile: object) -> None:
    kept = salvage(hostile)
    assert kept.event_type == "INVALID"
    assert isinstance(json.loads(kept.text), str)
