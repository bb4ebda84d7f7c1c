"""The accounts' rows: what holds an account back, and what it is trusted with. Whose turn it is: `turns.py`.

Claims lock an account's row, so its limits and holds are judged by one claim at a time. Producers never touch it:
an account that appears first in an event gets its row from a claim or a sweep.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import fleet
from dispatcher.outbox.among import bind, named
from dispatcher.outbox.dialect_insert import MYSQL, conflict_insert, duplicate_insert
from dispatcher.outbox.moment import Moment, statement_now
from dispatcher.outbox.tables import accounts
from dispatcher.policy.age import age_seconds
from dispatcher.policy.breaker import CLOSED, Breaker, feed
from dispatcher.policy.share import Share
from dispatcher.policy.streaks import Streak

TRUST_FOR = timedelta(seconds=45)
"""After a success an account may send in parallel for so long; then one event proves the credentials again."""

_HOLDS_KEPT = 64


@dataclass(slots=True)
class SuspendedTypes:
    """The event types of one account that are not sent, each with its reason and the time of its next probe."""

    types: dict[str, dict[str, str]] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def from_json(cls, stored: str | None) -> SuspendedTypes:
        """What the row holds."""
        return cls(json.loads(stored) if stored else {})

    def to_json(self) -> str | None:
        """What the row is to hold."""
        return json.dumps(self.types) if self.types else None

    def may_send(self, event_type: str, now: datetime, probe_every: timedelta) -> bool:
        """True if the type is open, or if one event of it may go out now as its probe (that moves the next probe)."""
        entry = self.types.get(event_type)
        if entry is None:
            return True
        if datetime.fromisoformat(entry["probe_at"]) > now:
            return False
        entry["probe_at"] = (now + probe_every).isoformat()
        self.changed = True
        return True

    def next_probe(self) -> datetime | None:
        """When the next of them may be probed."""
        return min((datetime.fromisoformat(entry["probe_at"]) for entry in self.types.values()), default=None)


@dataclass(slots=True)
class AccountRow:
    """One account as a claim or a settlement sees it, under its lock."""

    account: str
    turn_at: datetime | None
    paused_at: datetime | None
    suspended_at: datetime | None
    throttled_until: datetime | None
    proven_until: datetime | None
    types: SuspendedTypes
    streaks: dict[str, Any]
    holds: list[tuple[datetime, datetime | None]]
    breaker: Breaker
    per_minute: int | None = None
    lead_per_day: int | None = None
    share: Share | None = None
    retired_types: dict[str, str] = field(default_factory=dict)
    currency: str | None = None
    checkout_url_template: str | None = None
    streaks_changed: bool = False

    def is_held(self) -> bool:
        """True if a person or the system stopped the account; nothing but `resume` or a probe opens it."""
        return self.paused_at is not None or self.suspended_at is not None

    def trusted(self, now: datetime) -> bool:
        """True if its credentials have worked lately, so that many events may be in flight at once."""
        return self.proven_until is not None and self.proven_until > now

    def is_throttled(self, now: datetime) -> bool:
        """True if RD Station, or an open breaker, has closed the account until a time that is still to come."""
        return self.throttled_until is not None and self.throttled_until > now

    def age_seconds(self, since: datetime, now: datetime) -> float:
        """How long an event could have been sent since then; the account's holds left out."""
        return age_seconds(since, now, self.holds) if self.holds else max(0.0, (now - since).total_seconds())

    def streak(self, event_type: str) -> Streak:
        """Equal rejections in a row of this type."""
        return Streak.from_dict(self.streaks.get(event_type))

    def set_streak(self, name: str, value: object) -> None:
        """Remember a count; `write_streaks` stores it."""
        self.streaks[name] = value
        self.streaks_changed = True

    def clear_streaks(self, *names: str) -> None:
        """Start these counts again; `write_streaks` stores it."""
        for name in names:
            self.streaks_changed |= self.streaks.pop(name, None) is not None


COLUMNS = (
    accounts.c.account,
    accounts.c.turn_at,
    accounts.c.paused_at,
    accounts.c.suspended_at,
    accounts.c.throttled_until,
    accounts.c.proven_until,
    accounts.c.suspended_types,
    accounts.c.streaks,
    accounts.c.holds,
    accounts.c.breaker,
    accounts.c.per_minute,
    accounts.c.lead_per_day,
    accounts.c.share,
    accounts.c.retired_types,
    accounts.c.currency,
    accounts.c.checkout_url_template,
)


