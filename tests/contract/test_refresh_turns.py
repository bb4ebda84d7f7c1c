"""Credentials and the turn to refresh them, call by call. Real: the database, the encryption. No HTTP, nothing doubled.

Time is written into rows. Fifty processes that meet one expired token are in `tests/acceptance/test_one_refresh.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.vault import Vault
from dispatcher.policy.tokens import Tokens, Turn
from tests.contract.outbox_under_test import OutboxUnderTest

LEASE = 30.0


def secret(text: str) -> SecretStr:
    return SecretStr(text)


@pytest.fixture
def store(outbox: OutboxUnderTest) -> CredentialStore:
    """Two accounts with credentials, of the same version."""
    store = CredentialStore(outbox.engine, Vault([secret(Fernet.generate_key().decode())]))
    for account in ("default", "other"):
        store.put(account, access=secret(f"access-{account}"), refresh=secret(f"refresh-{account}"))
    return store


def loaded(store: CredentialStore, account: str = "default") -> Tokens:
    tokens = store.load(account)
    assert tokens is not None
    return tokens


def ask(store: CredentialStore, owner: str = "w1", account: str = "default", seen: int = 1) -> Turn:
    return store.begin_refresh(account, seen_version=seen, owner=owner, lease_seconds=LEASE)


def renewed(store: CredentialStore, **changes: Any) -> Tokens:
    before = loaded(store)
    fresh = Tokens(secret("access-2"), secret("refresh-2"), before.refresh, None, before.version + 1)
    return replace(fresh, **changes)


def test_one_has_the_turn_until_the_lease_ends_and_may_ask_again(
    store: CredentialStore, outbox: OutboxUnderTest
) -> None:
    before = outbox.now()
    assert ask(store) is Turn.GRANTED
    row = outbox.account_row()
    assert row.refresh_owner == "w1"
    assert before + timedelta(seconds=LEASE) <= row.refresh_until <= outbox.now() + timedelta(seconds=LEASE)
    assert (ask(store, "w2"), ask(store)) == (Turn.WAIT, Turn.GRANTED)
    assert ask(store, "w2", "other") is Turn.GRANTED, "another account's turn is another one"
    outbox.account(refresh_until=outbox.now())
    assert ask(store, "w2") is Turn.GRANTED
    assert outbox.account_row().refresh_owner == "w2"


def test_who_has_seen_older_tokens_loads_the_newer_ones(store: CredentialStore) -> None:
    assert loaded(store).version == 1
    assert (ask(store, seen=0), ask(store, seen=1)) == (Turn.NEWER, Turn.GRANTED)
    assert ask(store, account="nobody") is Turn.NOT_YET
    assert store.load("nobody") is None


def test_renewed_tokens_end_the_turn_and_are_stored_once(store: CredentialStore, outbox: OutboxUnderTest) -> None:
    ask(store)
    outbox.account(refresh_not_before=outbox.now())
    tokens = renewed(store, expires_at=outbox.now())
    others = loaded(store, "other")
    assert store.store("default", tokens)
    assert (loaded(store), loaded(store, "other")) == (tokens, others)
    row = outbox.account_row()
    assert (row.refresh_owner, row.refresh_until, row.refresh_not_before) == (None, None, None)
    assert not store.store("default", tokens), "somebody has stored that version already"
    assert not store.store("default", replace(tokens, version=4)), "nor is one left out"


def test_a_turn_that_brought_nothing_keeps_everybody_away_for_a_while(
    store: CredentialStore, outbox: OutboxUnderTest
) -> None:
    ask(store)
    ask(store, account="other")
    before = outbox.now()
    store.end_refresh("default", owner="w1", retry_seconds=60)
    row = outbox.account_row()
    assert (row.refresh_owner, row.refresh_until) == (None, None)
    assert before <= row.refresh_not_before - timedelta(seconds=60) <= outbox.now()
    assert (ask(store), ask(store, "w2")) == (Turn.NOT_YET, Turn.NOT_YET)
    assert outbox.account_row("other").refresh_owner == "w1"
    outbox.account(refresh_not_before=outbox.now())
    assert ask(store, "w2") is Turn.GRANTED
    store.end_refresh("default", owner="w1", retry_seconds=60)
    assert outbox.account_row().refresh_owner == "w2", "a turn is ended by whoever has it"


def test_the_token_before_is_forgotten_once_the_new_ones_have_worked(store: CredentialStore) -> None:
    ask(store)
    tokens = renewed(store)
    store.store("default", tokens)
    store.put("other", access=secret("of the same version"), refresh=None)
    others = loaded(store, "other")
    store.forget_previous("default", version=1)
    assert loaded(store).previous_refresh == secret("refresh-default"), "not by who knows the old ones only"
    store.forget_previous("default", version=2)
    assert loaded(store) == replace(tokens, previous_refresh=None)
    assert loaded(store, "other") == others
    store.forget_previous("nobody", version=1)


def test_credentials_from_outside_take_the_place_of_the_old_ones_and_are_tried_at_once(
    store: CredentialStore, outbox: OutboxUnderTest
) -> None:
    now = outbox.now()
    later = now + timedelta(hours=1)
    for account in ("default", "other"):
        outbox.account(account, probe_at=later, suspended_at=now, suspend_reason="credentials")
    outbox.account("open", probe_at=None)
    ask(store)
    store.put("default", access=secret("new"), refresh=None, expires_at=later)
    assert loaded(store) == Tokens(secret("new"), None, None, later, 2)
    row = outbox.account_row()
    assert row.probe_at <= outbox.now()
    assert (row.refresh_owner, outbox.account_row("other").probe_at) == (None, later)
    store.put("open", access=secret("new"), refresh=None)
    assert outbox.account_row("open").probe_at is None, "an account that is not suspended needs no probe"
    store.put("fresh", access=secret("new"), refresh=None)
    assert loaded(store, "fresh").version == 1, "an account that nobody knew"


def test_credentials_are_removed_once_and_of_one_account(store: CredentialStore, outbox: OutboxUnderTest) -> None:
    outbox.account(token_expires_at=outbox.now())
    assert store.remove("default")
    assert (store.load("default"), outbox.account_row().token_expires_at) == (None, None)
    assert not store.remove("default")
    assert loaded(store, "other").version == 1
    assert ask(store, seen=1) is Turn.NEWER, "who holds the old ones hears of it"


def test_the_environment_wins_once_for_each_change_of_it(store: CredentialStore) -> None:
    assert not store.seed("default", access=None, refresh=None)
    assert loaded(store).access == secret("access-default")
    assert store.seed("default", access=None, refresh=secret("seeded"))
    assert loaded(store) == Tokens(None, secret("seeded"), None, None, 2)
    assert not store.seed("default", access=None, refresh=secret("seeded"))
    assert loaded(store).version == 2
    assert store.seed("default", access=secret("seeded"), refresh=None), "the same text elsewhere is another secret"
    assert store.seed("new", access=secret("a"), refresh=secret("b"))
    assert loaded(store, "other").access == secret("access-other")


def test_of_two_that_read_the_same_environment_at_once_the_second_finds_it_stored(outbox: OutboxUnderTest) -> None:
    key = secret(Fernet.generate_key().decode())
    first = CredentialStore(outbox.engine, Vault([key]))

    class Slow(Vault):
        """Between its look at what is stored and its write, the first comes and goes."""

        def seal(self, secrets: Mapping[str, SecretStr | None]) -> str:
            assert first.seed("default", access=secret("a"), refresh=None)
            return super().seal(secrets)

    assert not CredentialStore(outbox.engine, Slow([key])).seed("default", access=secret("a"), refresh=None)
    assert loaded(first) == Tokens(secret("a"), None, None, None, 1), "stored once"


def test_a_turn_that_was_left_without_an_end_is_nobody_s(store: CredentialStore, outbox: OutboxUnderTest) -> None:
    outbox.account(refresh_owner="w1", refresh_until=None)
    assert ask(store, "w2") is Turn.GRANTED
