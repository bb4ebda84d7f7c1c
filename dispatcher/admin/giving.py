"""Giving an account credentials by hand."""

from __future__ import annotations

from datetime import datetime

from pydantic import SecretStr

from dispatcher.admin.root import Root
from dispatcher.outbox import ringing

_SEEDED = "default"


def give(
    root: Root,
    account: str,
    *,
    access: SecretStr | None = None,
    refresh: SecretStr | None = None,
    expires_at: datetime | None = None,
) -> None:
    """Store credentials, sealed, in place of those the account has; if it is suspended, it is probed at once.

    Raises:
        ConfigurationError: There is no encryption key.
    """
    store, settings = root.credentials, root.settings
    if account == _SEEDED:
        # A worker that starts for the first time must not take what the environment has said all along for news.
        store.seed(account, access=settings.rd_access_token, refresh=settings.rd_refresh_token)
    store.put(account, access=access, refresh=refresh, expires_at=expires_at)
    ringing.ring([account])


def give_key(root: Root, account: str, key: SecretStr) -> None:
    """Store an API key, sealed, in place of the one the account has.

    Raises:
        ConfigurationError: There is no encryption key.
    """
    store = root.api_keys
    if account == _SEEDED:  # see above
        store.seed(account, root.settings.rd_api_key)
    store.put(account, key)
    ringing.ring([account])
