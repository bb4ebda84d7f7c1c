"""The accounts' credentials in the database: sealed, versioned, and the lock of the one refresh in flight.

Implements `dispatcher.rdstation.token_store.TokenStore`, without knowing HTTP. Each call is one short transaction of
its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.outbox import account_rows
from dispatcher.outbox.among import bind, named
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.vault import Seal, Vault
from dispatcher.policy.tokens import Tokens, Turn


class CredentialStore:
    """Tokens of all accounts. Serves many threads; must not cross a fork, like its engine."""

    def __init__(self, engine: sa.Engine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    def load(self, account: str) -> Tokens | None:
        """The tokens as they are now; None if the account has none.

        Raises:
            ConfigurationError: No key at hand opens them.
        """
        held = self._held([account])
        return self._tokens(held[0]) if held else None

    def load_all(self, names: Collection[str]) -> dict[str, Tokens | None]:
        """The tokens of many, in one read; None for an account that has none. What no key opens is left out."""
        found: dict[str, Tokens | None] = dict.fromkeys(names)
        for row in self._held(sorted(found)):
            try:
                found[row.account] = self._tokens(row)
            except ConfigurationError:  # whoever asks for this one alone is told
                del found[row.account]
        return found

    def _held(self, names: Sequence[str]) -> Sequence[sa.Row[Any]]:
        query = _held(self._engine.dialect.name, one=len(names) == 1)
        return reading(self._engine, lambda connection: connection.execute(query, bind(names)).all())

    def _tokens(self, row: sa.Row[Any]) -> Tokens | None:
        if row.credentials is None:
            return None
        opened = self._vault.open(row.credentials)
        return Tokens(
            access=opened.get("access"),
            refresh=opened.get("refresh"),
            previous_refresh=opened.get("previous_refresh"),
            expires_at=row.token_expires_at,
            version=row.token_version,
        )

    def begin_refresh(self, account: str, *, seen_version: int, owner: str, lease_seconds: float) -> Turn:
        """Ask for the turn to refresh; see `TokenStore.begin_refresh`."""
        answer = reading(self._engine, lambda connection: _turn(connection, account, seen_version, owner))
        if answer is not Turn.GRANTED:
            return answer

        def take(connection: sa.Connection) -> Turn:
            account_rows.lock(connection, account)
            turn = _turn(connection, account, seen_version, owner)
            if turn is Turn.GRANTED:
                until = read_clock(connection) + timedelta(seconds=lease_seconds)
                account_rows.write(connection, account, {"refresh_owner": owner, "refresh_until": until})
            return turn

        return in_transaction(self._engine, take)

    def store(self, account: str, tokens: Tokens) -> bool:
        """Store renewed tokens and end the turn, if the version stored is still the one before."""
        sealed = self._vault.seal(_secrets(tokens))

        def write(connection: sa.Connection) -> bool:
            values = {"credentials": sealed, "token_version": tokens.version, "token_expires_at": tokens.expires_at}
            this = {"a_name": account, "version": tokens.version - 1}
            return connection.execute(_AT_VERSION, {**this, **values, **_NO_REFRESH}).rowcount > 0

        return in_transaction(self._engine, write)

    def end_refresh(self, account: str, *, owner: str, retry_seconds: float) -> None:
        """End a turn that brought nothing, and let nobody try again before `retry_seconds` have passed."""

        def write(connection: sa.Connection) -> None:
            not_before = read_clock(connection) + timedelta(seconds=retry_seconds)
            account_rows.write(connection, account, {"refresh_not_before": not_before})
            mine = sa.update(accounts).where(accounts.c.account == account, accounts.c.refresh_owner == owner)
            connection.execute(mine.values(refresh_owner=None, refresh_until=None))

        in_transaction(self._engine, write)

    def forget_previous(self, account: str, *, version: int) -> None:
        """The new tokens have worked: the refresh token before them is of no more use."""
        tokens = self.load(account)
        if tokens is None or tokens.version != version:
            return
        sealed = self._vault.seal(_secrets(replace(tokens, previous_refresh=None)))
        values = {"a_name": account, "version": version, "credentials": sealed}
        in_transaction(self._engine, lambda connection: connection.execute(_AT_VERSION, values).rowcount)

    def put(
        self,
        account: str,
        *,
        access: SecretStr | None,
        refresh: SecretStr | None,
        expires_at: datetime | None = None,
    ) -> None:
        """Give an account credentials from outside (a person, a login), in place of those it has.

        A suspended account is probed with them at the next sweep. `expires_at` is the access token's end, if known.
        """
        sealed = self._vault.seal({"access": access, "refresh": refresh})

        def write(connection: sa.Connection) -> None:
            _replace(connection, account, sealed, seed=None, expires_at=expires_at)

        in_transaction(self._engine, write)

    def remove(self, account: str) -> bool:
        """Take an account's credentials away; its events wait. Answers False if it had none."""
        had = sa.update(accounts).where(accounts.c.account == account, accounts.c.credentials.is_not(None))
        values = {"credentials": None, "token_expires_at": None, "token_version": accounts.c.token_version + 1}
        return in_transaction(self._engine, lambda connection: connection.execute(had.values(values)).rowcount) > 0

    def seed(self, account: str, *, access: SecretStr | None, refresh: SecretStr | None) -> bool:
        """Take over the environment's credentials if they have changed since they were last read.

        A refresh rotates what is stored away from the environment, so the environment must not win each time; it
        wins when somebody has changed it.

        Returns:
            True if they were new and are stored.
        """
        if access is None and refresh is None:
            return False
        parts = [secret.get_secret_value() if secret else "" for secret in (access, refresh)]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        known = sa.select(accounts.c.seed).where(accounts.c.account == account)
        if reading(self._engine, lambda connection: connection.execute(known).scalar_one_or_none()) == digest:
            return False
        sealed = self._vault.seal({"access": access, "refresh": refresh})

        def write(connection: sa.Connection) -> bool:
            account_rows.lock(connection, account)
            if connection.execute(known).scalar_one_or_none() == digest:
                return False
            _replace(connection, account, sealed, seed=digest)
            return True

        return in_transaction(self._engine, write)

    def seals(self) -> dict[str, Seal]:
        """Which key holds each account's credentials; accounts without credentials are left out."""
        held = sa.or_(accounts.c.credentials.is_not(None), accounts.c.api_key.is_not(None))
        query = sa.select(accounts.c.account, accounts.c.credentials, accounts.c.api_key).where(held)
        rows = reading(self._engine, lambda connection: connection.execute(query.order_by(accounts.c.account)).all())
        return {row.account: self._worst([row.credentials, row.api_key]) for row in rows}

    def _worst(self, sealed: Iterable[str | None]) -> Seal:
        """Of tokens and API key, what needs somebody's attention most."""
        seals = {self._vault.seal_of(text) for text in sealed if text is not None}
        return next((seal for seal in (Seal.UNREADABLE, Seal.OLDER) if seal in seals), Seal.CURRENT)

    def reseal(self) -> dict[str, Seal]:
        """Seal with the first key what an older one holds; one transaction for each account.

        Nothing else of the tokens changes, so no worker has to read them again. A process that was started with
        another first key seals with that one: give every process the keys first.

        Returns:
            As `seals`, before: `OLDER` is `CURRENT` now, `UNREADABLE` was left as it is.
        """
        return {account: in_transaction(self._engine, self._resealing(account)) for account in self.seals()}

    def _resealing(self, account: str) -> Callable[[sa.Connection], Seal]:
        held = sa.select(accounts.c.credentials, accounts.c.api_key).where(accounts.c.account == account)

        def write(connection: sa.Connection) -> Seal:
            account_rows.lock(connection, account)
            texts = dict(connection.execute(held).mappings().one())
            for name, sealed in texts.items():
                if sealed is not None and self._vault.seal_of(sealed) is Seal.OLDER:
                    account_rows.write(connection, account, {name: self._vault.seal(self._vault.open(sealed))})
            return self._worst(texts.values())

        return write


