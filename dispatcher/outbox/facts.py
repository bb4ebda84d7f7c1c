"""What is known about one event and all that could hold it back, read in one look; `policy.explanation` judges it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.events.keys import key_problem
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import account_rows, permits
from dispatcher.outbox.account_rows import COLUMNS, AccountRow
from dispatcher.outbox.allowance import busy
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.ledger import recall
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.moot import winner_of
from dispatcher.outbox.permits import Quota, Use
from dispatcher.outbox.queries import as_id, resolve
from dispatcher.outbox.sealing import is_sealed
from dispatcher.outbox.tables import accounts, attempts, dead_letters, events, ledger, workers
from dispatcher.outbox.wake import flying, oldest_pending
from dispatcher.policy.explanation import EventNow, Facts, Remembered, Stopped

_SAID = (accounts.c.paused_by, accounts.c.pause_note, accounts.c.suspend_reason, accounts.c.probe_at)
_MARKED = {Reason.SUPERSEDED.value}


def read_facts(connection: sa.Connection, account: str, name: str, limits: Configured) -> Facts:
    """Everything that could hold back the event of a KEY or ID. Locks and writes nothing.

    Args:
        connection: Of ours; the account's name is that of the key, an ID may be another account's.
        account: Where the key is looked up.
        name: The KEY or ID.
        limits: Those of accounts that have none of their own.
    """
    now = read_clock(connection)
    found = resolve(connection, account, [name]).get(name)
    if found is None:
        return Facts(now, name, account, pruned=_pruned(connection, account, name))
    row = connection.execute(sa.select(events).where(events.c.id == found)).one()
    free_at = lead_free_at = None
    if row.state == State.PENDING:
        holder = next(iter(account_rows.read(connection, [row.account])), None)
        quota = limits.quota_of(holder.per_minute, holder.lead_per_day) if holder else limits.quota_of(None, None)
        free_at = _account_free_at(connection, row.account, holder, quota, now)
        lead_free_at = _lead_free_at(connection, row, quota, now)
    seen = sa.select(sa.func.max(workers.c.progress_at))
    return Facts(
        now,
        name,
        row.account,
        event=_event(connection, row),
        lead_free_at=lead_free_at,
        account_free_at=free_at,
        worker_seen=connection.execute(seen).scalar_one(),
        **_account(connection, row.account, row.event_type, now),
    )


def _pruned(connection: sa.Connection, account: str, name: str) -> Remembered | None:
    row = recall(connection, account, fact_hash(name)) if key_problem(name) is None else None
    event_id = as_id(name)
    if row is None and event_id is not None:
        row = connection.execute(sa.select(ledger).where(ledger.c.event_id == event_id)).first()
    return None if row is None else Remembered(row.state, row.reason, row.first_seen, row.ended_at)


def _event(connection: sa.Connection, row: sa.Row[Any]) -> EventNow:
    values = {
        name: getattr(row, name) for name in EventNow.__dataclass_fields__ if name in events.c and name != "state"
    }
    pending = row.state == State.PENDING
    moot = row.subject is not None and (pending or row.reason in _MARKED)
    return EventNow(
        **values,
        state=State(row.state),
        sealed=is_sealed(row.payload),
        ahead=_ahead(connection, row.id) if pending and row.ordering == "lead" else None,
        winner=connection.execute(winner_of(row.id)).scalar_one_or_none() if moot else None,
        last_try=_last_try(connection, row.id),
        letter=_letter(connection, row.id) if row.state == State.DEAD else None,
    )


def _ahead(connection: sa.Connection, event: int) -> str | None:
    """The key of the event of the same lead that goes first; None if that is this one."""
    first = sa.select(sa.func.coalesce(flying(events), oldest_pending(events))).where(events.c.id == event)
    ahead: int | None = connection.execute(first).scalar_one()
    if ahead is None or ahead == event:
        return None
    return connection.execute(sa.select(events.c.key).where(events.c.id == ahead)).scalar_one_or_none()


def _last_try(connection: sa.Connection, event: int) -> str | None:
    query = sa.select(attempts.c.verdict, attempts.c.status).where(attempts.c.event == event)
    row = connection.execute(query.order_by(attempts.c.attempt.desc()).limit(1)).one_or_none()
    return None if row is None else f"{row.verdict}, HTTP {row.status}" if row.status else row.verdict


def _letter(connection: sa.Connection, event: int) -> str | None:
    query = sa.select(dead_letters.c.detail).where(dead_letters.c.open_event == event)
    return connection.execute(query).scalar_one_or_none()


def _account(connection: sa.Connection, account: str, event_type: str, now: datetime) -> dict[str, Any]:
    query = sa.select(*COLUMNS, *_SAID).where(accounts.c.account == account)
    stored = connection.execute(query).one_or_none()
    if stored is None:
        return {}
    row = account_rows.row_of(stored)
    entry = row.types.types.get(event_type)
    return {
        "paused": Stopped(stored.paused_at, stored.pause_note, by=stored.paused_by) if stored.paused_at else None,
        "suspended": Stopped(stored.suspended_at, stored.suspend_reason, probe_at=stored.probe_at)
        if stored.suspended_at
        else None,
        "type_suspended": None
        if entry is None
        else Stopped(None, entry.get("reason"), probe_at=datetime.fromisoformat(entry["probe_at"])),
        "throttled_until": row.throttled_until,
        "breaker_open": not row.breaker.is_closed(),
        "proving": not row.trusted(now) and bool(busy(connection, [account])),
    }


def _account_free_at(
    connection: sa.Connection, account: str, row: AccountRow | None, quota: Quota, now: datetime
) -> datetime | None:
    ceiling = row.share.permits(quota.account, now) if row is not None and row.share is not None else None
    use = permits.use_of(connection, [account], now).get(account, Use())
    return use.next_free if use.left(quota, ceiling) == 0 else None


def _lead_free_at(connection: sa.Connection, row: sa.Row[Any], quota: Quota, now: datetime) -> datetime | None:
    if not quota.lead:
        return None
    used = sa.select(permits.lead_used()).select_from(events).where(events.c.id == row.id)
    if connection.execute(used, {"now": now}).scalar_one() < quota.lead:
        return None
    return permits.lead_next_free(connection, row.account, row.lead, now)
