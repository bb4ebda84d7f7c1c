"""The credentials of many accounts in one read. Real databases; nothing is doubled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import event

from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.vault import Vault
from tests.contract.outbox_under_test import OutboxUnderTest

OURS, LOST = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
A, B = SecretStr("access"), SecretStr("refresh")
END = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def asked(outbox: OutboxUnderTest) -> list[str]:
    asked: list[str] = []

    @event.listens_for(outbox.engine, "before_cursor_execute")
    def _statement(*arguments: Any) -> None:
        asked.append(arguments[2])

    return asked


def test_the_tokens_of_many_are_those_of_each(outbox: OutboxUnderTest, asked: list[str]) -> None:
    store = CredentialStore(outbox.engine, Vault([OURS]))
    store.put("one", access=A, refresh=B, expires_at=END)
    store.put("other", access=B, refresh=None)
    store.put("stranger", access=A, refresh=None)
    CredentialStore(outbox.engine, Vault([LOST])).put("sealed", access=A, refresh=None)
    outbox.account("bare")
    asked.clear()
    found = store.load_all(["sealed", "other", "one", "bare", "nobody"])
    assert len([statement for statement in asked if "SELECT" in statement]) == 1
    assert found == {"one": store.load("one"), "other": store.load("other"), "bare": None, "nobody": None}
    assert (found["one"] and found["one"].expires_at) == END
    assert store.load_all(["one"]) == {"one": store.load("one")}


def test_the_api_keys_of_many_are_those_of_each(outbox: OutboxUnderTest, asked: list[str]) -> None:
    store = ApiKeyStore(outbox.engine, Vault([OURS]))
    for name, key in (("one", A), ("other", B), ("stranger", A)):
        store.put(name, key)
    ApiKeyStore(outbox.engine, Vault([LOST])).put("sealed", A)
    outbox.account("bare")
    asked.clear()
    assert store.load_all(["sealed", "other", "one", "bare", "nobody"]) == {
        "one": A,
        "other": B,
        "bare": None,
        "nobody": None,
    }
    assert len([statement for statement in asked if "SELECT" in statement]) == 1
