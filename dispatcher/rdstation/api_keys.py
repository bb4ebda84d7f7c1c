"""Which events go out with an account's API key instead of its access token."""

from __future__ import annotations

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
        read_at, key = self._read.get(account, (0.0, None))
        now = self.clock.monotonic()
        if account not in self._read or now - read_at >= CACHE_SECONDS:
            key = self.store.load(account)
            self._read[account] = (now, key)
        return key
