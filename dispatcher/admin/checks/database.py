"""What the database says: schema, credentials, accounts, workers, and the types that are in use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from dispatcher.admin.checks import flow, payloads, retirement
from dispatcher.admin.checks.finding import Finding, error, ok, warning
from dispatcher.admin.moments import span
from dispatcher.admin.root import Root
from dispatcher.errors import ConfigurationError, NotMigrated
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.explaining import where
from dispatcher.outbox.overview import AccountState, AccountView, Overview, overview
from dispatcher.outbox.schema import require_current
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.vault import Vault

_SILENT_AFTER = timedelta(minutes=2)


def examine(root: Root) -> Iterator[Finding]:
    """Everything that needs a connection. The caller explains what the database raises."""
    try:
        require_current(root.engine)
    except NotMigrated as missing:
        yield ok("database.reachable", f"the database at {where(root.engine)} answers")
        yield error("schema.missing", str(missing), "run `dispatcher migrate`")
        return
    yield ok("database.reachable", f"the database at {where(root.engine)} answers")
    yield ok("schema.current", "the outbox tables are of this release")
    seen = reading(root.engine, lambda connection: overview(connection, limits=root.limits))
    for account in seen.accounts:
        yield from _credentials(root, account)
        yield from _standing(account)
    yield _workers(seen)
    yield from flow.examine(root, seen)
    yield from retirement.examine(root, seen)
    yield from payloads.examine(root)


def _credentials(root: Root, account: AccountView) -> Iterator[Finding]:
    name, settings = account.account, root.settings
    if account.has_api_key and not account.has_credentials:
        yield ok(
            "credentials.key_only", f"the account {name!r} has an API key and no tokens: it sends conversions only"
        )
        return
    if not account.has_credentials:
        if name == "default" and (settings.rd_refresh_token or settings.rd_access_token):
            yield ok(
                "credentials.seed",
                "the account 'default' takes its credentials from the environment at a worker's start",
            )
        else:
            yield error(
                "credentials.missing",
                f"the account {name!r} has no credentials: its events wait",
                f"run `dispatcher account add {name}`"
                + (", or set DISPATCHER_RD_REFRESH_TOKEN and start a worker" if name == "default" else ""),
            )
        return
    try:
        store = CredentialStore(root.engine, Vault.of(settings.encryption_keys, settings.sqlite_path))
        tokens = store.load(name)
    except ConfigurationError as refused:
        yield error("credentials.sealed", f"the account {name!r}: {refused}", "set the key that sealed them as well")
        return
    if tokens is not None and tokens.refresh is None:
        yield warning(
            "credentials.no_refresh",
            f"the account {name!r} has an access token only, which ends within 24 hours",
            f"run `dispatcher account add {name}` with a refresh token",
        )
    elif settings.rd_client_id is None or settings.rd_client_secret is None:
        yield error(
            "credentials.no_client",
            f"the refresh token of the account {name!r} is of no use without the app it belongs to",
            "set DISPATCHER_RD_CLIENT_ID and DISPATCHER_RD_CLIENT_SECRET",
        )
    else:
        yield ok("credentials.stored", f"the account {name!r} has credentials, and a key at hand opens them")


def _standing(account: AccountView) -> Iterator[Finding]:
    name = account.account
    if account.state is AccountState.PAUSED:
        note = f": {account.reason}" if account.reason else ""
        yield warning(
            "account.paused",
            f"the account {name!r} was paused by {account.paused_by}{note}",
            f"`dispatcher resume {name}`",
        )
    elif account.state is AccountState.SUSPENDED:
        yield error(
            "account.suspended",
            f"the account {name!r} is suspended ({account.reason}): {account.detail}",
            "fix the cause; it is probed every minute and opens by itself",
        )
    for event_type, entry in account.suspended_types.items():
        yield error(
            "account.type_suspended",
            f"the account {name!r} sends no {event_type} ({entry.get('reason')}): {entry.get('detail')}",
            "fix the cause; one event of the type probes it and opens it",
        )


def _workers(seen: Overview) -> Finding:
    alive = [worker for worker in seen.workers if seen.at - worker.progress_at < _SILENT_AFTER]
    if alive:
        return ok(
            "worker.progress", f"{len(alive)} worker(s) made progress within {span(_SILENT_AFTER.total_seconds())}"
        )
    return warning(
        "worker.none",
        f"no worker has made progress within {span(_SILENT_AFTER.total_seconds())}, and {_due(seen)} events are due",
        "start one with `dispatcher worker`",
    )


def _due(seen: Overview) -> int:
    return sum(account.due for account in seen.accounts)
