"""A look at one account's candidates: which come next, and why one may go and another may not.

The shape of the look is measured in docs/adr/0003: its cost depends on the rows taken, not on the backlog, and each
blocked event is met once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import permits
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.candidates import candidates
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.ledger import is_remembered
from dispatcher.outbox.moot import is_moot
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.sealing import is_sealed
from dispatcher.outbox.tables import events
from dispatcher.outbox.wake import IN_LINE, flying, oldest_pending

LOOK_AT_MOST = 2000
"""Candidates looked at in one claim of one account, so that a lead's long line bounds the claim too."""


@dataclass(slots=True)
class Look:
    """What a look at one account's candidates found."""

    free: list[sa.Row[Any]] = field(default_factory=list)
    blocked: dict[int, int] = field(default_factory=dict)
    parked: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    outlived: list[int] = field(default_factory=list)
    over_lead_limit: list[tuple[int, str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)

    def gone(self) -> list[int]:
        """Events that have left their leads' lines here, so that the next ones are to be woken."""
        return [*self.expired, *self.superseded, *self.known, *self.outlived, *self.parked]


def next_ready(connection: sa.Connection, account: str) -> tuple[datetime | None, datetime | None]:
    """When the first candidate of each lane is due, those that may be ahead and those guessed to be behind.

    A moment in the past if it is due already, None if there is none. Cheap beside a window: a look begins with it.
    """
    ahead, behind = connection.execute(_first_of_each_lane(connection.dialect.name), {"account": account}).one()
    return ahead, behind


@cache
def _first_of_each_lane(dialect: str) -> sa.Select[Any]:
    lanes = [candidates(dialect, [events.c.ready_at], behind) for behind in (0, 1)]
    return sa.select(*(lane.where(events.c.ready_at.is_not(None)).limit(1).scalar_subquery() for lane in lanes))


def soonest(first: Sequence[datetime | None], now: datetime) -> datetime | None:
    """When an account whose candidates are first due then wants to be looked at; now, if it is in the past."""
    moments = [moment for moment in first if moment is not None]
    return max(min(moments), now) if moments else None


def window(
    connection: sa.Connection,
    account: str,
    behind: int,
    quota: Quota,
    now: datetime,
    after: sa.Row[Any] | None,
    size: int,
) -> tuple[int, sa.Row[Any] | None, Sequence[sa.Row[Any]]]:
    """The next candidates of a lane: how many there are, the last one, and those that nobody else has locked."""
    dialect, per_lead = connection.dialect.name, quota.lead > 0
    here = {"account": account, "now": now, "size": size}
    if after is not None:
        here |= {"after": after.ready_at, "after_id": after.id}
    if dialect not in MYSQL:
        rows = connection.execute(_window(dialect, behind, per_lead, after is not None), here).all()
        return len(rows), rows[-1] if rows else None, rows
    # InnoDB locks the record behind a range as well: the next account's first candidate, which that account's own
    # claim would then pass over. So the range is read without locks, and the rows are locked by their ids.
    ids = connection.execute(_range(dialect, behind, after is not None), here).all()
    if not ids:
        return 0, None, []
    rows = connection.execute(_in_range(per_lead), {"ids": [row.id for row in ids], "now": now}).all()
    return len(ids), ids[-1], rows


@cache
def _window(dialect: str, behind: int, per_lead: bool, later: bool) -> sa.Select[Any]:
    query = candidates(dialect, candidate_columns(per_lead), behind).where(*_here(later)).limit(_SIZE)
    return query.with_for_update(skip_locked=True, key_share=True)


@cache
def _range(dialect: str, behind: int, later: bool) -> sa.Select[Any]:
    return candidates(dialect, [events.c.id, events.c.ready_at], behind).where(*_here(later)).limit(_SIZE)


@cache
def _in_range(per_lead: bool) -> sa.Select[Any]:
    ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
    query = sa.select(*candidate_columns(per_lead)).where(events.c.id.in_(ids), *_here(later=False))
    query = query.order_by(events.c.ready_at, events.c.id).with_hint(events, "FORCE INDEX (PRIMARY)")
    return query.with_for_update(skip_locked=True)


_SIZE = sa.bindparam("size", type_=sa.Integer)


def _here(later: bool) -> list[sa.ColumnElement[bool]]:
    """Due, and if `later`, not the rows this transaction has been through."""
    due, after = events.c.ready_at <= sa.bindparam("now"), sa.bindparam("after", type_=events.c.ready_at.type)
    beyond = sa.or_(events.c.ready_at > after, events.c.id > sa.bindparam("after_id"))
    return [due, events.c.ready_at >= after, beyond] if later else [due]


def candidate_columns(per_lead: bool) -> list[sa.ColumnElement[Any]]:
    """What a claim must know of a candidate, with what stands before it. Bind `now`.

    Args:
        per_lead: A lead has a limit, so that its permits in use are counted.
    """
    used: sa.ColumnElement[int] = permits.lead_used() if per_lead else sa.literal_column("0", sa.Integer)
    return [*_of_every_candidate(), used.label("lead_used")]


@cache
def _of_every_candidate() -> tuple[sa.ColumnElement[Any], ...]:
    """Made once: with ten thousand accounts, making them for each look cost more than the look."""
    return (
        events.c.id,
        events.c.event_id,
        events.c.lead,
        events.c.event_type,
        events.c.key,
        events.c.payload,
        events.c.attached,
        events.c.whole,
        events.c.created_at,
        events.c.attempt,
        events.c.failures,
        events.c.postponed,
        events.c.reason,
        events.c.ready_at,
        events.c.expires_at,
        events.c.budget_from,
        events.c.ordering,
        events.c.subject,
        events.c.traceparent,
        sa.case((IN_LINE, oldest_pending(events)), else_=None).label("oldest"),
        sa.case((IN_LINE, flying(events)), else_=None).label("flying"),
        is_moot(events).label("moot"),
        is_remembered(events).label("known"),
    )


def sort_out(window: Collection[sa.Row[Any]], account: AccountRow, rules: ClaimRules, now: datetime, want: int) -> Look:
    """What may go, and why the others may not. Changes nothing but the account's probe times."""
    look, quota = Look(), rules.quota_of(account)
    counted: dict[str, int] = {}
    for row in window:
        if row.expires_at is not None and row.expires_at <= now:
            look.expired.append(row.id)
        elif row.known:
            look.known.append(row.id)
        elif row.moot:
            look.superseded.append(row.id)
        elif row.flying is not None or (row.oldest is not None and row.oldest != row.id):
            look.blocked[row.id] = row.flying or row.oldest
        elif account.age_seconds(row.budget_from, now) > rules.max_age.total_seconds():
            look.outlived.append(row.id)
        elif len(look.free) >= want:
            continue  # stays a candidate
        elif is_sealed(row.payload) or is_sealed(row.attached):
            look.unreadable.append(row.id)
        elif quota.lead and row.lead_used + counted.get(row.lead, 0) >= quota.lead:
            look.over_lead_limit.append((row.id, row.lead))
        elif not account.types.may_send(row.event_type, now, rules.probe_every):
            look.parked.append(row.id)
        else:
            counted[row.lead] = counted.get(row.lead, 0) + 1
            look.free.append(row)
    return look
