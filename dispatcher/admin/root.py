"""The composition root of the commands: settings are read once, the engine is made here and disposed of here."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatcher import shop
from dispatcher.clock import Clock, SystemClock
from dispatcher.errors import NotMigrated
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.explaining import explained
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.prune import Retention
from dispatcher.outbox.vault import Vault
from dispatcher.settings import Settings, load_settings

if TYPE_CHECKING:  # the commands hand the engine on; only the outbox knows what it is
    from sqlalchemy import Engine

    from dispatcher.rdstation.credential_check import CredentialCheck
    from dispatcher.rdstation.oauth import OAuthApi


@dataclass(frozen=True, slots=True)
class Root:
    """What a command is given."""

    settings: Settings
    engine: Engine
    clock: Clock

    @property
    def vault(self) -> Vault:
        """What seals credentials; makes the key file beside a SQLite file if there is no key yet."""
        return Vault.of(self.settings.encryption_keys, self.settings.sqlite_path)

    @property
    def limits(self) -> Configured:
        """The limits that the workers keep to, if they have the same settings, for accounts without their own."""
        settings = self.settings
        return Configured(settings.account_per_minute, settings.lead_per_day, settings.quota_share)

    @property
    def retention(self) -> Retention:
        """How long events that have ended are kept."""
        settings = self.settings
        return Retention.of_days(
            settings.retain_delivered_days,
            settings.retain_cancelled_days,
            settings.retain_dead_days,
            settings.retain_operations_days,
        )

    @property
    def credentials(self) -> CredentialStore:
        """Where credentials are kept."""
        return CredentialStore(self.engine, self.vault)

    @property
    def api_keys(self) -> ApiKeyStore:
        """Where API keys are kept."""
        return ApiKeyStore(self.engine, self.vault)


@contextmanager
def opened(settings: Settings | None = None, *, creates: bool = False) -> Iterator[Root]:
    """Everything a command needs, from the `DISPATCHER_` settings; nothing is connected before it is used.

    Args:
        settings: Those read already; the environment and `.env` if None.
        creates: True for the command that may create a SQLite file.

    Raises:
        ConfigurationError: A setting is refused, or the database's driver is not installed.
        NotMigrated: The database or its tables are not there.
        DispatcherError: The database cannot be reached, or refused a statement.
    """
    settings = settings or load_settings()
    path = settings.sqlite_path
    if path is not None and not creates and not path.exists():  # SQLite would create an empty one
        raise NotMigrated(f"there is no database at {path.absolute()} yet: run `dispatcher migrate`")
    if path is not None and creates:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(settings.database_url.get_secret_value())
    shop.connect(settings)
    try:
        with explained(engine):
            yield Root(settings, engine, SystemClock())
    finally:
        engine.dispose()


@contextmanager
def rd_station(root: Root) -> Iterator[OAuthApi]:
    """RD Station's token endpoint and credential check, with the timeouts of the settings."""
    from dispatcher.rdstation.base_url import BaseUrl  # HTTP is heavy, and few commands need it
    from dispatcher.rdstation.oauth import OAuthApi
    from dispatcher.rdstation.requests_transport import RequestsTransport
    from dispatcher.rdstation.transport import Timeouts

    settings = root.settings
    base_url = BaseUrl.parse(settings.rd_base_url, allow_insecure_http=settings.allow_insecure_http)
    timeouts = Timeouts(settings.http_connect_seconds, settings.http_read_seconds, settings.http_total_seconds)
    transport = RequestsTransport(base_url, timeouts=timeouts, clock=root.clock)
    try:
        yield OAuthApi(transport, clock=root.clock)
    finally:
        transport.close()


@contextmanager
def credential_check(root: Root) -> Iterator[CredentialCheck]:
    """The check of stored credentials; renews tokens in turn with the workers, as one of them."""
    from dispatcher.rdstation.access_tokens import AccessTokens  # see above
    from dispatcher.rdstation.credential_check import CredentialCheck
    from dispatcher.rdstation.oauth import App

    app = App.of(root.settings.rd_client_id, root.settings.rd_client_secret)
    with rd_station(root) as oauth:
        tokens = AccessTokens(
            root.credentials,
            oauth,
            app_of=lambda _account: app,
            clock=root.clock,
            rng=random.Random(),  # noqa: S311 - jitter, not secrets
            owner=f"{socket.gethostname()[:64]}:{os.getpid()}",
        )
        yield CredentialCheck(tokens, oauth, root.clock)