THIS = accounts.c.account == sa.bindparam("a_name")
"""The account that is bound as `a_name`: no column's name, so that an UPDATE takes the other values for its own."""

_NAMED = sa.select(*COLUMNS).where(accounts.c.account.in_(sa.bindparam("names", expanding=True)))
_CHANGED = sa.update(accounts).where(THIS)


def ensure(connection: sa.Connection, names: Iterable[str]) -> None:
    """Create rows for accounts that have none yet, due at once or paused with all others. Harmless when two do it."""
    rows = [{"account": name} for name in sorted(set(names))]
    if not rows:
        return
    everybody = fleet.read(connection)
    values: dict[str, Any] = {"turn_at": statement_now()}
    if everybody.paused_at is not None:
        paused = {"paused_at": everybody.paused_at, "paused_by": everybody.paused_by}
        values = paused | {"pause_note": everybody.pause_note}
    dialect = connection.dialect.name
    if dialect in MYSQL:
        known = duplicate_insert(accounts).values(values)
        connection.execute(known.on_duplicate_key_update(account=accounts.c.account), rows)
    else:
        connection.execute(conflict_insert(dialect, accounts).values(values).on_conflict_do_nothing(), rows)


def read(connection: sa.Connection, names: Collection[str]) -> list[AccountRow]:
    """Accounts as they are, without a lock; those without a row are left out."""
    if not names:
        return []
    return [row_of(row) for row in connection.execute(_NAMED, {"names": sorted(names)})]


def lock(connection: sa.Connection, account: str) -> AccountRow:
    """Lock one account's row, creating it if it is not there yet."""
    return lock_all(connection, [account])[account]


def lock_all(connection: sa.Connection, names: Collection[str]) -> dict[str, AccountRow]:
    """Lock these accounts' rows in the order of their names, creating those that are not there yet."""
    if not names:
        return {}
    wanted = sorted(names)
    query = _locked(connection.dialect.name, one=len(wanted) == 1)
    found = {row.account: row_of(row) for row in connection.execute(query, bind(wanted))}
    if len(found) < len(wanted):
        ensure(connection, wanted)
        found = {row.account: row_of(row) for row in connection.execute(query, bind(wanted))}
    return found


@cache
def _locked(dialect: str, *, one: bool) -> sa.Select[Any]:
    query = sa.select(*COLUMNS).where(named(dialect, accounts.c.account, one=one))
    name: sa.ColumnElement[str] = accounts.c.account
    if dialect == "postgresql":
        name = sa.collate(name, "C")  # as Python sorts
    return query.order_by(name).with_for_update(key_share=True)


@dataclass(frozen=True, slots=True)
class Glance:
    """What a settlement must know of an account before it locks its row; most settlements then need not.

    Attributes:
        marked: It has counts in a row, suspended types, a breaker's count or a cut share.
        proven_until: Its trust ends then.
        queued: It is known to have work, now or later.
    """

    marked: bool
    proven_until: datetime | None
    queued: bool

    def is_stale(self, now: datetime) -> bool:
        """True once half of the trust is used up, or there is none."""
        return self.proven_until is None or self.proven_until < now + TRUST_FOR / 2


def glance(connection: sa.Connection, names: Sequence[str]) -> dict[str, Glance]:
    """Look at these accounts, at least one, without a lock; those that have no row are left out."""
    query = _glances(connection.dialect.name, one=len(names) == 1)
    rows = connection.execute(query, bind(names))
    return {account: Glance(bool(marked), proven, turn_at is not None) for account, marked, proven, turn_at in rows}


_MARKS = (accounts.c.streaks, accounts.c.suspended_types, accounts.c.breaker, accounts.c.share)


@cache
def _glances(dialect: str, *, one: bool) -> sa.Select[Any]:
    marked = sa.case((sa.or_(*(mark.is_not(None) for mark in _MARKS)), 1), else_=0)
    seen = sa.select(accounts.c.account, marked, accounts.c.proven_until, accounts.c.turn_at)
    return seen.where(named(dialect, accounts.c.account, one=one))


