"""Credentials are tried at RD Station: by `account add` before they are stored, and by `check` afterwards.

Real: the command line, SQLite, HTTP. Doubled: RD Station, by the sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.vault import Vault
from dispatcher.policy.tokens import Tokens
from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, Fault, FaultKind, Sandbox
from tests.unit.admin.conftest import Command

INFO = "/marketing/account_info"
GOOD, BAD = f"{REFRESH_TOKEN}\n".encode(), b"refresh-hunter2\n"


@pytest.fixture
def sandbox(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(accounts={"default": {"name": "www.loja.example"}}) as sandbox:
        for name, value in {
            "RD_BASE_URL": sandbox.url,
            "RD_CLIENT_ID": CLIENT_ID,
            "RD_CLIENT_SECRET": CLIENT_SECRET,
        }.items():
            monkeypatch.setenv(f"DISPATCHER_{name}", value)
        yield sandbox


def stored(engine: sa.Engine, place: Path) -> Tokens | None:
    return CredentialStore(engine, Vault.of([], place / "dispatcher.db")).load("default")


def checked(dispatcher: Command) -> dict[str, dict[str, Any]]:
    found: list[dict[str, Any]] = dispatcher("check", "--json").json
    assert "hunter2" not in str(found)
    assert "sandbox-refresh" not in str(found)
    return {finding["code"]: finding for finding in found}


@pytest.mark.parametrize("rotation", ["fixed", "rotated"])
def test_add_buys_an_access_token_with_the_refresh_token_and_says_whose_it_is(
    migrated: Command, sandbox: Sandbox, engine: sa.Engine, place: Path, rotation: str
) -> None:
    sandbox.switch(rotation=rotation)

    ran = migrated("account", "add", "default", stdin=GOOD)

    assert (ran.code, "RD Station's account is: www.loja.example" in ran.err) == (0, True)
    tokens = stored(engine, place)
    assert tokens is not None
    assert tokens.access is not None
    assert tokens.refresh is not None
    assert (tokens.refresh.get_secret_value() == REFRESH_TOKEN) == (rotation == "fixed"), "what was returned is kept"
    assert checked(migrated)["credentials.accepted"]["message"].endswith("'www.loja.example'")
    assert sandbox.count("/auth/token") == 1, "the check uses what is stored"


@pytest.mark.parametrize(
    ("given", "option", "names"),
    [(BAD, None, "INVALID_REFRESH_TOKEN"), (b"access-hunter2\n", "--access-token", "UNAUTHORIZED")],
)
def test_add_stores_nothing_that_rd_station_refuses(
    migrated: Command, sandbox: Sandbox, engine: sa.Engine, place: Path, given: bytes, option: str | None, names: str
) -> None:
    ran = migrated("account", "add", "default", *filter(None, [option]), stdin=given)

    assert (ran.code, names in ran.err, "nothing was stored" in ran.err, "hunter2" in ran.err) == (1, True, True, False)
    assert stored(engine, place) is None
    assert sandbox.arrivals()


def test_a_wrong_app_is_told_from_a_wrong_token(
    migrated: Command, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHER_RD_CLIENT_SECRET", "another")
    assert "DISPATCHER_RD_CLIENT_SECRET are not those" in migrated("account", "add", "default", stdin=GOOD).err
    assert sandbox.count("/auth/token", 401) == 1


def test_add_without_an_answer_stores_untried_and_says_so(
    migrated: Command, sandbox: Sandbox, engine: sa.Engine, place: Path
) -> None:
    sandbox.break_with(FaultKind.HTML, path="/auth/token")

    ran = migrated("account", "add", "default", stdin=GOOD)

    assert (ran.code, "it was not tried" in ran.err) == (0, True)
    tokens = stored(engine, place)
    assert tokens is not None
    assert tokens.refresh is not None
    assert tokens.refresh.get_secret_value() == REFRESH_TOKEN


def test_an_access_token_that_works_is_named_and_checked(migrated: Command, sandbox: Sandbox) -> None:
    ran = migrated("account", "add", "default", "--access-token", stdin=f"{ACCESS_TOKEN}\n".encode())
    assert "RD Station's account is: www.loja.example" in ran.err
    assert checked(migrated)["credentials.accepted"]["level"] == "ok"
    assert sandbox.count(INFO, 200, "GET") == 2


def test_check_finds_revoked_credentials_and_says_how_to_get_new_ones(migrated: Command, sandbox: Sandbox) -> None:
    migrated("account", "add", "default", stdin=GOOD)
    sandbox.revoke_tokens()

    found = checked(migrated)["credentials.refused"]

    assert (found["level"], "INVALID_REFRESH_TOKEN" in found["message"]) == ("error", True)
    assert "dispatcher account login default" in found["fix"]


def test_check_renews_an_ended_token_as_a_worker_would(
    migrated: Command, sandbox: Sandbox, engine: sa.Engine, place: Path
) -> None:
    sandbox.switch(rotation="rotated")
    migrated("account", "add", "default", stdin=GOOD)
    before = stored(engine, place)
    sandbox.expire_tokens()

    assert checked(migrated)["credentials.accepted"]["level"] == "ok"

    after = stored(engine, place)
    assert before is not None
    assert after is not None
    assert (after.refresh != before.refresh, after.version > before.version) == (True, True)


def test_check_without_an_answer_judges_nobody_and_asks_once(migrated: Command, sandbox: Sandbox) -> None:
    sandbox.add_account("loja-2")
    migrated("account", "add", "default", stdin=GOOD)
    migrated("account", "add", "loja-2", stdin=b"sandbox-refresh-loja-2\n")
    sandbox.reset()
    sandbox.break_with(Fault(FaultKind.EMPTY, times=None, path=INFO))

    found = checked(migrated)

    assert found["credentials.unchecked"]["level"] == "warning"
    assert "503" in found["credentials.unchecked"]["message"]
    assert "credentials.refused" not in found
    assert sandbox.count(INFO, method="GET") == 1


def test_check_tells_a_strangers_answer(migrated: Command, sandbox: Sandbox) -> None:
    migrated("account", "add", "default", stdin=GOOD)
    sandbox.break_with(Fault(FaultKind.NO_UUID, times=None, path=INFO))  # an HTML page with 200
    assert checked(migrated)["provider.unrecognised"]["level"] == "error"


def test_an_api_key_is_stored_untried(migrated: Command, sandbox: Sandbox) -> None:
    ran = migrated("account", "add", "default", "--api-key", stdin=b"key-hunter2\n")
    assert (ran.code, "tried" in ran.err) == (0, False)
    assert sandbox.arrivals() == []
