"""The accounts' API keys in the database, sealed. RD Station takes one for conversions only (rdstation-api.md §2.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import sqlalchemy as sa
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.outbox import account_rows
from dispatcher.outbox.among import named
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.vault import Vault


class ApiKeyStore:
    """API keys of all accounts. Each call is one short transaction of its own.

    Implements `dispatcher.rdstation.api_keys.KeyStore`, without knowing HTTP.
    """

    def __init__(self, engine: sa.Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def load(self, account: str) -> SecretStr | None:
        """The account's key; None if it has none.

        Raises:
            ConfigurationError: No encryption key at hand opens it.
        """
        query = sa.select(accounts.c.api_key).where(accounts.c.account == account)
        sealed = reading(self._engine, lambda connection: connection.execute(query).scalar_one_or_none())
        return self._vault.open(sealed).get("api_key")

    def load_all(self, names: Collection[str]) -> dict[str, SecretStr | None]:
        """The keys of many, in one read; None for an account that has none. What cannot be opened is left out."""
        found: dict[str, SecretStr | None] = dict.fromkeys(names)
        query = sa.select(accounts.c.account, accounts.c.api_key).where(
            named(self._engine.dialect.name, accounts.c.account)
        )
        sealed = reading(self._engine, lambda connection: connection.execute(query, {"names": sorted(found)}).all())
        for row in sealed:
            try:
                found[row.account] = self._vault.open(row.api_key).get("api_key")
            except ConfigurationError:  # whoever asks for this one alone is told
                del found[row.account]
        return found

    def put(self, account: str, key: SecretStr) -> None:
        """Give an account a key from outside; a suspended account is probed at the next sweep."""
        sealed = self._vault.seal({"api_key": key})
        in_transaction(self._engine, lambda connection: _write(connection, account, {"api_key": sealed}))

    def remove(self, account: str) -> bool:
        """Take an account's key away; answers False if it had none."""
        had = sa.update(accounts).where(accounts.c.account == account, accounts.c.api_key.is_not(None))
        return (
            in_transaction(self._engine, lambda connection: connection.execute(had.values(api_key=None)).rowcount) > 0
        )

    def seed(self, account: str, key: SecretStr | None) -> bool:
        """Take over the environment's key if it has changed since it was last read; answers whether it has."""
        if key is None:
            return False
        digest = hashlib.sha256(key.get_secret_value().encode()).hexdigest()
        known = sa.select(accounts.c.api_key_seed).where(accounts.c.account == account)
        if reading(self._engine, lambda connection: connection.execute(known).scalar_one_or_none()) == digest:
            return False
        values = {"api_key": self._vault.seal({"api_key": key}), "api_key_seed": digest}
        in_transaction(self._engine, lambda connection: _write(connection, account, values))
        return True


def _write(connection: sa.Connection, account: str, values: dict[str, str]) -> None:
    row = account_rows.lock(connection, account)
    account_rows.write(connection, account, dict(values))
    if row.suspended_at is not None:
        account_rows.set_probe(connection, account, read_clock(connection))
