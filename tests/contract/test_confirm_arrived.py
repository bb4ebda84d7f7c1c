"""What may have arrived: a person says that it did, sends it again, and finds exactly these in the reports.

Rows and SQL are real; the judgement is the policy's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from dispatcher.lifecycle import Reason
from dispatcher.outbox import operations
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.overview import overview
from dispatcher.outbox.queries import Criteria, list_events, read_events
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.transaction import reading
from dispatcher.policy.decision import Bury, Reschedule
from dispatcher.policy.outcome import Outcome, Stage
from dispatcher.policy.verdicts import Verdict
from tests.contract.outbox_under_test import OutboxUnderTest, buried, delivered, settlement

ME = Signature("ana", "it stands in the lead's timeline")


def _held(event: Claimed) -> Settlement:
    decision = Bury(Reason.HELD_UNCERTAIN, "no answer")
    return settlement(event, decision, Verdict.UNCERTAIN, outcome=Outcome(Stage.WRITTEN))


def _resent(event: Claimed, verdict: Verdict = Verdict.UNCERTAIN) -> Settlement:
    decision = Reschedule(0, counts_failure=True, unreachable_streak=0, why="no answer")
    return settlement(event, decision, verdict, outcome=Outcome(Stage.WRITTEN))


def test_what_a_person_found_in_rd_station_ends_delivered_and_says_by_whom(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    outbox.settle(*map(_held, outbox.claim_all()))
    died_at = outbox.now() - timedelta(days=1)
    outbox.set(event, ended_at=died_at)
    done = operations.confirm(outbox.engine, [event], ME)
    assert (done.changed, done.refused) == (1, [])
    row = outbox.row(event)
    assert row.ended_at > died_at, "delivered since a person has said so"
    assert (row.state, row.reason, row.event_uuid, row.attempt) == ("delivered", "arrived", None, 1)
    (view,) = reading(outbox.engine, lambda connection: read_events(connection, [event]))
    (letter,) = view.dead_letters
    assert (letter.resolution, letter.resolved_by, letter.note) == ("arrived", "ana", ME.note)
    assert letter.resolved_at is not None
    assert outbox.claim_all() == [], "it is not sent again"


def test_what_cannot_have_arrived_is_refused_and_left_as_it_is(outbox: OutboxUnderTest) -> None:
    rejected = outbox.add()
    outbox.settle(*map(buried, outbox.claim_all()))
    sent = outbox.add()
    outbox.settle(*map(delivered, outbox.claim_all()))
    done = operations.confirm(outbox.engine, [rejected, sent], ME)
    assert done.changed == 0
    assert ["cannot have arrived" in refusal.problem for refusal in done.refused] == [True, False]
    assert outbox.states(rejected, sent) == ["dead", "delivered"]


def test_a_description_confirms_those_that_may_have_arrived_and_no_others(outbox: OutboxUnderTest) -> None:
    held = outbox.add_all([{}, {}])
    outbox.settle(*map(_held, outbox.claim_all()))
    rejected = outbox.add()
    outbox.settle(*map(buried, outbox.claim_all()))
    done = operations.confirm(outbox.engine, Criteria(account="default"), ME)
    assert (done.changed, len(done.refused)) == (2, 1)
    assert outbox.states(*held, rejected) == ["delivered", "delivered", "dead"]


def test_sent_again_it_is_one_more_attempt_of_the_same_event(outbox: OutboxUnderTest) -> None:
    event = outbox.add()
    outbox.settle(*map(_held, outbox.claim_all()))
    operations.replay(outbox.engine, [event], ME)
    (again,) = outbox.claim_all()
    outbox.settle(delivered(again))
    row = outbox.row(event)
    assert (row.state, row.attempt, row.event_uuid) == ("delivered", 2, "uuid-of-rd")


@pytest.mark.alone("it asks of the whole outbox")
def test_the_reports_list_exactly_what_may_have_arrived_twice(outbox: OutboxUnderTest) -> None:
    resent, abandoned, held, fine = outbox.add_all([{}, {}, {}, {}])
    fates: dict[int, Callable[[Claimed], Settlement]] = {
        resent: _resent,
        abandoned: partial(_resent, verdict=Verdict.ABANDONED),
        held: _held,
        fine: delivered,
    }
    outbox.settle(*(fates[event.id](event) for event in outbox.claim_all()))
    outbox.settle(*map(delivered, outbox.claim_all()))  # the second try of those that are sent again

    def listed(reason: str) -> list[int]:
        return sorted(view.id for view in list_events(outbox.engine, Criteria(reason=reason)))

    assert listed("uncertain") == sorted([resent, held]), "also what was delivered in the end"
    assert listed("abandoned") == [abandoned]
    assert listed("held_uncertain") == [held]
    seen = reading(outbox.engine, overview)
    assert (seen.uncertain, seen.abandoned) == (2, 1)
    assert seen.reasons == {"dead": {"held_uncertain": 1}}
    assert outbox.states(fine) == ["delivered"]
