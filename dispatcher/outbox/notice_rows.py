"""Notices: one row for each thing worth telling, so that a fleet of workers tells it once, and once when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dispatcher.outbox.dialect_insert import MYSQL, conflict_insert
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.tables import dead_letters, notices
from dispatcher.policy.notices import DEAD_WITHIN_SECONDS, Condition, Kind

LOOK_EVERY = timedelta(seconds=15)
"""The whole fleet looks so often, whoever of it comes first."""

OVER_AFTER = timedelta(seconds=90)
"""What was not so for so long is over: a breaker that opens and closes by the minute is one notice, not twenty."""

_LOOK = "(look)"  # the row that says when the fleet looked last
_TRY_AGAIN = timedelta(seconds=30)
_TRY_AGAIN_AT_MOST = timedelta(minutes=30)
_LEASE = timedelta(seconds=60)
_TRIES = 60  # a bit more than a day


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """One notice. `state` is what is to be told of it: "raised" or "resolved"."""

    kind: str
    account: str
    subject: str
    state: str
    detail: str
    raised_at: datetime
    resolved_at: datetime | None
    tries: int


def may_look(connection: sa.Connection) -> bool:
    """Whether it is this caller who looks now; the others of the fleet need not for `LOOK_EVERY`."""
    now = read_clock(connection)
    if connection.execute(_LOOKED, {"before": now - LOOK_EVERY, "seen_at": now}).rowcount:
        return True
    row = {"kind": _LOOK, "account": "", "subject": "", "detail": "", "raised_at": now, "seen_at": now}
    return _insert(connection, row | {"resolved_at": now})


_LOOKED = sa.update(notices).where(notices.c.kind == _LOOK, notices.c.seen_at <= sa.bindparam("before"))


def observe(
    connection: sa.Connection, found: Iterable[Condition], *, tell: bool
) -> tuple[list[NoticeRow], list[NoticeRow]]:
    """Bring the rows up to what is so; answers what was raised and what was resolved by this call. The caller commits.

    Two callers at once are harmless: each change is guarded by what it changes, so only one of them makes it.

    Args:
        connection: In a transaction.
        found: All that is so now.
        tell: Whether there is a webhook to tell.
    """
    now = read_clock(connection)
    raised = [condition for condition in found if _raise(connection, condition, now, tell=tell)]
    over = connection.execute(_UNSEEN, {"before": now - OVER_AFTER}).all()
    resolved = [row for row in over if _resolve(connection, row, now, tell=tell)]
    return (
        [NoticeRow(c.kind.value, c.account, c.subject, "raised", c.detail, now, None, 0) for c in raised],
        [_row(row, "resolved", resolved_at=now) for row in resolved],
    )


_UNSEEN = sa.select(notices).where(notices.c.resolved_at.is_(None), notices.c.seen_at <= sa.bindparam("before"))


def somebody_waits(connection: sa.Connection) -> bool:
    """Whether a notice is to be told now. One look into an index."""
    return connection.execute(sa.select(1).where(notices.c.tell_at <= statement_now()).limit(1)).first() is not None


def take_to_tell(connection: sa.Connection, *, at_most: int = 5) -> list[NoticeRow]:
    """Notices that the webhook is to hear now; nobody else tries them for a while. The caller commits, then tells.

    So few that all of them can be told within that while, even if the webhook hangs.
    """
    now = read_clock(connection)
    query = sa.select(notices).where(notices.c.tell_at <= now).order_by(notices.c.tell_at).limit(at_most)
    rows = connection.execute(query.with_for_update(skip_locked=True)).all()
    for row in rows:
        connection.execute(_this(row.kind, row.account, row.subject).values(tell_at=now + _LEASE))
    return [_row(row, row.to_tell) for row in rows]


def told(connection: sa.Connection, row: NoticeRow) -> None:
    """The webhook knows. If the notice has moved on meanwhile, what it is now is still to be told."""
    connection.execute(_as_taken(row).values(to_tell=None, tell_at=None, tries=0))


def not_told(connection: sa.Connection, row: NoticeRow) -> bool:
    """The webhook did not take it: later again; answers False if that was the last try."""
    if row.tries + 1 >= _TRIES:
        told(connection, row)
        return False
    wait = min(_TRY_AGAIN * 2 ** min(row.tries, 10), _TRY_AGAIN_AT_MOST)
    connection.execute(_as_taken(row).values(tell_at=read_clock(connection) + wait, tries=row.tries + 1))
    return True


def open_by_kind(connection: sa.Connection) -> dict[str, int]:
    """How many notices of each kind are raised and not resolved."""
    kinds = connection.scalars(sa.select(notices.c.kind).where(notices.c.resolved_at.is_(None)))
    counted = Counter(kinds)
    return {kind.value: counted[kind.value] for kind in Kind}


def untold(connection: sa.Connection, *, tries: int) -> int:
    """How many notices the webhook has not taken in so many tries or more."""
    query = sa.select(sa.func.count()).select_from(notices).where(notices.c.tries >= tries)
    return int(connection.execute(query).scalar_one())


def dead_lately(connection: sa.Connection, now: datetime) -> int:
    """Letters that were opened within the time that "growing" means, and are open still."""
    since = now - timedelta(seconds=DEAD_WITHIN_SECONDS)
    return int(connection.execute(_OPENED_LATELY, {"since": since}).scalar_one())


_OPENED_LATELY = (
    sa.select(sa.func.count())
    .select_from(dead_letters)
    .where(dead_letters.c.created_at >= sa.bindparam("since"), dead_letters.c.open_event.is_not(None))
)


def _raise(connection: sa.Connection, condition: Condition, now: datetime, *, tell: bool) -> bool:
    key = (condition.kind.value, condition.account, condition.subject)
    fresh = {
        "detail": condition.detail,
        "raised_at": now,
        "seen_at": now,
        "resolved_at": None,
        "to_tell": "raised" if tell else None,
        "tell_at": now if tell else None,
        "tries": 0,
    }
    if connection.execute(_this(*key).where(notices.c.resolved_at.is_(None)).values(seen_at=now)).rowcount:
        return False
    if connection.execute(_this(*key).where(notices.c.resolved_at.is_not(None)).values(fresh)).rowcount:
        return True
    return _insert(connection, dict(zip(("kind", "account", "subject"), key, strict=True)) | fresh)


def _resolve(connection: sa.Connection, row: sa.Row[tuple[object, ...]], now: datetime, *, tell: bool) -> bool:
    still = _this(row.kind, row.account, row.subject).where(
        notices.c.resolved_at.is_(None), notices.c.seen_at == row.seen_at
    )
    told = {"to_tell": "resolved", "tell_at": now} if tell else {"to_tell": None, "tell_at": None}
    values = {"resolved_at": now, "tries": 0, **told}
    return connection.execute(still.values(values)).rowcount > 0


def _this(kind: str, account: str, subject: str) -> sa.Update:
    return sa.update(notices).where(notices.c.kind == kind, notices.c.account == account, notices.c.subject == subject)


def _as_taken(row: NoticeRow) -> sa.Update:
    return _this(row.kind, row.account, row.subject).where(
        notices.c.to_tell == row.state, notices.c.raised_at == row.raised_at
    )


def _row(row: sa.Row[tuple[object, ...]], state: str, *, resolved_at: datetime | None = None) -> NoticeRow:
    return NoticeRow(
        kind=row.kind,
        account=row.account,
        subject=row.subject,
        state=state,
        detail=row.detail,
        raised_at=row.raised_at,
        resolved_at=resolved_at or row.resolved_at,
        tries=row.tries,
    )


def _insert(connection: sa.Connection, row: dict[str, object]) -> bool:
    """Insert unless somebody else did so at this moment; answers whether it was us."""
    dialect = connection.dialect.name
    if dialect in MYSQL:
        return connection.execute(sa.insert(notices).prefix_with("IGNORE"), row).rowcount > 0
    written = conflict_insert(dialect, notices).on_conflict_do_nothing().returning(notices.c.kind)
    return connection.execute(written, row).first() is not None
