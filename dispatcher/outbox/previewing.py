"""What a replay would do, before it is done: how many, and how many of them should give pause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import account_rows
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.moot import is_moot
from dispatcher.outbox.permits import NO_LIMITS, Quota
from dispatcher.outbox.queries import Criteria, open_letters_meeting
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.tables import events, permits
from dispatcher.outbox.transaction import reading
from dispatcher.outbox.unsure import has_attempt, may_have_arrived
from dispatcher.policy.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Preview:
    """The events that are meant, before anything is changed. One event may be in several counts.

    Attributes:
        count: How many dead events.
        reasons: How many of each reason.
        delivered: Meant by name, or with an attempt that RD Station accepted: nothing is to be sent for them.
        uncertain: With an uncertain or abandoned attempt: a replay may make a second copy.
        expired: Too old: their business age has passed, a replay of them ends `cancelled: expired`.
        superseded: Moot by another event: a replay of them ends `cancelled: superseded`.
        invalid: Cannot be replayed as they are: their envelope must be corrected first.
        over_lead_limit: More than their leads may receive today: these go out tomorrow.
        waiting: Events that wait already, and go out before or beside them.
    """

    count: int
    reasons: dict[str, int] = field(default_factory=dict)
    delivered: int = 0
    uncertain: int = 0
    expired: int = 0
    superseded: int = 0
    invalid: int = 0
    over_lead_limit: int = 0
    waiting: int = 0

    @property
    def sent(self) -> int:
        """How many of them will go out, today or tomorrow."""
        return max(0, self.count - self.expired - self.superseded - self.invalid - self.delivered)

    def finish_seconds(self, per_minute: int) -> float | None:
        """How long it takes at this rate; None: there is no limit."""
        return self.sent * 60 / per_minute if per_minute else None


def quota_for(engine: sa.Engine, account: str, limits: Configured) -> Quota:
    """The limits of one account, which may have some of its own."""
    rows = reading(engine, lambda connection: account_rows.read(connection, [account]))
    return limits.quota_of(rows[0].per_minute, rows[0].lead_per_day) if rows else limits.quota_of(None, None)


def preview(engine: sa.Engine, chosen: Criteria | Sequence[int], quota: Quota = NO_LIMITS) -> Preview:
    """Look at the dead events that are meant; changes nothing."""
    return reading(engine, lambda connection: _look(connection, chosen, quota))


def _number(condition: sa.ColumnElement[bool], name: str) -> sa.Label[Any]:
    return sa.func.sum(sa.case((condition, 1), else_=0)).label(name)


def _look(connection: sa.Connection, chosen: Criteria | Sequence[int], quota: Quota) -> Preview:
    now = read_clock(connection)
    which = (
        open_letters_meeting(chosen)
        if isinstance(chosen, Criteria)
        else [letters.c.open_event.is_not(None), letters.c.open_event.in_(list(chosen))]
    )
    meant = sa.select(letters.c.reason).join(events, events.c.id == letters.c.open_event).where(*which)
    query = meant.add_columns(
        sa.func.count().label("number"),
        _number(events.c.expires_at <= now, "expired"),
        _number(may_have_arrived(), "unsure"),
        _number(has_attempt(Verdict.DELIVERED), "arrived"),
        _number(is_moot(events), "moot"),
    ).group_by(letters.c.reason)
    rows = connection.execute(query).all()
    reasons = {row.reason: row.number for row in rows}
    return Preview(
        count=sum(reasons.values()),
        reasons=reasons,
        delivered=sum(int(row.arrived) for row in rows) + _ended_well(connection, chosen),
        uncertain=sum(int(row.unsure) for row in rows),
        expired=sum(int(row.expired) for row in rows),
        superseded=sum(int(row.moot) for row in rows),
        invalid=reasons.get(Reason.INVALID, 0),
        over_lead_limit=_over_lead_limit(connection, which, quota, now) if quota.lead else 0,
        waiting=_waiting(connection, chosen),
    )


def _ended_well(connection: sa.Connection, chosen: Criteria | Sequence[int]) -> int:
    if isinstance(chosen, Criteria):
        return 0  # criteria mean dead events only
    query = sa.select(sa.func.count()).where(events.c.id.in_(list(chosen)), events.c.state == State.DELIVERED.value)
    return int(connection.execute(query).scalar_one())


def _over_lead_limit(connection: sa.Connection, which: list[Any], quota: Quota, now: Any) -> int:
    """How many are more than what is left today, lead by lead."""
    line = (
        sa.select(events.c.account, events.c.lead, sa.func.count().label("number"))
        .select_from(letters)
        .join(events, events.c.id == letters.c.open_event)
        .where(*which)
        .group_by(events.c.account, events.c.lead)
        .subquery("line")
    )
    used = (
        sa.select(sa.func.count())
        .where(permits.c.account == line.c.account, permits.c.lead == line.c.lead, permits.c.lead_counts_until > now)
        .correlate(line)
        .scalar_subquery()
    )
    rows = connection.execute(sa.select(line.c.number, used.label("used")).where(line.c.number + used > quota.lead))
    return sum(min(row.number, row.number + row.used - quota.lead) for row in rows)


def _waiting(connection: sa.Connection, chosen: Criteria | Sequence[int]) -> int:
    query = sa.select(sa.func.count()).where(events.c.state == sa.literal_column(f"'{State.PENDING}'", sa.String))
    if isinstance(chosen, Criteria) and chosen.account is not None:
        query = query.where(events.c.account == chosen.account)
    return int(connection.execute(query).scalar_one())
