"""Changing the key that credentials are sealed with. Real: the database, the encryption."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.vault import Seal, Vault
from tests.contract.outbox_under_test import OutboxUnderTest

pytestmark = pytest.mark.alone("sealing goes through every account")

OLD, NEW, LOST = (SecretStr(Fernet.generate_key().decode()) for _ in range(3))


def store(engine: sa.Engine, *keys: SecretStr) -> CredentialStore:
    return CredentialStore(engine, Vault(keys))


def test_after_resealing_the_old_key_can_be_dropped(outbox: OutboxUnderTest) -> None:
    outbox.account("empty")
    store(outbox.engine, OLD).put("a", access=SecretStr("access-a"), refresh=SecretStr("refresh-a"))
    store(outbox.engine, NEW).put("b", access=None, refresh=SecretStr("refresh-b"))
    store(outbox.engine, LOST).put("c", access=None, refresh=SecretStr("refresh-c"))
    rotating = store(outbox.engine, NEW, OLD)
    before, lost = rotating.load("a"), _row(outbox, "c")
    standing = {"a": Seal.OLDER, "b": Seal.CURRENT, "c": Seal.UNREADABLE}
    assert rotating.seals() == standing
    store(outbox.engine, NEW).put("0", access=None, refresh=SecretStr("the last that came"))
    standing = {"0": Seal.CURRENT, **standing}
    assert list(rotating.seals()) == ["0", "a", "b", "c"]

    assert rotating.reseal() == standing

    assert rotating.seals() == standing | {"a": Seal.CURRENT}
    assert store(outbox.engine, NEW).load("a") == before, "the same tokens, of the same version"
    assert _row(outbox, "c") == lost, "what cannot be opened is left alone"
    with pytest.raises(ConfigurationError, match="ENCRYPTION_KEYS"):
        store(outbox.engine, OLD).load("a")
    assert rotating.reseal() == standing | {"a": Seal.CURRENT}


def test_without_a_key_everything_is_unreadable_and_nothing_changes(outbox: OutboxUnderTest) -> None:
    store(outbox.engine, OLD).put("a", access=None, refresh=SecretStr("refresh-a"))
    before = _row(outbox, "a")

    assert store(outbox.engine).reseal() == {"a": Seal.UNREADABLE}

    assert _row(outbox, "a") == before


def test_a_login_stores_when_its_token_ends(outbox: OutboxUnderTest) -> None:
    ends = outbox.now().replace(microsecond=0)
    mine = store(outbox.engine, OLD)

    mine.put("a", access=SecretStr("access-a"), refresh=SecretStr("refresh-a"), expires_at=ends)

    tokens = mine.load("a")
    assert tokens is not None
    assert tokens.expires_at == ends


def _row(outbox: OutboxUnderTest, account: str) -> dict[str, object]:
    with outbox.engine.connect() as connection:
        return dict(connection.execute(sa.select(accounts).where(accounts.c.account == account)).mappings().one())
