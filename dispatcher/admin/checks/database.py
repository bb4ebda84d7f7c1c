"""What the database says: schema, credentials, accounts, workers, and the types that are in use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from dispatcher.admin.checks import credentials, flow, payloads, retirement
from dispatcher.admin.checks.finding import Finding, error, ok, warning
from dispatcher.admin.moments import span
from dispatcher.admin.root import Root
from dispatcher.errors import NotMigrated
from dispatcher.outbox.explaining import where
from dispatcher.outbox.overview import AccountState, AccountView, Overview, overview
from dispatcher.outbox.schema import require_current
from dispatcher.outbox.transaction import reading

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
    yield from credentials.examine(root, seen)
    for account in seen.accounts:
        yield from _standing(account)
    yield _workers(seen)
    yield from flow.examine(root, seen)
    yield from retirement.examine(root, seen)
    yield from payloads.examine(root)


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