def prove(connection: sa.Connection, names: Sequence[str], now: datetime) -> None:
    """A send of each succeeded: trust their credentials for a while. Writes only where the trust is half used up.

    What was held back while one event proved them may go now; an account with nothing left stays out of the queue.
    The rows are locked.
    """
    if names:
        values = {"now": now, "stale": now + TRUST_FOR / 2, "proven_until": now + TRUST_FOR}
        connection.execute(_proven(connection.dialect.name, one=len(names) == 1), values | bind(names))


@cache
def _proven(dialect: str, *, one: bool) -> sa.Update:
    stale = sa.or_(accounts.c.proven_until.is_(None), accounts.c.proven_until < sa.bindparam("stale"))
    turn = sa.case((accounts.c.turn_at.is_not(None), sa.bindparam("now", type_=Moment())), else_=None)
    until = sa.bindparam("proven_until", type_=Moment())
    return (
        sa.update(accounts)
        .where(named(dialect, accounts.c.account, one=one), stale)
        .values(turn_at=turn, proven_until=until)
    )


def throttle(connection: sa.Connection, account: str, until: datetime) -> None:
    """RD Station said that the account's window is used up: no claims until then, or until it said before."""
    shorter = sa.or_(accounts.c.throttled_until.is_(None), accounts.c.throttled_until < until)
    statement = sa.update(accounts).where(accounts.c.account == account, shorter)
    connection.execute(statement.values(throttled_until=until, turn_at=until))


def write_share(connection: sa.Connection, row: AccountRow, share: Share | None) -> None:
    """Store what is ours of the account's window; None: all of it. The row is locked."""
    row.share = share
    write(connection, row.account, {"share": json.dumps(share.as_dict()) if share else None})


def write_probe_times(connection: sa.Connection, row: AccountRow) -> None:
    """Store when the suspended types may be probed next, which a claim has moved. The row is locked."""
    write(connection, row.account, {"suspended_types": row.types.to_json()})


def write_streaks(connection: sa.Connection, row: AccountRow) -> None:
    """Store the counts in a row that the caller has changed."""
    write(connection, row.account, {"streaks": json.dumps(row.streaks) if row.streaks else None})


def suspend(
    connection: sa.Connection, account: str, *, reason: str, detail: str, now: datetime, probe_at: datetime
) -> bool:
    """Stop the account until a probe succeeds; answers whether it was open before. Spends nothing of its events."""
    statement = sa.update(accounts).where(accounts.c.account == account, accounts.c.suspended_at.is_(None))
    return (
        connection.execute(
            statement.values(
                suspended_at=now,
                suspend_reason=reason,
                suspend_detail=detail,
                probe_at=probe_at,
                proven_until=None,
                turn_at=None,
            )
        ).rowcount
        > 0
    )


def end_suspension(connection: sa.Connection, account: str, now: datetime) -> None:
    """A probe succeeded: open again, one event at a time until the first success."""
    row = lock(connection, account)
    if row.suspended_at is None:
        return
    write(
        connection,
        account,
        {
            "suspended_at": None,
            "suspend_reason": None,
            "suspend_detail": None,
            "probe_at": row.types.next_probe(),
            "proven_until": None,
            "turn_at": now,
            "holds": _with_hold(row, row.suspended_at, now),
        },
    )


def pause(connection: sa.Connection, account: str, *, by: str, note: str | None, now: datetime) -> bool:
    """A person stops the account; answers False if it was paused already."""
    known = read(connection, [account])
    row = lock(connection, account)
    if row.paused_at is not None:
        return not known  # one that appears while all are paused begins so
    write(connection, account, {"paused_at": now, "paused_by": by, "pause_note": note, "turn_at": None})
    return True


def resume(connection: sa.Connection, account: str, *, now: datetime) -> bool:
    """A person lets the account go on; answers False if it was not paused. A suspension stays until its probe."""
    row = lock(connection, account)
    if row.paused_at is None:
        return False
    values = {"paused_at": None, "paused_by": None, "pause_note": None, "turn_at": now}
    write(connection, account, {**values, "holds": _with_hold(row, row.paused_at, now)})
    return True


