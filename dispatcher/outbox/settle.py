"""Settling: what became of the attempts, written in one short transaction, fenced by their numbers.

The worker settles what it sent, the sweep what a dead worker left; both bring decisions, this applies them.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, assert_never

import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import dead_letters, fleet, parts_in_flight, permits, transitions
from dispatcher.outbox.account_effects import apply_effects
from dispatcher.outbox.among import among
from dispatcher.outbox.dead_letters import Letter
from dispatcher.outbox.each import Each
from dispatcher.outbox.settlement import Settled, Settlement
from dispatcher.outbox.tables import attempts, events
from dispatcher.outbox.transitions import Held, Later
from dispatcher.outbox.wake import wake
from dispatcher.policy.decision import Bury, Complete, Release, Reschedule
from dispatcher.policy.effects import ParkLead
from dispatcher.policy.verdicts import Verdict

_TEXT_CAP = 2000


class _Stored(NamedTuple):
    """What the row of an attempt says that the worker cannot know."""

    cancel_reason: str | None
    available_at: datetime


def settle(
    connection: sa.Connection,
    settlements: Sequence[Settlement],
    *,
    probe_every: timedelta,
    worker: str,
    rng: random.Random,
) -> Settled:
    """Apply decisions and effects. The caller commits.

    Nothing here waits for a shop's transaction: rows that somebody else has locked are answered as `busy`.
    """
    result = Settled()
    asked = {settlement.held: settlement for settlement in settlements}  # an old and a new attempt may come together
    ids = sorted({held.id for held in asked})
    locked = connection.execute(_locked_in_flight(connection.dialect.name), {"ids": ids}).all()
    stored = {held: _Stored(*rest) for row, attempt, *rest in locked if (held := Held(row, attempt)) in asked}
    ours = [asked[held] for held in stored]
    parts = parts_in_flight.flying_with(connection, ours)
    held_up = {part.whole for part in parts if not part.locked}
    result.busy += [s for s in ours if s.held.id in held_up]
    ours, parts = [s for s in ours if s.held.id not in held_up], [part for part in parts if part.whole not in held_up]
    _sort_out_the_rest(connection, [s for s in asked.values() if s.held not in stored], result)
    if not ours:
        return result
    everybody, now = fleet.read_with_clock(connection)
    _settle_permits(connection, ours, now)
    notify = result.notices.append
    ours, idle = apply_effects(connection, ours, now=now, probe_every=probe_every, rng=rng, notify=notify)
    fleet.hear(connection, ours, everybody, now=now, rng=rng, notify=notify)
    _write_attempts(connection, ours, now, worker)  # first: PostgreSQL's look at the key finds the row locked by us
    _write_states(connection, ours, stored, now)
    parts_in_flight.settle_parts(connection, ours, parts, now=now, worker=worker)
    result.done = ours
    result.owed, woken = wake(connection, [s.held.id for s in ours])
    gone = {s.held.id for s in ours if isinstance(s.decision, Complete)} - set(result.owed)
    result.again = woken | {s.account for s in ours if s.account not in idle or s.held.id not in gone}
    return result


@cache
def _locked_in_flight(dialect: str) -> sa.Select[Any]:
    query = sa.select(events.c.id, events.c.attempt, events.c.cancel_reason, events.c.available_at)
    query = query.where(among(dialect, events.c.id), transitions.is_in_flight()).order_by(events.c.id)
    return query.with_for_update(skip_locked=True, key_share=True)


def _settle_permits(connection: sa.Connection, ours: Iterable[Settlement], now: datetime) -> None:
    counted = [s for s in ours if s.quota.counted]
    answered = {s.held: s.quota for s in counted if s.answered}  # what else was sent counts from its lease's end
    refused = {s.held for s in counted if s.verdict is Verdict.THROTTLED}
    permits.use(connection, answered, refused=refused, now=now)
    permits.give_back(connection, [s.held for s in counted if not s.sent])


def _sort_out_the_rest(connection: sa.Connection, missing: Sequence[Settlement], result: Settled) -> None:
    if not missing:
        return
    query = sa.select(events.c.id, events.c.attempt)
    query = query.where(among(connection.dialect.name, events.c.id), transitions.is_in_flight())
    rows = connection.execute(query, {"ids": [s.held.id for s in missing]})
    still_ours = {Held(row.id, row.attempt) for row in rows}
    for settlement in missing:
        (result.busy if settlement.held in still_ours else result.lost).append(settlement)


def _write_states(
    connection: sa.Connection, ours: Iterable[Settlement], stored: dict[Held, _Stored], now: datetime
) -> None:
    completed: dict[Reason | None, dict[Held, str | None]] = defaultdict(dict)
    buried: dict[Held, Reason] = {}
    letters: list[Letter] = []
    again: list[Later] = []
    back: list[Later] = []
    withdrawn: list[Held] = []
    for s in ours:
        row = stored[s.held]
        if row.cancel_reason is not None and not isinstance(s.decision, Complete):
            withdrawn.append(s.held)
            continue
        match s.decision:
            case Complete(event_uuid, reason):
                completed[reason][s.held] = event_uuid
            case Reschedule(delay, failed, streak, _):
                later = now + timedelta(seconds=delay)
                again.append(Later(s.held, later, failed=failed, postponed=streak, reason=s.verdict.value))
            case Release():
                parked = [effect.seconds for effect in s.effects if isinstance(effect, ParkLead)]
                due = now + timedelta(seconds=parked[0]) if parked else row.available_at
                reason_word = None if s.verdict is Verdict.RELEASED else s.verdict.value
                back.append(Later(s.held, due, failed=False, postponed=0, reason=reason_word))
            case Bury(reason, why):
                buried[s.held] = reason
                errors = s.outcome.errors if s.outcome else ()
                letters.append(
                    Letter(s.held.id, s.account, s.event_type, reason, why[:_TEXT_CAP], s.held.attempt, errors)
                )
            case _:
                assert_never(s.decision)
    for reason, group in completed.items():
        transitions.complete(connection, group, now=now, reason=reason)
    transitions.reschedule(connection, again)
    transitions.release(connection, back)
    transitions.bury(connection, buried, now=now)
    transitions.withdraw(connection, withdrawn, now=now)
    dead_letters.open_letters(connection, letters)


def _write_attempts(connection: sa.Connection, ours: Iterable[Settlement], now: datetime, worker: str) -> None:
    rows = [
        {
            "event": s.held.id,
            "attempt": s.held.attempt,
            "verdict": s.verdict.value,
            "sent_as": s.sent_as,
            "stage": None if s.outcome is None else s.outcome.stage.name.lower(),
            "status": None if s.outcome is None else s.outcome.status,
            "detail": (s.why or (s.outcome.detail if s.outcome else None) or "")[:_TEXT_CAP] or None,
            "errors": json.dumps([error.as_dict() for error in s.outcome.errors])
            if s.outcome and s.outcome.errors
            else None,
            "excerpt": None if s.outcome is None else s.outcome.excerpt,
            "seconds": None if s.outcome is None else s.outcome.seconds,
        }
        for s in ours
    ]
    types = {name: attempts.c[name].type for name in rows[0]}
    Each(connection, rows, types).insert(attempts, worker=worker, ended_at=now)
