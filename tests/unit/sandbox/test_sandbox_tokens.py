"""Tokens, codes and credential errors of rdstation-api.md §5, over real HTTP; time is advanced, never waited for."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Sandbox
from tests.unit.sandbox.shop import Shop, order

CREDENTIALS = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


def error_type(answer: requests.Response) -> str:
    errors: Any = answer.json()["errors"]
    return str(errors["error_type"])


def test_a_refresh_answers_a_fresh_access_token_for_a_day(shop: Shop) -> None:
    answer = shop.refresh()
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "expires_in", "refresh_token"}
    assert answer.json()["expires_in"] == 86_400
    assert answer.json()["refresh_token"] == REFRESH_TOKEN
    assert shop.info(answer.json()["access_token"]).json() == {"name": "default.sandbox.example"}


def test_a_refresh_may_come_as_a_form(shop: Shop) -> None:
    form = {**CREDENTIALS, "refresh_token": REFRESH_TOKEN, "grant_type": "refresh_token"}
    answer = shop.session.post(f"{shop.sandbox.url}/auth/token", data=form, timeout=5)
    assert answer.status_code == 200


def test_a_code_works_once_and_for_an_hour(shop: Shop) -> None:
    code = shop.sandbox.issue_code()
    first = shop.post("/auth/token?token_by=code", {**CREDENTIALS, "code": code}, token=None)
    again = shop.post("/auth/token", {**CREDENTIALS, "code": code}, token=None)
    late = shop.sandbox.issue_code()
    shop.sandbox.advance(3_600)
    too_late = shop.post("/auth/token", {**CREDENTIALS, "code": late}, token=None)
    assert first.status_code == 200
    assert [again.status_code, error_type(again)] == [401, "EXPIRED_CODE_GRANT"]
    assert [too_late.status_code, error_type(too_late)] == [401, "EXPIRED_CODE_GRANT"]


def test_the_dialog_sends_the_browser_back_with_a_code_and_the_state(shop: Shop) -> None:
    asked = {"client_id": CLIENT_ID, "redirect_uri": "http://127.0.0.1:9/back?x=1", "state": "s p"}
    answer = shop.session.get(f"{shop.sandbox.url}/auth/dialog", params=asked, allow_redirects=False, timeout=5)
    back = answer.headers["Location"]
    assert answer.status_code == 302
    assert back.startswith("http://127.0.0.1:9/back?x=1&code=sandbox-code-")
    assert back.endswith("&state=s+p")
    code = back.partition("code=")[2].partition("&")[0]
    assert shop.post("/auth/token", {**CREDENTIALS, "code": code}, token=None).status_code == 200


def test_a_redirect_address_cannot_smuggle_a_header(shop: Shop) -> None:
    asked = {"client_id": CLIENT_ID, "redirect_uri": "http://x.example/\r\nSet-Cookie: a=b"}
    answer = shop.session.get(f"{shop.sandbox.url}/auth/dialog", params=asked, allow_redirects=False, timeout=5)
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("missing", ["client_id", "client_secret", "refresh_token"])
def test_a_missing_field_is_named_in_a_bare_array(shop: Shop, missing: str) -> None:
    body = {**CREDENTIALS, "refresh_token": REFRESH_TOKEN}
    del body[missing]
    answer = shop.post("/auth/token", body, token=None)
    assert answer.status_code == 400
    assert answer.json() == [
        {"error_type": "CANNOT_BE_NULL", "error_message": "Cannot be null.", "path": f"body.{missing}"}
    ]


def test_wrong_credentials_are_denied_in_each_of_three_wrappings(shop: Shop) -> None:
    expected = {"error_type": "ACCESS_DENIED", "error_message": "Wrong credentials provided."}
    for shape, body in {"object": {"errors": expected}, "array": {"errors": [expected]}, "bare": expected}.items():
        shop.sandbox.switch(auth_errors=shape)
        answer = shop.refresh(client_secret="wrong")
        assert (answer.status_code, answer.json()) == (401, body)


def test_an_access_token_expires_after_a_day_and_says_so_in_the_header(shop: Shop) -> None:
    shop.sandbox.advance(86_399)
    assert shop.info().status_code == 200
    shop.sandbox.advance(1)
    answer = shop.info()
    assert (answer.status_code, answer.json()["errors"]["error_message"]) == (401, "Invalid token.")
    assert 'error="expired_token"' in answer.headers["WWW-Authenticate"]
    shop.sandbox.switch(expired_header="x-amzn-remapped-www-authenticate")
    assert "WWW-Authenticate" not in shop.info().headers
    assert 'error="expired_token"' in shop.info().headers["x-amzn-remapped-www-authenticate"]
    assert shop.info(shop.refresh().json()["access_token"]).status_code == 200


def test_an_unknown_token_is_refused_without_that_header_and_a_missing_one_by_the_gateway(shop: Shop) -> None:
    unknown, missing = shop.info("made-up"), shop.send(order(), token=None)
    assert (unknown.status_code, error_type(unknown)) == (401, "UNAUTHORIZED")
    assert "WWW-Authenticate" not in unknown.headers
    assert (missing.status_code, missing.json()["error"]) == (401, "invalid_request")


def test_revoking_either_token_ends_both_until_they_are_restored(shop: Shop) -> None:
    form = {"token": ACCESS_TOKEN, "token_type_hint": "access_token"}
    revoked = shop.session.post(f"{shop.sandbox.url}/auth/revoke", data=form, timeout=5)
    assert (revoked.status_code, revoked.json()) == (200, {})
    assert shop.info().status_code == 401
    assert (shop.refresh().status_code, error_type(shop.refresh())) == (401, "INVALID_REFRESH_TOKEN")
    shop.sandbox.restore_tokens()
    assert (shop.info().status_code, shop.refresh().status_code) == (200, 200)


def test_rotation_ends_the_old_refresh_token_at_once(shop: Shop) -> None:
    shop.sandbox.switch(rotation="rotated")
    second = shop.refresh().json()["refresh_token"]
    assert second != REFRESH_TOKEN
    assert shop.refresh().status_code == 401
    assert shop.refresh(second).status_code == 200


def test_rotation_with_grace_keeps_the_old_refresh_token_until_the_new_pair_is_used(shop: Shop) -> None:
    shop.sandbox.switch(rotation="rotated_with_grace")
    shop.refresh()
    kept = shop.refresh()
    assert kept.status_code == 200
    shop.info(kept.json()["access_token"])
    assert shop.refresh().status_code == 401
    assert shop.refresh(kept.json()["refresh_token"]).status_code == 200


def test_a_refresh_token_of_an_unknown_account_opens_that_account(shop: Shop) -> None:
    token = shop.refresh("sandbox-refresh-loja2").json()["access_token"]
    shop.send(order("1"), token)
    shop.send(order("2"))
    assert [one.account for one in shop.sandbox.arrivals("ORDER_PLACED")] == ["loja2", "default"]


def test_neither_tokens_nor_secrets_are_recorded(shop: Shop) -> None:
    fresh = shop.refresh().json()["access_token"]
    shop.send(order(), fresh)
    seen = repr(shop.sandbox.arrivals())
    assert [one.token for one in shop.sandbox.arrivals("ORDER_PLACED")] == ["default-1"]
    for secret in (fresh, REFRESH_TOKEN, CLIENT_SECRET):
        assert secret not in seen


def test_accounts_have_the_credentials_they_are_given() -> None:
    accounts: Any = {"a": {"access_token": "one", "name": "www.a.example"}, "b": {"access_token": "two"}}
    with Sandbox(accounts=accounts) as sandbox:
        shop = Shop(sandbox)
        assert shop.info("one").json() == {"name": "www.a.example"}
        assert shop.info("two").json() == {"name": "b.sandbox.example"}
        assert shop.info(ACCESS_TOKEN).status_code == 401
        shop.session.close()
