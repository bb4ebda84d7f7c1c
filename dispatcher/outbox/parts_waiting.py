"""Retired orders, carts and their lines that are to go out as one successor: how they wait for each other.

A line (`*_ITEM`) never goes alone. A claim that meets one takes it out of its lead's line and looks for its whole: the
whole will take it along (`parts_in_flight.py`), has ended without it, or never came. An order or cart waits a moment
itself, because shops enqueue the lines right after it. See docs/adr for the ways that were weighed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa

from dispatcher.events.succession import SUCCESSORS, Route, part_type, role
from dispatcher.events.translation import Missing, translate
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import dead_letters, transitions
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.candidates import Candidate
from dispatcher.outbox.dead_letters import Letter
from dispatcher.outbox.retirement import LegacyRules, whole_of_row
from dispatcher.outbox.sealing import is_sealed
from dispatcher.outbox.tables import events
from dispatcher.outbox.transitions import PENDING
from dispatcher.outbox.wake import IN_LINE, wake_lead
from dispatcher.policy.outcome import ProviderError

JOIN_WITHIN = timedelta(seconds=5)
"""An order or cart that is enqueued without lines of its own goes out no earlier than so long afterwards."""

WHOLE_WITHIN = timedelta(hours=1)
"""A line whose order or cart has not come after so long is a dead letter."""

_LOCKED_RETRY = timedelta(seconds=1)
_SEALED_RETRY = timedelta(minutes=1)
_LOOK_AGAIN = (timedelta(seconds=30), timedelta(hours=1))


class _Fate(Enum):
    WAIT = "its whole is on its way, or may still come"
    LATE = "its whole has ended without it"
    TAKEN_BACK = "the shop took its whole back unsent"
    STRANDED = "its whole never came"


def set_apart(
    connection: sa.Connection, account: AccountRow, window: list[Candidate], legacy: LegacyRules, now: datetime
) -> tuple[list[Candidate], bool]:
    """Take out of a window of candidates, which the caller has locked, what waits for others or ends here.

    Returns:
        The candidates that are left, and whether some have left their leads' lines: then claim again, for the others
        of those leads are not among the first.
    """
    parts: list[Candidate] = []
    wholes: list[Candidate] = []
    for row in window:
        kind = role(row.event_type)
        if kind is None or legacy.route(account, row.event_type) is not Route.TRANSLATED:
            continue
        over = row.moot or (row.expires_at is not None and row.expires_at <= now)
        if not over and not is_sealed(row.payload) and not is_sealed(row.attached):  # those the claim puts off
            (parts if kind == "part" else wholes).append(row)
    if not parts and not wholes:
        return window, False
    _decide(connection, account, parts, now)
    early = {row.id: row.created_at + JOIN_WITHIN for row in wholes if _may_get_lines(row, now)}
    held = _with_locked_parts(connection, account, [row for row in wholes if row.id not in early])
    early |= {event: now + wait for event, wait in held.items()}
    transitions.await_parts(connection, early)
    apart = early.keys() | {row.id for row in parts}
    moved = {row.lead for row in parts}  # what the window says of their lines is not so any more
    return [row for row in window if row.id not in apart and row.lead not in moved], bool(parts)


def says_its_lines(attached: str | None) -> bool:
    """True if an order or cart names its lines itself, so that no `*_ITEM` event is looked at."""
    try:
        beside = json.loads(attached) if attached else None
    except (ValueError, RecursionError):
        return False
    return isinstance(beside, dict) and beside.get("line_items") is not None


def waiting_parts(
    connection: sa.Connection, account: str, wholes: Collection[Candidate]
) -> dict[int, list[tuple[int, str, str, str | None]]]:
    """The pending lines of these orders and carts, in enqueue order, by the row of the whole. Locks those it can.

    Returns:
        For each line its row id, key, payload and attached JSON. Those that somebody else has locked are left out.
    """
    ids = _ids_of_parts(connection, account, wholes)
    if not ids:
        return {}
    query = sa.select(events.c.id, events.c.key, events.c.payload, events.c.attached)
    query = query.where(events.c.id.in_(sorted(ids)), events.c.state == PENDING).order_by(events.c.line_at, events.c.id)
    found: dict[int, list[tuple[int, str, str, str | None]]] = defaultdict(list)
    for row in connection.execute(query.with_for_update(skip_locked=True, key_share=True)):
        found[ids[row.id]].append((row.id, row.key, row.payload, row.attached))
    return found


def _may_get_lines(row: Candidate, now: datetime) -> bool:
    return now - row.created_at < JOIN_WITHIN and not says_its_lines(row.attached)


def _with_locked_parts(
    connection: sa.Connection, account: AccountRow, wholes: Sequence[Candidate]
) -> dict[int, timedelta]:
    """Wholes that cannot go with all their lines now, and when to look again.

    Somebody else has a line locked: a shop that changes it, or takes it back, right now. Or no key opens it.
    """
    theirs = [row for row in wholes if not says_its_lines(row.attached)]
    ids = _ids_of_parts(connection, account.account, theirs)
    if not ids:
        return {}
    ours = sa.select(events.c.id, events.c.payload, events.c.attached).where(
        events.c.id.in_(sorted(ids)), events.c.state == PENDING
    )
    locked = connection.execute(ours.with_for_update(skip_locked=True, key_share=True)).all()
    sealed = {ids[row.id] for row in locked if is_sealed(row.payload) or is_sealed(row.attached)}
    still = set(connection.scalars(ours)) - {row.id for row in locked}
    return dict.fromkeys(sealed, _SEALED_RETRY) | {ids[event]: _LOCKED_RETRY for event in still}


def _ids_of_parts(connection: sa.Connection, account: str, wholes: Iterable[Candidate]) -> dict[int, int]:
    """The pending lines of these wholes, each with the row of its whole; read without locks.

    A line without `whole`, of a foreign producer or an earlier release, is found through its lead.
    """
    by_hash = {name: row for row in wholes if (name := whole_of_row(row)) is not None}
    if not by_hash:
        return {}
    types = sorted({part_type(row.event_type) for row in by_hash.values()})
    common = [events.c.account == account, events.c.event_type.in_(types), events.c.state == PENDING]
    columns = (events.c.id, events.c.whole, events.c.event_type, events.c.payload)
    marked = sa.select(*columns).where(*common, events.c.whole.in_(sorted(by_hash)))
    leads = sorted({row.lead for row in by_hash.values()})
    unmarked = sa.select(*columns).where(*common, events.c.lead.in_(leads), IN_LINE, events.c.whole.is_(None))
    found: dict[int, int] = {}
    for row in [*connection.execute(marked), *connection.execute(unmarked)]:
        name = whole_of_row(row)
        whole = by_hash.get(name) if name is not None else None
        if whole is not None and part_type(whole.event_type) == row.event_type:
            found[row.id] = whole.id
    return found


def _decide(connection: sa.Connection, account: AccountRow, parts: Sequence[Candidate], now: datetime) -> None:
    if not parts:
        return
    names = {row.id: whole_of_row(row) for row in parts}
    wholes = _wholes(connection, account.account, {name for name in names.values() if name is not None})
    by_fate: dict[_Fate, list[Candidate]] = defaultdict(list)
    for row in parts:
        by_fate[_fate(wholes.get(names[row.id] or "", []), account.age_seconds(row.budget_from, now))].append(row)
    waiting = by_fate[_Fate.WAIT]
    _mark(connection, {row.id: name for row in waiting if row.whole is None and (name := names[row.id]) is not None})
    transitions.await_whole(connection, {row.id: now + _patience(now - row.created_at) for row in waiting})
    transitions.merge_late(connection, [row.id for row in by_fate[_Fate.LATE]])
    transitions.cancel(connection, [row.id for row in by_fate[_Fate.TAKEN_BACK]])
    _strand(connection, account.account, by_fate[_Fate.STRANDED])
    for lead in sorted({row.lead for row in parts if row.ordering == "lead"}):
        wake_lead(connection, account.account, lead)


def _fate(wholes: Sequence[sa.Row[Any]], age_seconds: float) -> _Fate:
    if not wholes:
        return _Fate.WAIT if age_seconds < WHOLE_WITHIN.total_seconds() else _Fate.STRANDED
    old = [whole for whole in wholes if whole.event_type in SUCCESSORS]
    if any(whole.state in {State.PENDING, State.IN_FLIGHT, State.DEAD} for whole in old):
        return _Fate.WAIT
    if all(
        (whole.state, whole.reason, whole.attempt) == (State.CANCELLED, Reason.CANCELLED.value, 0) for whole in wholes
    ):
        return _Fate.TAKEN_BACK  # with its whole it may be enqueued again
    return _Fate.LATE


def _wholes(connection: sa.Connection, account: str, names: Collection[str]) -> dict[str, list[sa.Row[Any]]]:
    """Every row that tells one of these orders or carts: under its default key, as a successor, or by `whole`."""
    types = [*SUCCESSORS, *SUCCESSORS.values()]
    columns = (
        events.c.id, events.c.fact, events.c.whole, events.c.event_type,
        events.c.state, events.c.reason, events.c.attempt,
    )  # fmt: skip
    query: sa.Select[Any] = sa.select(*columns).where(events.c.account == account, events.c.event_type.in_(types))
    found: dict[str, dict[int, sa.Row[Any]]] = defaultdict(dict)
    for column in (events.c.fact, events.c.whole):
        for row in connection.execute(query.where(column.in_(sorted(names)))) if names else ():
            found[getattr(row, column.name)][row.id] = row
    return {name: list(rows.values()) for name, rows in found.items()}


def _patience(age: timedelta) -> timedelta:
    """The longer it has waited, the less often it is looked at: a dead whole may take a person some days."""
    shortest, longest = _LOOK_AGAIN
    return min(max(age / 2, shortest), longest)


def _mark(connection: sa.Connection, names: dict[int, str]) -> None:
    if names:
        statement = sa.update(events).where(events.c.id == sa.bindparam("e_id")).values(whole=sa.bindparam("e_whole"))
        connection.execute(statement, [{"e_id": event, "e_whole": name} for event, name in sorted(names.items())])


def _strand(connection: sa.Connection, account: str, parts: Sequence[Candidate]) -> None:
    transitions.strand(connection, [row.id for row in parts])
    dead_letters.open_letters(
        connection,
        [
            Letter(
                event=row.id,
                account=account,
                event_type=row.event_type,
                reason=Reason.TYPE_RETIRED,
                detail="RD Station no longer takes this type, and what it would be a line of has not come",
                attempt=row.attempt,
                errors=_why_stranded(row),
            )
            for row in parts
        ],
    )


def _why_stranded(row: Candidate) -> tuple[ProviderError, ...]:
    try:
        payload = json.loads(row.payload)
    except (ValueError, RecursionError):
        payload = None
    alone = translate(row.event_type, payload if isinstance(payload, dict) else {})
    problems = alone.problems if isinstance(alone, Missing) else ()
    return tuple(ProviderError("REQUIRED", problem.message, problem.path) for problem in problems)