@cache
def _held(dialect: str, *, one: bool) -> sa.Select[Any]:
    held = sa.select(accounts.c.account, accounts.c.credentials, accounts.c.token_version, accounts.c.token_expires_at)
    return held.where(named(dialect, accounts.c.account, one=one))


_REFRESH = sa.select(
    accounts.c.token_version, accounts.c.refresh_owner, accounts.c.refresh_until, accounts.c.refresh_not_before
).where(account_rows.THIS)
_AT_VERSION = sa.update(accounts).where(account_rows.THIS, accounts.c.token_version == sa.bindparam("version"))
_REPLACED = sa.update(accounts).where(account_rows.THIS).values(token_version=accounts.c.token_version + 1)
_SUSPENDED = sa.update(accounts).where(account_rows.THIS, accounts.c.suspended_at.is_not(None))
_NO_REFRESH: dict[str, Any] = {"refresh_owner": None, "refresh_until": None, "refresh_not_before": None}


def _turn(connection: sa.Connection, account: str, seen_version: int, owner: str) -> Turn:
    row = connection.execute(_REFRESH, {"a_name": account}).one_or_none()
    now = read_clock(connection)
    if row is None:
        return Turn.NOT_YET
    if row.token_version > seen_version:
        return Turn.NEWER
    if row.refresh_owner not in (None, owner) and row.refresh_until is not None and row.refresh_until > now:
        return Turn.WAIT
    if row.refresh_not_before is not None and row.refresh_not_before > now:
        return Turn.NOT_YET
    return Turn.GRANTED


def _replace(
    connection: sa.Connection, account: str, sealed: str, *, seed: str | None, expires_at: datetime | None = None
) -> None:
    account_rows.ensure(connection, [account])
    values: dict[str, Any] = {"credentials": sealed, "token_expires_at": expires_at, **_NO_REFRESH}
    if seed is not None:
        values["seed"] = seed
    connection.execute(_REPLACED, {"a_name": account, **values})
    connection.execute(_SUSPENDED, {"a_name": account, "probe_at": read_clock(connection)})


def _secrets(tokens: Tokens) -> dict[str, SecretStr | None]:
    return {"access": tokens.access, "refresh": tokens.refresh, "previous_refresh": tokens.previous_refresh}
