"""API keys at rest: sealed, seeded once, resealed. Real databases; nothing is doubled."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.vault import Seal, Vault
from tests.contract.outbox_under_test import OutboxUnderTest

OLD, NEW = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
KEY = SecretStr("an-api-key")


@pytest.fixture
def keys(outbox: OutboxUnderTest) -> ApiKeyStore:
    return ApiKeyStore(outbox.engine, Vault([OLD]))


def test_a_key_is_stored_sealed_read_and_removed(outbox: OutboxUnderTest, keys: ApiKeyStore) -> None:
    assert keys.load("default") is None
    keys.put("default", KEY)
    assert keys.load("default") == KEY
    assert KEY.get_secret_value() not in str(dict(outbox.account_row()._mapping))
    assert keys.load("nobody") is None
    assert keys.remove("default")
    assert not keys.remove("default")
    assert keys.load("default") is None


def test_the_environment_s_key_wins_only_when_it_has_changed(keys: ApiKeyStore) -> None:
    assert keys.seed("default", KEY)
    keys.put("default", SecretStr("from a person"))
    assert not keys.seed("default", KEY)
    assert keys.load("default") == SecretStr("from a person")
    assert keys.seed("default", SecretStr("another"))
    assert keys.load("default") == SecretStr("another")
    assert not keys.seed("default", None)


def test_without_an_encryption_key_nothing_is_stored(outbox: OutboxUnderTest) -> None:
    with pytest.raises(ConfigurationError):
        ApiKeyStore(outbox.engine, Vault([])).put("default", KEY)
    assert outbox.account_row().api_key is None


def test_a_suspended_account_is_probed_when_it_gets_a_key(outbox: OutboxUnderTest, keys: ApiKeyStore) -> None:
    outbox.account(suspended_at=outbox.now(), suspend_reason="credentials", probe_at=None)
    keys.put("default", KEY)
    assert outbox.account_row().probe_at <= outbox.now()


@pytest.mark.alone("sealing goes through every account")
def test_reseal_takes_keys_along_so_that_an_old_encryption_key_can_be_dropped(
    outbox: OutboxUnderTest, keys: ApiKeyStore
) -> None:
    keys.put("default", KEY)
    keys.put("other", KEY)
    CredentialStore(outbox.engine, Vault([NEW])).put("other", access=SecretStr("a"), refresh=None)
    rotated = CredentialStore(outbox.engine, Vault([NEW, OLD]))
    assert rotated.seals() == {"default": Seal.OLDER, "other": Seal.OLDER}
    assert rotated.reseal() == {"default": Seal.OLDER, "other": Seal.OLDER}
    assert rotated.seals() == {"default": Seal.CURRENT, "other": Seal.CURRENT}
    assert ApiKeyStore(outbox.engine, Vault([NEW])).load("default") == KEY
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(accounts).values(api_key="not sealed"))
    assert set(rotated.seals().values()) == {Seal.UNREADABLE}
