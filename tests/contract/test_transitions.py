"""Every transition from every state, on each database: only its sources change, and a late worker changes nothing.

Rows and SQL are real; nothing is doubled.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dispatcher.lifecycle import TRANSITIONS, Reason, State, Transition
from dispatcher.outbox import transitions
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import attempts, events
from dispatcher.outbox.transitions import Held, Later
from tests.contract.outbox_under_test import LEASE, OutboxUnderTest

Verb = Callable[[sa.Connection, int, int], int]


def _later(event: int, attempt: int, connection: sa.Connection) -> list[Later]:
    due = read_clock(connection) + timedelta(seconds=9)
    return [Later(Held(event, attempt), due, failed=True, postponed=2, reason="unavailable")]


def _claim(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.claim(c, [event], lease_until=read_clock(c) + LEASE, worker="w")


def _complete(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.complete(c, {Held(event, attempt): "receipt"}, now=read_clock(c))


def _reschedule(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.reschedule(c, _later(event, attempt, c))


def _release(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.release(c, _later(event, attempt, c))


def _bury(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.bury(c, {Held(event, attempt): Reason.REJECTED}, now=read_clock(c))


def _withdraw(c: sa.Connection, event: int, attempt: int) -> int:
    transitions.mark_cancelled(c, [event], Reason.SUPERSEDED)
    return transitions.withdraw(c, [Held(event, attempt)], now=read_clock(c))


def _defer(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.defer(c, [event], until=read_clock(c) + timedelta(hours=1), reason="lead_limited")


def _await_parts(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.await_parts(c, {event: read_clock(c) + timedelta(seconds=5)})


def _await_whole(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.await_whole(c, {event: read_clock(c) + timedelta(seconds=30)})


def _replay(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.replay(c, [event], content={"payload": '{"corrected": 1}'})


def _replace(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.replace(c, event, {"payload": '{"other": 1}'})


def _revive(c: sa.Connection, event: int, attempt: int) -> int:
    return transitions.revive(c, event, {"payload": '{"again": 1}', "ready_at": events.c.available_at})


def _by_id(verb: Callable[[sa.Connection, list[int]], int]) -> Verb:
    return lambda connection, event, _: verb(connection, [event])


OF_NONE: dict[str, Callable[[sa.Connection], int]] = {
    "claim": lambda c: transitions.claim(c, [], lease_until=read_clock(c), worker="w"),
    "complete": lambda c: transitions.complete(c, {}, now=read_clock(c)),
    "reschedule": lambda c: transitions.reschedule(c, []),
    "bury": lambda c: transitions.bury(c, {}, now=read_clock(c)),
    "withdraw": lambda c: transitions.withdraw(c, [], now=read_clock(c)),
    "await_parts": lambda c: transitions.await_parts(c, {}),
    "cancel": lambda c: transitions.cancel(c, []),
}
"""Each way in which a transition is told of no event."""

VERBS: dict[str, Verb] = {
    "claim": _claim,
    "complete": _complete,
    "reschedule": _reschedule,
    "release": _release,
    "bury": _bury,
    "withdraw": _withdraw,
    "defer": _defer,
    "await_parts": _await_parts,
    "await_whole": _await_whole,
    "cancel": _by_id(transitions.cancel),
    "supersede": _by_id(transitions.supersede),
    "recognise": _by_id(transitions.recognise),
    "expire": _by_id(transitions.expire),
    "outlive": _by_id(transitions.outlive),
    "merge_late": _by_id(transitions.merge_late),
    "strand": _by_id(transitions.strand),
    "replace": _replace,
    "revive": _revive,
    "replay": _replay,
    "discard": _by_id(transitions.discard),
    "confirm": _by_id(transitions.confirm),
    "forget": _by_id(transitions.forget),
}


def test_every_declared_transition_is_tested_here() -> None:
    assert sorted(VERBS) == sorted(transition.name for transition in TRANSITIONS)


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_a_transition_changes_rows_in_its_sources_and_no_others(
    outbox: OutboxUnderTest, transition: Transition
) -> None:
    ids = dict(zip(State, outbox.add_all([{"state": state} for state in State]), strict=True))
    before = outbox.rows()
    for state, event in ids.items():
        with outbox.engine.begin() as connection:
            changed = VERBS[transition.name](connection, event, before[event]["attempt"])
        after = outbox.row(event)
        if state in transition.sources:
            assert (changed, after.state) == (1, transition.target), state
        else:
            assert changed == 0, state
            marked = {"cancel_reason": None}  # `mark_cancelled` is no transition
            assert dict(after._mapping) | marked == before[event] | marked


@pytest.mark.parametrize(
    "transition",
    [transition for transition in TRANSITIONS if transition.fenced],
    ids=lambda transition: transition.name,
)
def test_a_worker_with_an_older_attempt_number_changes_nothing(outbox: OutboxUnderTest, transition: Transition) -> None:
    event = outbox.add(state=State.IN_FLIGHT, attempt=3)
    before = outbox.rows()[event]
    for stale in (1, 2, 4):
        with outbox.engine.begin() as connection:
            if transition.name == "withdraw":
                assert transitions.withdraw(connection, [Held(event, stale)], now=read_clock(connection)) == 0
            else:
                assert VERBS[transition.name](connection, event, stale) == 0
    assert outbox.rows()[event] == before


@pytest.mark.parametrize("name", OF_NONE)
def test_of_no_events_none_change(outbox: OutboxUnderTest, name: str) -> None:
    outbox.add_all([{"state": state} for state in State])
    before = outbox.rows()
    with outbox.engine.begin() as connection:
        assert OF_NONE[name](connection) == 0
    assert outbox.rows() == before


@pytest.mark.parametrize(
    ("verb", "is_now"),
    [
        (_await_parts, ("awaits_parts", "lead", 0)),
        (_await_whole, ("awaits_whole", "none", 0)),
        (_defer, ("lead_limited", "lead", 1)),
    ],
)
def test_what_is_put_off_is_a_candidate_again_when_it_is_due(
    outbox: OutboxUnderTest, verb: Verb, is_now: tuple[str, str, int]
) -> None:
    event = outbox.add(behind=1)
    before = outbox.row(event)
    with outbox.engine.begin() as connection:
        now = read_clock(connection)
        assert verb(connection, event, 0) == 1
    row = outbox.row(event)
    assert row.available_at == row.ready_at > now + timedelta(seconds=4)
    assert (row.line_at, row.attempt, row.failures) == (before.line_at, 0, 0)
    assert (row.reason, row.ordering, row.behind) == is_now


def test_of_many_attempts_settled_at_once_only_those_still_held_change(outbox: OutboxUnderTest) -> None:
    held, stale, ended = outbox.add_all(
        [{"state": State.IN_FLIGHT}, {"state": State.IN_FLIGHT, "attempt": 2}, {"state": State.DELIVERED}]
    )
    with outbox.engine.begin() as connection:
        changed = transitions.complete(
            connection, {Held(event, 1): "r" for event in (held, stale, ended)}, now=read_clock(connection)
        )
    assert changed == 1
    assert outbox.states(held, stale, ended) == ["delivered", "in_flight", "delivered"]


def test_a_claim_numbers_the_attempt_and_takes_the_event_out_of_the_candidates(outbox: OutboxUnderTest) -> None:
    event = outbox.add(attempt=4, failures=2, reason="unavailable")
    with outbox.engine.begin() as connection:
        _claim(connection, event, 4)
    row = outbox.row(event)
    assert (row.attempt, row.failures, row.ready_at, row.leased_by, row.reason) == (5, 2, None, "w", None)
    assert row.lease_until > outbox.now()


def test_a_retry_keeps_its_place_and_a_replay_takes_the_last_one(outbox: OutboxUnderTest) -> None:
    retried, dead = outbox.add_all([{"state": State.IN_FLIGHT}, {"state": State.DEAD, "failures": 1}])
    places = {event: outbox.row(event).line_at for event in (retried, dead)}
    with outbox.engine.begin() as connection:
        _reschedule(connection, retried, 1)
        _replay(connection, dead, 1)
    again, replayed = outbox.row(retried), outbox.row(dead)
    assert again.line_at == places[retried]
    assert (again.ready_at, again.failures, again.postponed) == (again.available_at, 1, 2)
    assert replayed.line_at > places[dead]
    assert (replayed.attempt, replayed.failures, replayed.reason, replayed.ended_at) == (1, 0, None, None)
    assert replayed.ready_at == replayed.available_at == replayed.line_at == replayed.budget_from


def test_withdrawing_keeps_the_reason_that_was_set_in_flight(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state=State.IN_FLIGHT, reason="unavailable")
    with outbox.engine.begin() as connection:
        _withdraw(connection, event, 1)
    row = outbox.row(event)
    assert (row.state, row.reason, row.cancel_reason, row.lease_until) == ("cancelled", "superseded", None, None)


def test_only_what_the_shop_cancelled_before_it_could_arrive_can_be_revived(outbox: OutboxUnderTest) -> None:
    may_be_there, superseded, refused, unrecorded = outbox.add_all(
        [
            {"state": State.CANCELLED, "attempt": 1},
            {"state": State.CANCELLED, "reason": Reason.SUPERSEDED.value},
            {"state": State.CANCELLED, "attempt": 2},
            {"state": State.CANCELLED, "attempt": 2},
        ]
    )
    tries = [(may_be_there, 1, "uncertain"), (refused, 1, "throttled"), (refused, 2, "unavailable")]
    with outbox.engine.begin() as connection:
        rows = [{"event": event, "attempt": number, "verdict": verdict} for event, number, verdict in tries]
        connection.execute(sa.insert(attempts).values(ended_at=read_clock(connection)), rows)
        revived = [_revive(connection, event, 0) for event in (may_be_there, superseded, unrecorded, refused)]
    assert revived == [0, 0, 0, 1]
    assert outbox.states(may_be_there, superseded, unrecorded, refused) == [*["cancelled"] * 3, "pending"]


@pytest.mark.parametrize("verb", [_revive, _replay])
def test_what_comes_back_begins_its_counts_anew_and_its_attempts_go_on(outbox: OutboxUnderTest, verb: Verb) -> None:
    past, counts = outbox.now() - timedelta(days=1), {"failures": 2, "postponed": 1, "behind": 1, "attempt": 2}
    state = State.CANCELLED if verb is _revive else State.DEAD
    event = outbox.add(state=state, created_at=past, **counts)
    with outbox.engine.begin() as connection:
        rows = [{"event": event, "attempt": number, "verdict": "unavailable", "ended_at": past} for number in (1, 2)]
        connection.execute(sa.insert(attempts), rows)
        assert verb(connection, event, 2) == 1
    row = outbox.row(event)
    assert (row.state, row.attempt, row.reason, row.ended_at) == ("pending", 2, None, None)
    assert (row.failures, row.postponed, row.behind) == (0, 0, 0)
    assert (row.created_at > past) == (verb is _revive), "the shop has enqueued it just now"


def test_marking_cancelled_touches_no_event_that_is_not_in_flight(outbox: OutboxUnderTest) -> None:
    ids = outbox.add_all([{"state": state} for state in State])
    with outbox.engine.begin() as connection:
        assert transitions.mark_cancelled(connection, ids, Reason.FORGOTTEN) == 1
    marked = {row["state"] for row in outbox.rows().values() if row["cancel_reason"] is not None}
    assert marked == {"in_flight"}
