"""Real: the token endpoint's client. Doubled: the transport, which answers as told."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.clock import SystemClock
from dispatcher.policy.outcome import Stage, TransportFailure
from dispatcher.rdstation.oauth import AccountInfo, App, Granted, OAuthApi, RefreshAnswer, Refused, Unavailable
from dispatcher.rdstation.transport import Reply, Request

APP = App(SecretStr("canary-id"), SecretStr("canary-secret"))
REFRESH = SecretStr("canary-refresh")


class Answering:
    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.sent: list[Request] = []

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        assert seconds is None
        self.sent.append(request)
        return self.reply

    def close(self) -> None: ...


def answered(status: int, document: object) -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Reply(Stage.ANSWERED, status=status, body=body)


def refreshed(reply: Reply) -> RefreshAnswer:
    answer = OAuthApi(Answering(reply), clock=SystemClock()).refresh(APP, REFRESH)
    assert "canary" not in repr(answer)
    return answer


def test_the_request_is_json_without_an_authorization() -> None:
    transport = Answering(answered(200, {"access_token": "a"}))
    OAuthApi(transport, clock=SystemClock()).refresh(APP, REFRESH)
    (request,) = transport.sent
    assert (request.method, request.path, request.bearer) == ("POST", "/auth/token", None)
    assert json.loads(request.body or b"") == {
        "client_id": "canary-id",
        "client_secret": "canary-secret",
        "refresh_token": "canary-refresh",
    }
    assert "canary" not in repr(request)


def test_a_code_is_exchanged_as_documented_and_shows_nowhere() -> None:
    transport = Answering(answered(200, {"access_token": "canary-a", "expires_in": 86400, "refresh_token": "canary-r"}))
    answer = OAuthApi(transport, clock=SystemClock()).exchange(APP, SecretStr("canary-code"))
    assert answer == Granted(SecretStr("canary-a"), SecretStr("canary-r"), 86400.0)
    (request,) = transport.sent
    assert (request.method, request.path, request.bearer) == ("POST", "/auth/token?token_by=code", None)
    assert json.loads(request.body or b"") == {
        "client_id": "canary-id",
        "client_secret": "canary-secret",
        "code": "canary-code",
    }
    assert "canary" not in repr((request, answer))


def test_a_spent_code_is_refused_with_its_word_and_not_repeated_in_any_text() -> None:
    error = {"error_type": "EXPIRED_CODE_GRANT", "error_message": "canary-code has expired"}
    transport = Answering(answered(401, {"errors": error}))
    answer = OAuthApi(transport, clock=SystemClock()).exchange(APP, SecretStr("canary-code"))
    assert isinstance(answer, Refused)
    assert answer.error_type == "EXPIRED_CODE_GRANT"
    assert "canary" not in repr(answer)


def test_a_grant_is_read_with_and_without_a_refresh_token() -> None:
    full = {"access_token": "canary-a", "expires_in": 86400, "refresh_token": "canary-r"}
    assert refreshed(answered(200, full)) == Granted(SecretStr("canary-a"), SecretStr("canary-r"), 86400.0)
    assert refreshed(answered(201, {"access_token": "canary-a"})) == Granted(SecretStr("canary-a"), None, None)


@pytest.mark.parametrize(
    "value", [None, True, "86400", 0, -1, math.nan, math.inf, 10**300, pytest.param(10**400, id="beyond floats"), []]
)
def test_a_senseless_lifetime_is_unknown(value: object) -> None:
    answer = refreshed(answered(200, {"access_token": "canary-a", "expires_in": value}))
    assert answer == Granted(SecretStr("canary-a"), None, None)


_VALUES = st.none() | st.booleans() | st.integers() | st.integers(10**290, 10**420) | st.floats() | st.text()
_ANY = st.recursive(_VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)


@given(
    st.fixed_dictionaries(
        {"access_token": st.just("canary-a") | _ANY}, optional=dict.fromkeys(["refresh_token", "expires_in"], _ANY)
    ),
    st.sampled_from([200, 201, 204, 400, 401, 429, 500]),
)
def test_any_answer_is_a_grant_a_refusal_or_none_and_never_an_error(document: dict[str, object], status: int) -> None:
    """An error here would lose a token that RD Station has just rotated."""
    match refreshed(answered(status, document)):
        case Granted(access, _, lifetime):
            assert access.get_secret_value() == document["access_token"]
            assert lifetime is None or 0 < lifetime < math.inf
        case Refused() | Unavailable() as other:
            assert other.outcome.status == status


@pytest.mark.parametrize("value", [None, "", 7, "a b", "a\n", "é", "x" * 9_000, ["a"]])
def test_a_success_without_a_usable_token_is_no_grant_and_nothing_of_it_is_kept(value: object) -> None:
    answer = refreshed(answered(200, {"access_token": value, "refresh_token": "canary-r"}))
    assert isinstance(answer, Unavailable)
    assert answer.outcome.excerpt is None


@pytest.mark.parametrize("wrap", [lambda e: {"errors": e}, lambda e: {"errors": [e]}, lambda e: e, lambda e: [e]])
@pytest.mark.parametrize("word", ["INVALID_REFRESH_TOKEN", "ACCESS_DENIED"])
def test_a_refusal_is_told_by_its_word_in_every_wrapping(wrap, word: str) -> None:  # type: ignore[no-untyped-def]  # lambdas
    answer = refreshed(answered(401, wrap({"error_type": word, "error_message": "canary-refresh was revoked"})))
    assert isinstance(answer, Refused)
    assert answer.error_type == word


def test_a_missing_field_and_a_bare_401_are_refusals() -> None:
    missing = [{"error_type": "CANNOT_BE_NULL", "error_message": "Cannot be null.", "path": "body.client_secret"}]
    for reply, word in ((answered(400, missing), "CANNOT_BE_NULL"), (answered(401, b""), "UNKNOWN")):
        answer = refreshed(reply)
        assert isinstance(answer, Refused)
        assert answer.error_type == word


@pytest.mark.parametrize(
    "reply",
    [
        answered(200, b"<html>"), answered(302, b""), answered(404, b""), answered(429, {"message": "x"}),
        answered(500, b"canary-secret"), Reply(Stage.WRITTEN, failure=TransportFailure.RESET, detail="canary-secret"),
    ],
)  # fmt: skip
def test_everything_else_says_nothing_about_the_credentials(reply: Reply) -> None:
    assert isinstance(refreshed(reply), Unavailable)


def test_account_info_checks_a_token() -> None:
    transport = Answering(answered(200, {"name": "www.loja.example"}))
    token = SecretStr("canary-access")
    assert OAuthApi(transport, clock=SystemClock()).account_info(token) == AccountInfo("www.loja.example")
    (request,) = transport.sent
    assert (request.method, request.path, request.body, request.bearer) == (
        "GET",
        "/marketing/account_info",
        None,
        token,
    )
    for reply, kind in (
        (answered(200, b"<html>"), AccountInfo),
        (answered(401, {"errors": {"error_type": "UNAUTHORIZED", "error_message": "canary-access"}}), Refused),
        (answered(503, b"canary-access"), Unavailable),
    ):
        answer = OAuthApi(Answering(reply), clock=SystemClock()).account_info(token)
        assert isinstance(answer, kind)
        assert "canary" not in repr(answer)
