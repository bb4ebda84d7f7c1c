"""Decisions about the event. Real: everything. Doubled: the random numbers, which always draw the ceiling."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.lifecycle import Reason
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget, Bury, Complete, Decision, EventFacts, Release, Reschedule, decide
from dispatcher.policy.verdict import HoldScope, Judgement
from dispatcher.policy.verdicts import Verdict


class Ceiling(random.Random):
    """Makes every delay its ceiling."""

    def random(self) -> float:
        return 0.0


BUDGET = Budget(max_failures=12, max_age_seconds=604_800, backoff=Backoff(2, 900))
FACTS = EventFacts(event_type="ORDER_PLACED", lead="a" * 64, failures=0, age_seconds=30, on_uncertain="resend")
COUNTED = [Verdict.UNAVAILABLE, Verdict.UNCERTAIN, Verdict.ABANDONED]
HELD = [Verdict.MISCONFIGURED, Verdict.REFUSED, Verdict.THROTTLED, Verdict.LEAD_THROTTLED, Verdict.RELEASED]


def decided(verdict: Verdict, *, seconds: float | None = None, **facts: Any) -> Decision:
    return decide(Judgement(verdict, "why", seconds=seconds), FACTS._replace(**facts), BUDGET, Ceiling())


def rescheduled(verdict: Verdict, *, seconds: float | None = None, **facts: Any) -> Reschedule:
    decision = decided(verdict, seconds=seconds, **facts)
    assert isinstance(decision, Reschedule)
    return decision


def buried(verdict: Verdict, **facts: Any) -> Bury:
    decision = decided(verdict, **facts)
    assert isinstance(decision, Bury)
    return decision


@pytest.mark.parametrize(("uuid", "reason"), [("3f0c", None), (None, Reason.UUID_UNKNOWN)])
def test_delivered_completes_and_says_when_there_is_no_receipt(uuid: str | None, reason: Reason | None) -> None:
    judgement = Judgement(Verdict.DELIVERED, "why", event_uuid=uuid)
    exhausted = FACTS._replace(failures=99, age_seconds=1e9, on_uncertain="hold")
    assert decide(judgement, exhausted, BUDGET, Ceiling()) == Complete(uuid, reason)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Verdict.REJECTED, Reason.REJECTED),
        (Verdict.TOO_LARGE, Reason.TOO_LARGE),
        (Verdict.MALFORMED, Reason.MALFORMED),
        (Verdict.UNTRANSLATABLE, Reason.TYPE_RETIRED),
        (Verdict.TYPE_RETIRED, Reason.TYPE_RETIRED),
    ],
)
def test_what_no_try_can_change_is_buried_at_once(verdict: Verdict, reason: Reason) -> None:
    assert decided(verdict) == Bury(reason, "why")


def test_a_retired_type_that_can_be_translated_goes_back_for_it() -> None:
    assert decided(Verdict.TYPE_RETIRED, translatable=True) == Release("why")


@pytest.mark.parametrize("verdict", HELD)
def test_trouble_of_the_account_gives_the_event_back_whatever_its_budget_and_age(verdict: Verdict) -> None:
    assert decided(verdict, failures=99, age_seconds=1e9, on_uncertain="hold") == Release("why")


@pytest.mark.parametrize("verdict", [Verdict.UNAVAILABLE, Verdict.UNCERTAIN])
@pytest.mark.parametrize(("failures", "delay"), [(0, 2), (1, 4), (8, 512), (9, 900), (10, 900)])
def test_a_failure_counts_and_waits_by_the_number_of_failures_with_it(
    verdict: Verdict, failures: int, delay: float
) -> None:
    again = rescheduled(verdict, failures=failures, unreachable_streak=7)
    assert again == Reschedule(delay, counts_failure=True, unreachable_streak=0, why="why")


@pytest.mark.parametrize("verdict", COUNTED)
def test_the_last_failure_of_the_budget_ends_it_and_the_one_before_does_not(verdict: Verdict) -> None:
    assert rescheduled(verdict, failures=10).counts_failure
    assert buried(verdict, failures=11) == Bury(
        Reason.TOO_MANY_FAILURES, "gave up after 12 failures (MAX_FAILURES=12): why"
    )


def test_a_budget_of_one_failure_gives_up_at_the_first() -> None:
    once = replace(BUDGET, max_failures=1)
    decision = decide(Judgement(Verdict.UNAVAILABLE, "why"), FACTS, once, Ceiling())
    assert isinstance(decision, Bury)


@pytest.mark.parametrize("verdict", [*COUNTED, Verdict.UNREACHABLE])
def test_the_age_ends_it_exactly_at_the_maximum_and_the_text_has_the_figures(verdict: Verdict) -> None:
    assert isinstance(decided(verdict, age_seconds=604_799.9), Reschedule)
    assert buried(verdict, age_seconds=604_800) == Bury(
        Reason.TOO_OLD, "gave up at an age of 604800 s (MAX_AGE_SECONDS=604800): why"
    )


def test_when_both_are_used_up_the_count_is_named() -> None:
    assert buried(Verdict.UNAVAILABLE, failures=11, age_seconds=1e9).reason is Reason.TOO_MANY_FAILURES


@pytest.mark.parametrize(("streak", "delay"), [(0, 2), (1, 4), (2, 8), (20, 900), (10_000, 900)])
def test_unreachable_waits_longer_each_time_in_a_row_and_spends_no_budget(streak: int, delay: float) -> None:
    again = rescheduled(Verdict.UNREACHABLE, failures=99, unreachable_streak=streak)
    assert again == Reschedule(delay, counts_failure=False, unreachable_streak=streak + 1, why="why")


def test_an_event_that_was_never_unreachable_before_waits_the_shortest() -> None:
    assert decided(Verdict.UNREACHABLE) == Reschedule(2, counts_failure=False, unreachable_streak=1, why="why")


def test_bounds_and_waits_below_a_second_are_kept() -> None:
    short = Budget(max_failures=2, max_age_seconds=0.5, backoff=Backoff(0.1, 0.2))
    again = decide(Judgement(Verdict.UNAVAILABLE, "why"), FACTS._replace(age_seconds=0.4), short, Ceiling())
    assert again == Reschedule(0.1, counts_failure=True, unreachable_streak=0, why="why")


def test_unreachable_is_sent_again_even_if_the_type_is_held_when_uncertain() -> None:
    assert isinstance(decided(Verdict.UNREACHABLE, on_uncertain="hold"), Reschedule)
    assert isinstance(decided(Verdict.UNAVAILABLE, on_uncertain="hold"), Reschedule)


@pytest.mark.parametrize("verdict", [Verdict.UNCERTAIN, Verdict.ABANDONED])
@pytest.mark.parametrize("probe", [False, True])
def test_what_may_have_arrived_is_held_for_a_person_where_the_type_says_so(verdict: Verdict, probe: bool) -> None:
    held = buried(verdict, on_uncertain="hold", failures=11, age_seconds=1e9, probe=probe)
    assert held.reason is Reason.HELD_UNCERTAIN
    assert held.why == "it may have arrived, and this type is not sent twice unasked: why"


@pytest.mark.parametrize("failures", [0, 5])
def test_the_first_abandoned_attempt_is_resent_at_once_and_counts(failures: int) -> None:
    again = rescheduled(Verdict.ABANDONED, failures=failures, unreachable_streak=3)
    assert again == Reschedule(0.0, counts_failure=True, unreachable_streak=0, why="why")


def test_the_second_abandoned_attempt_waits() -> None:
    assert rescheduled(Verdict.ABANDONED, failures=1, abandoned_before=True).delay_seconds == 4
    assert rescheduled(Verdict.UNCERTAIN, failures=1, abandoned_before=False).delay_seconds == 4


@pytest.mark.parametrize("verdict", COUNTED)
def test_a_probe_counts_nowhere_and_never_uses_up_the_budget(verdict: Verdict) -> None:
    assert rescheduled(verdict, probe=True, failures=11).counts_failure is False


def test_a_probe_can_still_be_too_old() -> None:
    assert buried(Verdict.UNAVAILABLE, probe=True, age_seconds=604_800).reason is Reason.TOO_OLD


@pytest.mark.parametrize(
    ("hint", "delay"),
    [(None, 4), (0, 4), (3, 4), (30, 30), (900, 900), (901, 900), (math.inf, 900), (-5, 4), (math.nan, 4)],
)
def test_a_hint_lengthens_the_wait_up_to_the_cap_and_never_shortens_it(hint: float | None, delay: float) -> None:
    assert rescheduled(Verdict.UNAVAILABLE, failures=1, seconds=hint).delay_seconds == delay


@pytest.mark.parametrize(("failures", "age"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0), (1, math.nan)])
def test_a_budget_that_allows_nothing_is_refused_by_the_names_of_its_settings(failures: int, age: float) -> None:
    with pytest.raises(ValueError, match="MAX_FAILURES >= 1 and MAX_AGE_SECONDS > 0"):
        Budget(failures, age, BUDGET.backoff)


facts = st.builds(
    EventFacts,
    event_type=st.just("SALE"),
    lead=st.just("b" * 64),
    failures=st.integers(0, 30),
    age_seconds=st.floats(0, 2e6),
    on_uncertain=st.sampled_from(["resend", "hold"]),
    unreachable_streak=st.integers(0, 10_000),
    abandoned_before=st.booleans(),
    translatable=st.booleans(),
    probe=st.booleans(),
)
judgements = st.builds(
    Judgement,
    verdict=st.sampled_from(Verdict),
    why=st.just("why"),
    event_uuid=st.none() | st.just("3f0c"),
    scope=st.none() | st.sampled_from(HoldScope),
    seconds=st.none() | st.floats(),
)


@given(judgements, facts, st.integers())
def test_any_judgement_of_any_event_is_decided_within_its_bounds(
    judgement: Judgement, event: EventFacts, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - jitter is no secret
    decision = decide(judgement, event, BUDGET, rng)
    assert isinstance(decision, get_args(Decision))
    assert isinstance(decision, Complete) is (judgement.verdict is Verdict.DELIVERED)
    if isinstance(decision, Reschedule):
        assert 0 <= decision.delay_seconds <= BUDGET.backoff.cap_seconds
        assert decision.delay_seconds > 0 or judgement.verdict is Verdict.ABANDONED
        assert event.age_seconds < BUDGET.max_age_seconds
        assert not decision.counts_failure or event.failures + 1 < BUDGET.max_failures


def test_every_decision_is_reached() -> None:
    reached = {type(decided(verdict)) for verdict in Verdict}
    assert reached == set(get_args(Decision))


@given(facts, st.integers())
def test_an_event_that_always_fails_ends_within_its_budget(event: EventFacts, seed: int) -> None:
    rng, tries = random.Random(seed), 0  # noqa: S311 - jitter is no secret
    event = event._replace(failures=0, age_seconds=0.0, probe=False)
    decision = decide(Judgement(Verdict.UNAVAILABLE, "why"), event, BUDGET, rng)
    while isinstance(decision, Reschedule):
        tries += 1
        event = event._replace(
            failures=event.failures + decision.counts_failure,
            age_seconds=event.age_seconds + decision.delay_seconds,
        )
        decision = decide(Judgement(Verdict.UNAVAILABLE, "why"), event, BUDGET, rng)
    assert isinstance(decision, Bury)
    assert (tries, decision.reason) == (11, Reason.TOO_MANY_FAILURES)
