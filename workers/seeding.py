"""The environment's credentials, for the account `default`: read when a process begins, and again with each probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.settings import Settings


@dataclass(slots=True)
class Seeding:
    """Stores the environment's credentials where they have changed since they were last read.

    Attributes:
        read_settings: Reads the environment again.
        store: Of the access and refresh tokens.
        api_keys: Of the keys for conversions.
    """

    read_settings: Callable[[], Settings]
    store: CredentialStore
    api_keys: ApiKeyStore
    _is_done: bool = field(default=False, init=False)

    def again(self) -> None:
        """Read and store.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is away; `once` tries again.
        """
        settings = self.read_settings()
        self.store.seed("default", access=settings.rd_access_token, refresh=settings.rd_refresh_token)
        self.api_keys.seed("default", settings.rd_api_key)
        self._is_done = True

    def once(self) -> None:
        """As `again`, until it has succeeded in this process: then nothing.

        To be called before a claim: a process that began while the database was away would otherwise find an account
        without credentials, and suspend it until the next probe.
        """
        if not self._is_done:
            self.again()