def feed_breaker(connection: sa.Connection, row: AccountRow, now: datetime, rng: random.Random) -> bool:
    """Count a failure of RD Station's for this account; answers whether that has opened the breaker. Locked."""
    before, row.breaker = row.breaker, feed(row.breaker, now, rng)
    if row.breaker == before:
        return False
    values: dict[str, Any] = {"breaker": json.dumps(row.breaker.as_dict())}
    if row.breaker.is_open(now):  # then one event at a time, until one succeeds
        values |= {"throttled_until": row.breaker.open_until, "turn_at": row.breaker.open_until, "proven_until": None}
    write(connection, row.account, values)
    return before.is_closed() and row.breaker.is_open(now)


def rest_breaker(connection: sa.Connection, row: AccountRow, now: datetime) -> bool:
    """RD Station answered for itself: close the breaker; answers whether it was not closed. Locked by the caller."""
    before, row.breaker = row.breaker, CLOSED
    if before == CLOSED:
        return False
    values: dict[str, Any] = {"breaker": None}
    if before.since is not None:
        values |= {"turn_at": now, "holds": _with_hold(row, before.since, now)}
    write(connection, row.account, values)
    return before.since is not None


def suspend_type(
    connection: sa.Connection, row: AccountRow, event_type: str, *, reason: str, detail: str, probe_at: datetime
) -> None:
    """Send nothing of this type for this account; one event of it probes at `probe_at`. The row is locked."""
    row.types.types[event_type] = {"reason": reason, "detail": detail, "probe_at": probe_at.isoformat()}
    _write_types(connection, row)


def open_type(connection: sa.Connection, row: AccountRow, event_type: str) -> None:
    """The type's probe succeeded. The row is locked; the caller wakes what was parked."""
    del row.types.types[event_type]
    _write_types(connection, row)


def set_probe(connection: sa.Connection, account: str, probe_at: datetime | None) -> None:
    """When the account or one of its types is probed next. Locked by the caller."""
    write(connection, account, {"probe_at": probe_at})


def _write_types(connection: sa.Connection, row: AccountRow) -> None:
    """Store the suspended types and their next probe; a suspended account keeps its own, or nothing would end it."""
    probe_at = sa.case((accounts.c.suspended_at.is_not(None), accounts.c.probe_at), else_=row.types.next_probe())
    statement = sa.update(accounts).where(accounts.c.account == row.account)
    connection.execute(statement.values(suspended_types=row.types.to_json(), probe_at=probe_at))


def write(connection: sa.Connection, account: str, values: dict[str, Any]) -> None:
    """Change columns of one account to these values. Locked by the caller, where that matters."""
    connection.execute(_CHANGED, {"a_name": account, **values})


def _with_hold(row: AccountRow, start: datetime, end: datetime) -> str:
    ended = [[start.isoformat(), end.isoformat()] for start, end in [*row.holds, (start, end)] if end is not None]
    return json.dumps(ended[-_HOLDS_KEPT:])


def row_of(row: Any) -> AccountRow:
    """An account from a row that begins with `COLUMNS`."""
    (
        account, turn_at, paused_at, suspended_at, throttled_until, proven_until, types, streaks, stored_holds, breaker,
        per_minute, lead_per_day, share, retired_types, currency, checkout_url_template,
    ) = row[: len(COLUMNS)]  # fmt: skip  # by place: a claim reads fifty rows, and a row looks every name up
    found = Breaker.from_dict(json.loads(breaker)) if breaker else CLOSED
    holds: list[tuple[datetime, datetime | None]] = []
    if stored_holds:
        for start, end in json.loads(stored_holds):
            holds.append((datetime.fromisoformat(start), datetime.fromisoformat(end)))
    holds += [(start, None) for start in (paused_at, suspended_at, found.since) if start is not None]
    return AccountRow(
        account=account,
        turn_at=turn_at,
        paused_at=paused_at,
        suspended_at=suspended_at,
        throttled_until=throttled_until,
        proven_until=proven_until,
        types=SuspendedTypes.from_json(types),
        streaks=json.loads(streaks) if streaks else {},
        holds=holds,
        breaker=found,
        per_minute=per_minute,
        lead_per_day=lead_per_day,
        share=Share.from_dict(json.loads(share)) if share else None,
        retired_types=json.loads(retired_types) if retired_types else {},
        currency=currency,
        checkout_url_template=checkout_url_template,
    )
