"""Which events go out with an account's API key instead of its access token."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from dispatcher.clock import Clock
from dispatcher.rdstation.access_tokens import CACHE_SECONDS

CONVERSION = "CONVERSION"
"""The only type that RD Station takes with an API key (rdstation-api.md §2.3)."""


class KeyStore(Protocol):
    """What it needs of the database; errors of the database pass through."""

    def load(self, account: str) -> SecretStr | None:
        """The account's key as it is now; None if it has none."""
        ...

    def load_all(self, accounts: Collection[str]) -> dict[str, SecretStr | None]:
        """The keys of many, in one read; None for an account that has none. What cannot be opened is left out."""
        ...


@dataclass(slots=True)
class ApiKeys:
    """The keys of accounts, read again every few seconds. Serves many threads.

    Attributes:
        store: Where keys live.
        clock: For the age of what was read.
        preferred: Conversions go with the key also where the account has tokens.
    """

    store: KeyStore
    clock: Clock
    preferred: bool = False
    _read: dict[str, tuple[float, SecretStr | None]] = field(default_factory=dict)

    def of(self, account: str) -> SecretStr | None:
        """The account's key; None if it has none."""
        now = self.clock.monotonic()
        known = self._read.get(account)
        if known is None or now - known[0] >= CACHE_SECONDS:
            known = self._read[account] = (now, self.store.load(account))
        return known[1]

    def prepare(self, accounts: Collection[str]) -> None:
        """Read at once what `of` would read one by one; lets go of what is too old. The store's errors pass."""
        now = self.clock.monotonic()
        for name, known in list(self._read.items()):
            if now - known[0] >= CACHE_SECONDS:
                self._read.pop(name, None)
        unknown = set(accounts) - self._read.keys()
        for name, key in self.store.load_all(unknown).items() if unknown else ():
            self._read.setdefault(name, (now, key))
