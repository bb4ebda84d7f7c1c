"""What concerns all accounts at once, in one row: the breaker before RD Station as a whole, and a pause of everything.

Claims read it without a lock, and lock it only to send the one event that asks for all while the breaker is half-open.
Settlements lock it only if there is something to write: a failure, or a success after one. Whoever locks accounts too
locks them first.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.moment import statement_now
from dispatcher.outbox.settlement import Notice, Settlement
from dispatcher.outbox.tables import fleet
from dispatcher.outbox.transitions import Held
from dispatcher.policy.breaker import CLOSED
from dispatcher.policy.effects import FeedBreaker, RestBreaker
from dispatcher.policy.outage import WELL, Outage, worsen

ALL_ACCOUNTS = "*"
"""The account of a notice that concerns all; no account is called so."""

_HOLDS_KEPT = 64

WITH_CLOCK = sa.select(statement_now().label("clock"), fleet).select_from(
    sa.select(sa.literal_column("1").label("one")).subquery("always").outerjoin(fleet, sa.true())
)
"""One row, also where the table is empty. Read it by `seen`."""

_CHANGED = sa.update(fleet).where(fleet.c.id == 1)

Hold = tuple[datetime, datetime | None]


@dataclass(slots=True)
class FleetRow:
    """The row as somebody sees it.

    Attributes:
        outage: The breaker, and whose failures it has counted.
        probe: The attempt that asks for all; nobody else may try before `probe_until`.
        holds: When the breaker was open: no account's age counts then.
        paused_by: Who has paused all accounts, those to come included; None if nobody has.
    """

    outage: Outage = WELL
    probe: Held | None = None
    probe_until: datetime | None = None
    holds: tuple[Hold, ...] = ()
    paused_at: datetime | None = None
    paused_by: str | None = None
    pause_note: str | None = None

    def closed_until(self, now: datetime) -> datetime | None:
        """Nothing is claimed before; None if something may be."""
        breaker = self.outage.breaker
        if breaker.is_open(now):
            return breaker.open_until
        if not breaker.is_closed() and self.probe_until is not None and self.probe_until > now:
            return self.probe_until
        return None

    def all_holds(self) -> list[Hold]:
        """`holds`, with the one that still lasts."""
        since = self.outage.breaker.since
        return [*self.holds, *([(since, None)] if since is not None else [])]


def read(connection: sa.Connection) -> FleetRow:
    """The row as it is, without a lock."""
    return read_with_clock(connection)[0]


def read_with_clock(connection: sa.Connection) -> tuple[FleetRow, datetime]:
    """The row as it is, without a lock, and the database's time: the two that every claim and settlement asks for."""
    return seen(connection.execute(WITH_CLOCK).one())


def seen(row: Any) -> tuple[FleetRow, datetime]:
    """The fleet and the database's time, from a row that has what `WITH_CLOCK` selects."""
    return _row(row), row.clock


def lock_for_probe(connection: sa.Connection) -> FleetRow | None:
    """Lock the row for the one event that may try; None if somebody else holds it at this moment."""
    found = connection.execute(sa.select(fleet).with_for_update(skip_locked=True)).one_or_none()
    return None if found is None else _row(found)


def send_probe(connection: sa.Connection, probe: Held, until: datetime) -> None:
    """This attempt asks for all accounts; if nobody settles it, another may after its lease. Locked by the caller."""
    _write(connection, probe_event=probe.id, probe_attempt=probe.attempt, probe_until=until)


def hear(
    connection: sa.Connection,
    settled: Sequence[Settlement],
    seen: FleetRow,
    *,
    now: datetime,
    rng: random.Random,
    notify: Callable[[Notice], None],
) -> None:
    """What these attempts say about RD Station as a whole. The caller has locked the accounts it needs, and commits.

    `seen` is the row as the caller has read it in this transaction; if there is anything to write, it is locked first.
    """
    failed = any(isinstance(effect, FeedBreaker) for s in settled for effect in s.effects)
    if not failed and not seen.outage.noticed:
        return
    row = _row(connection.execute(sa.select(fleet).with_for_update()).one_or_none())
    before = outage = row.outage
    for s in settled:
        for effect in s.effects:
            if isinstance(effect, RestBreaker):
                outage = WELL
            elif isinstance(effect, FeedBreaker):
                outage = worsen(outage, s.account, now, rng)
    answered = row.probe is not None and any(s.held == row.probe for s in settled)
    if outage == before and not answered:
        return
    values: dict[str, Any] = {
        "breaker": None if outage.breaker == CLOSED else json.dumps(outage.breaker.as_dict()),
        "failing": json.dumps(outage.failing) if outage.failing else None,
    }
    if answered or outage.breaker != before.breaker:  # whatever was asked is answered, or has become pointless
        values |= {"probe_event": None, "probe_attempt": None, "probe_until": None}
    if before.breaker.since is not None and outage.breaker.is_closed():
        values["holds"] = _stored([*row.holds, (before.breaker.since, now)])
        notify(Notice(ALL_ACCOUNTS, "outage.ended", "RD Station answers again"))
    elif before.breaker.is_closed() and not outage.breaker.is_closed():
        names = ", ".join(outage.failing)
        notify(Notice(ALL_ACCOUNTS, "outage.began", f"several accounts fail alike, among them {names}"))
    _write(connection, **values)


def pause(connection: sa.Connection, *, by: str, note: str | None, now: datetime) -> None:
    """Accounts that nobody knows yet will begin paused. The known ones are paused one by one by the caller."""
    _write(connection, paused_at=now, paused_by=by, pause_note=note)


def resume(connection: sa.Connection) -> None:
    """Accounts that nobody knows yet begin open again."""
    _write(connection, paused_at=None, paused_by=None, pause_note=None)


def _write(connection: sa.Connection, **values: Any) -> None:
    connection.execute(_CHANGED, values)


def _stored(holds: Sequence[Hold]) -> str:
    kept = holds[-_HOLDS_KEPT:]
    return json.dumps([[start.isoformat(), end.isoformat()] for start, end in kept if end is not None])


def _row(row: Any) -> FleetRow:
    if row is None:  # a table that somebody has emptied
        return FleetRow()
    holds = [(datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in json.loads(row.holds or "[]")]
    return FleetRow(
        outage=Outage.from_stored(json.loads(row.breaker or "null"), json.loads(row.failing or "null")),
        probe=None if row.probe_event is None else Held(row.probe_event, row.probe_attempt),
        probe_until=row.probe_until,
        holds=tuple(holds),
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        pause_note=row.pause_note,
    )
