"""A retired order or cart and its lines on their way as one successor: leased together, settled together.

The lines are `in_flight` with attempts of their own, so each is fenced, and a cancellation meanwhile is kept as for
any event. `sent_with` names the whole. They take no permit: RD Station sees one event. The sweep leaves them to their
whole, whose settlement, also that of a dead worker, brings theirs in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher.events.succession import SUCCESSORS, Route, role
from dispatcher.lifecycle import Reason
from dispatcher.outbox import transitions
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.among import among
from dispatcher.outbox.candidates import Candidate
from dispatcher.outbox.parts_waiting import says_its_lines, waiting_parts
from dispatcher.outbox.retirement import LegacyRules, Line, Retired, whole_of_row
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import attempts, events
from dispatcher.outbox.transitions import Held, Later, is_in_flight
from dispatcher.policy.decision import Complete
from dispatcher.policy.verdicts import Verdict

_LOOK_AGAIN = timedelta(seconds=30)
"""When a line is looked at again whose whole did not get through; the whole takes it along before, as a rule."""


def join(
    connection: sa.Connection,
    account: AccountRow,
    free: Sequence[Candidate],
    legacy: LegacyRules,
    *,
    lease_until: datetime,
    worker: str,
) -> dict[int, Retired]:
    """What the retired ones of these candidates, which are being leased, are sent with; leases their lines too."""
    retired = {row.id: row for row in free if role(row.event_type) is not None}
    if not retired:
        return {}
    routes = {event: legacy.route(account, row.event_type) for event, row in retired.items()}
    wholes = [
        row
        for row in retired.values()
        if routes[row.id] is Route.TRANSLATED and role(row.event_type) == "whole" and not says_its_lines(row.attached)
    ]
    found = waiting_parts(connection, account.account, wholes)
    names = {row.id: whole_of_row(row) for row in wholes}
    lines = {part[0]: (whole, names[whole]) for whole, parts in found.items() for part in parts}
    _lease(connection, lines, lease_until, worker)
    defaults = legacy.defaults_of(account)
    return {
        event: Retired(
            route=routes[event],
            translatable=legacy.mode == "auto",
            attached=row.attached,
            defaults=defaults,
            lines=tuple(Line(key, payload, attached) for _, key, payload, attached in found.get(event, ())),
        )
        for event, row in retired.items()
    }


def _lease(
    connection: sa.Connection, whole_of: Mapping[int, tuple[int, str | None]], lease_until: datetime, worker: str
) -> None:
    if not whole_of:
        return
    # First out of the lead's line, in which only one may be in flight. Once out of it, the next try of the whole finds
    # it by `whole` only.
    statement = sa.update(events).where(events.c.id == sa.bindparam("e_id"))
    sent_with = sa.bindparam("e_row", type_=sa.BigInteger)
    statement = statement.values(ordering="none", sent_with=sent_with, whole=sa.bindparam("e_whole"))
    rows = [{"e_id": part, "e_row": row, "e_whole": name} for part, (row, name) in sorted(whole_of.items())]
    connection.execute(statement, rows)
    transitions.claim(connection, sorted(whole_of), lease_until=lease_until, worker=worker)


@dataclass(frozen=True, slots=True)
class FlyingPart:
    """One line in flight: its attempt, its whole's row, whether it was cancelled meanwhile, whether it is ours now."""

    held: Held
    whole: int
    cancelled: bool
    locked: bool


def flying_with(connection: sa.Connection, settlements: Collection[Settlement]) -> list[FlyingPart]:
    """The lines in flight with the orders and carts that are settled, locked where nobody else holds them."""
    wholes = sorted({s.held.id for s in settlements if s.event_type in SUCCESSORS})
    if not wholes:
        return []
    query, of_wholes = _flying_with(connection.dialect.name), {"ids": wholes}
    ids = [row.id for row in connection.execute(query, of_wholes)]
    if not ids:
        return []
    mine = query.where(events.c.id.in_(ids)).with_for_update(skip_locked=True, key_share=True)
    locked = {row.id: row for row in connection.execute(mine, of_wholes)}
    rows = {row.id: row for row in connection.execute(query, of_wholes)} | locked  # what ended meanwhile is in neither
    return [
        FlyingPart(Held(row.id, row.attempt), row.sent_with, row.cancel_reason is not None, row.id in locked)
        for row in rows.values()
    ]


@cache
def _flying_with(dialect: str) -> sa.Select[Any]:
    query = sa.select(events.c.id, events.c.attempt, events.c.sent_with, events.c.cancel_reason)
    return query.where(among(dialect, events.c.sent_with), is_in_flight()).order_by(events.c.id)


def settle_parts(
    connection: sa.Connection, ours: Sequence[Settlement], parts: Sequence[FlyingPart], *, now: datetime, worker: str
) -> None:
    """What becomes of the lines with their wholes: delivered with them, or back to wait for the next try."""
    by_whole = {s.held.id: s for s in ours}
    delivered: dict[Held, str | None] = {}
    back: list[Later] = []
    withdrawn: list[Held] = []
    for part in parts:
        whole = by_whole[part.whole]
        if isinstance(whole.decision, Complete):
            delivered[part.held] = whole.decision.event_uuid
        elif part.cancelled:
            withdrawn.append(part.held)
        else:
            due = now + _LOOK_AGAIN
            back.append(Later(part.held, due, failed=False, postponed=0, reason=transitions.AWAITS_WHOLE))
    transitions.complete(connection, delivered, now=now, reason=Reason.MERGED)
    transitions.release(connection, back)
    transitions.withdraw(connection, withdrawn, now=now)
    freed = [held.id for held in [*(later.held for later in back), *withdrawn]]
    if freed:
        statement = sa.update(events).where(among(connection.dialect.name, events.c.id)).values(sent_with=None)
        connection.execute(statement, {"ids": freed})
    rows = [_attempt_row(part, by_whole[part.whole], now, worker) for part in parts]
    if rows:
        connection.execute(sa.insert(attempts), rows)


def _attempt_row(part: FlyingPart, whole: Settlement, now: datetime, worker: str) -> dict[str, Any]:
    done = isinstance(whole.decision, Complete)
    return {
        "event": part.held.id,
        "attempt": part.held.attempt,
        "verdict": (Verdict.DELIVERED if done else Verdict.RELEASED).value,
        "sent_as": whole.sent_as,
        "detail": f"as a line of {whole.key}" if done else f"with {whole.key}, whose attempt was {whole.verdict}",
        "status": whole.outcome.status if done and whole.outcome else None,
        "worker": worker,
        "ended_at": now,
    }
