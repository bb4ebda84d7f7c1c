"""Pure: what is removed from texts before they are stored."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.rdstation.redaction import EXCERPT_CHARS, SENTENCE_CHARS, Redactor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "canary"),
    [
        ("limit exceeded for key 'ana.canary@cliente.example'", "canary"),
        ("GET /x?email=ana.canary%40cliente.example&a=1", "canary"),
        ("GET /x?email=ana.canary%2540cliente.example", "canary"),
        ("mail ana.canary+tag@localhost now", "canary"),
        ('{"email":"jos\\u00e9.canary@cliente.example"}', "canary"),
        ('{"email":"ana.canary\\u0040cliente.example"}', "canary"),
        ("<td>ana.canary&#64;cliente.example</td>", "canary"),
        ("joão.canary@clínica.example", "canary"),
        ('"ana.canary"@cliente.example', "canary"),
        ("ana.canary\uff20cliente.example", "canary"),
        ("Authorization: Bearer canary-opaque-123", "canary"),
        ("authorization%3A%20Bearer%20canary123", "canary"),
        (f"token was {JWT} yes", "c2lnbmF0"),
        ("POST /platform/conversions?api_key=canary0123", "canary"),
        ('{"refresh_token":"canary/0123","x":1}', "canary"),
        ('{\\"client_secret\\": \\"canary0123\\"}', "canary"),
        ("call +55 (11) 98765-4321 now", "4321"),
        ("phone 11987654321", "4321"),
        ("tel=%2B5511987654321", "4321"),
    ],
)
def test_what_looks_private_is_removed(text: str, canary: str) -> None:
    assert canary not in Redactor().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "Must be one of the valid options.", "$.payload.email", "body.client_secret",
        "rate limit exceeded for 86400 second(s) period", '{"max":24,"usage":25,"remaining_time":43067}',
        "3f0c6f0e-6f0b-4a3f-9a55-6d1c1f1f7c11", "Invalid token.", "[Errno 111] Connection refused", "2026-03-02",
    ],
)  # fmt: skip
def test_what_an_operator_needs_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("value", ["ana.canary@cliente.example", "JOÃO@Clínica.example", 'odd "quoted"@x', "tok/en+=="])
def test_named_values_are_removed_in_every_spelling(value: str) -> None:
    redactor = Redactor([value])
    for form in (value, value.lower(), value.upper(), quote(value), quote(value, safe=""), json.dumps(value)):
        cleaned = redactor.text(f"before {form} after")
        assert value.lower() not in cleaned.lower()
        assert "[private]" in cleaned
        assert cleaned.startswith("before ")
        assert cleaned.endswith(" after")


def test_values_too_short_to_be_secret_do_not_blot_out_the_text() -> None:
    assert Redactor(["", "a", " \x00"]).text("a plain sentence") == "a plain sentence"


def test_texts_are_capped_and_never_cut_a_private_value_into_view() -> None:
    filler = "word " * 3_000
    assert len(Redactor().text(filler)) == SENTENCE_CHARS
    for length in range(8_150, 8_200):
        text = "x" * length + " ana.canary@cliente.example"
        assert "ana" not in Redactor().text(text, cap=20_000)


def test_what_a_database_cannot_store_is_replaced() -> None:
    cleaned = Redactor().text("a\x00b\ud800c\x1b[31m")
    assert cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert "\x1b" not in cleaned


def test_an_excerpt_of_nothing_is_none() -> None:
    assert Redactor().excerpt(b"") is None
    assert Redactor().excerpt(b" \r\n") is None
    assert Redactor().excerpt(b"<html>\xff</html>") == "<html>\N{REPLACEMENT CHARACTER}</html>"


@given(st.text(max_size=300), st.lists(st.text(max_size=30), max_size=3))
def test_any_text_comes_out_storable_and_capped(text: str, private: list[str]) -> None:
    cleaned = Redactor(private).text(text, cap=100)
    assert len(cleaned) <= 100
    cleaned.encode("utf-8")


@given(st.binary(max_size=3_000))
def test_any_body_gives_an_excerpt_or_none(body: bytes) -> None:
    excerpt = Redactor().excerpt(body)
    assert excerpt is None or 0 < len(excerpt) <= EXCERPT_CHARS


@given(st.from_regex(r"[a-z]{3}[a-z0-9._+-]{0,20}@[a-z]{2,20}\.[a-z]{2,5}", fullmatch=True), st.text(max_size=40))
def test_any_plain_address_is_removed_wherever_it_stands(address: str, around: str) -> None:
    text = f"{around} {address} {around}"
    assert address not in Redactor().text(text)
