"""Pure: RD Station's error bodies, as its documentation and its clients show them, and broken versions of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.outcome import ProviderError
from dispatcher.rdstation.error_bodies import parse_json, provider_errors
from dispatcher.rdstation.redaction import Redactor

E = ProviderError
BLANK = {"error_type": "CANNOT_BE_BLANK", "error_message": "cannot be blank"}
LONG = {"error_type": "TOO_LONG", "error_message": "is too long"}
LEAD_LIMIT = {
    "error": "'lead_limiter' rate limit exceeded for 86400 second(s) period for key 'canary@cliente.example'",
    "max": 24,
    "usage": 25,
    "remaining_time": 43067,
}
SHAPES: list[tuple[int, object, list[ProviderError]]] = [
    (
        401,
        {"errors": {"error_type": "UNAUTHORIZED", "error_message": "Invalid token."}},
        [E("UNAUTHORIZED", "Invalid token.")],
    ),
    (
        400,
        {"errors": [{**BLANK, "path": "$.payload.tags", "validation_rules": {"data_type": "SET"}}, LONG]},
        [E("CANNOT_BE_BLANK", "cannot be blank", "$.payload.tags"), E("TOO_LONG", "is too long")],
    ),
    (
        422,
        {"errors": {"name": [BLANK, LONG]}},
        [E("CANNOT_BE_BLANK", "cannot be blank", "body.name"), E("TOO_LONG", "is too long", "body.name")],
    ),
    (422, {"errors": {"label": {"pt-BR": [BLANK]}}}, [E("CANNOT_BE_BLANK", "cannot be blank", "body.label.pt-BR")]),
    (
        422,
        {"errors": {"name": [LONG], "label": {"pt-BR": [BLANK], "en": [LONG]}}},
        [
            E("TOO_LONG", "is too long", "body.name"),
            E("CANNOT_BE_BLANK", "cannot be blank", "body.label.pt-BR"),
            E("TOO_LONG", "is too long", "body.label.en"),
        ],
    ),
    (
        400,
        [{"error_type": "INVALID_OPTION", "error_message": "Must be.", "path": "$.event_type"}],
        [E("INVALID_OPTION", "Must be.", "$.event_type")],
    ),
    (401, {"error_type": "INVALID_REFRESH_TOKEN", "error_message": "revoked"}, [E("INVALID_REFRESH_TOKEN", "revoked")]),
    (
        429,
        LEAD_LIMIT,
        [E("TOO_MANY_REQUESTS", "'lead_limiter' rate limit exceeded for 86400 second(s) period for key '[email]'")],
    ),
    (429, {"message": "API rate limit exceeded"}, [E("TOO_MANY_REQUESTS", "API rate limit exceeded")]),
    (
        429,
        {"errors": {"error_type": "RATE_LIMIT_EXCEDDED", "error_message": "over"}},
        [E("RATE_LIMIT_EXCEDDED", "over")],
    ),
    (401, {"error": "invalid_token", "error_description": "expired"}, [E("invalid_token", "expired")]),
    (400, {"errors": ["text"]}, [E("UNKNOWN", "text")]),
    (403, {"error": "forbidden"}, [E("forbidden", "forbidden")]),
    (404, {"message": "no Route matched"}, [E("UNKNOWN", "no Route matched")]),
    (500, {"errors": {}}, []),
    (500, {}, []),
    (500, None, []),
    (500, "text", []),
    (500, 7, []),
]


def parsed(body: bytes, status: int | None = 400) -> tuple[ProviderError, ...]:
    return provider_errors(parse_json(body), status, Redactor())


@pytest.mark.parametrize(("status", "document", "errors"), SHAPES)
def test_every_shape_has_one_form(status: int, document: object, errors: list[ProviderError]) -> None:
    assert list(parsed(json.dumps(document).encode(), status)) == errors


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html><h1>502 Bad Gateway</h1></html>", b"{", b"\xff\xfe", b"[" * 60_000, b'{"errors":' * 10_000,
        b"1" * 5_000, b"NaN", b'{"errors":{"a":{"b":{"c":{"d":[{"error_type":"X"}]}}}}}',
    ],
)  # fmt: skip
def test_what_is_no_error_body_names_no_errors(body: bytes) -> None:
    assert parsed(body) == ()


def test_a_sentence_or_an_address_in_place_of_the_word_is_not_passed_on_as_one() -> None:
    for word in ("canary@cliente.example", "two words", "X" * 65, "", 7, None):
        (error,) = parsed(json.dumps({"errors": {"x": [{"error_type": word, "error_message": "m"}]}}).encode())
        assert error == E("UNKNOWN", "m", "body.x")


def test_what_the_provider_echoes_is_redacted_and_storable_everywhere() -> None:
    address = "canary@cliente.example"
    document = {
        "errors": {address: [{"error_type": "X", "error_message": f"{address} \ud800\x00", "path": f"$.{address}"}]}
    }
    (error,) = parsed(json.dumps(document).encode())
    assert "canary" not in str(error.as_dict())
    json.dumps(error.as_dict(), ensure_ascii=False).encode("utf-8")


def test_many_errors_are_capped_and_repeated_ones_named_once() -> None:
    many = [{"error_type": "X", "error_message": str(number)} for number in range(500)]
    assert len(parsed(json.dumps(many).encode())) == 20
    assert len(parsed(json.dumps([BLANK, BLANK]).encode())) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["errors", "error", "message", "error_type", "error_message", "path", "remaining_time", "é", ""]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(JSON, st.integers(100, 599) | st.none())
def test_any_document_is_survived(document: object, status: int | None) -> None:
    for error in provider_errors(document, status, Redactor()):
        assert error.error_type
        assert len(error.message) <= 300


@given(st.sampled_from([document for _, document, _ in SHAPES]), st.data())
def test_any_damage_to_a_known_body_is_survived(document: object, data: st.DataObject) -> None:
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(body)))
        body[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    parsed(bytes(body), 429)
