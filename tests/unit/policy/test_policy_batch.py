"""What a request with several events means for each. Real: everything. Doubled: nothing."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.batch import BatchOutcome, once_per_request, resolve
from dispatcher.policy.effects import (
    CloseWindow,
    Effect,
    FeedBreaker,
    ParkLead,
    Proven,
    RejectedAlike,
    RestBreaker,
    StrangeAnswer,
    SuspendAccount,
    SuspendCause,
    SuspendType,
    TypeRetired,
)
from dispatcher.policy.outcome import LimitHint, LimitScope, Outcome, ProviderError, Stage, TransportFailure
from dispatcher.policy.verdict import CREDENTIAL_ERROR, HoldScope, judge
from dispatcher.policy.verdicts import Verdict

TYPES = ["SALE"] * 6
INVALID = ProviderError("INVALID", "Is invalid.", "$.payload.email")


def answered(status: int, **more: object) -> Outcome:
    return Outcome(Stage.ANSWERED, status, **more)  # type: ignore[arg-type]  # the fields are named right


def verdicts(outcome: BatchOutcome, types: list[str] = TYPES) -> list[Verdict]:
    return [one.judgement.verdict for one in resolve(outcome, types).judged]


def again(outcome: BatchOutcome, types: list[str] = TYPES) -> list[tuple[int, ...]]:
    return [part.members for part in resolve(outcome, types).again]


@pytest.mark.parametrize("status", [400, 409, 410, 422, 499])
def test_a_refusal_convicts_nobody_and_is_halved(status: int) -> None:
    outcome = BatchOutcome(answered(status, errors=(INVALID,), excerpt="text"))
    assert verdicts(outcome) == [Verdict.BATCH_REFUSED] * 6
    assert again(outcome) == [(0, 1, 2), (3, 4, 5)]
    assert all(one.outcome.errors == () and one.outcome.excerpt is None for one in resolve(outcome, TYPES).judged)


def test_a_refusal_that_names_positions_sends_the_others_again_and_those_alone() -> None:
    outcome = BatchOutcome(answered(400, errors=(INVALID,)), blamed={2: (INVALID,), 4: (INVALID,)})
    assert verdicts(outcome) == [Verdict.BATCH_REFUSED] * 6
    assert again(outcome) == [(0, 1, 3, 5)]
    assert [one.outcome.errors for one in resolve(outcome, TYPES).judged] == [(), (), (INVALID,), (), (INVALID,), ()]


def test_a_refusal_that_names_everybody_sends_each_alone() -> None:
    outcome = BatchOutcome(answered(400), blamed=dict.fromkeys(range(6), (INVALID,)))
    assert again(outcome) == []


def test_positions_in_a_success_are_not_used() -> None:
    outcome = BatchOutcome(answered(200), blamed={2: (INVALID,)})
    assert verdicts(outcome) == [Verdict.DELIVERED] * 6
    assert again(outcome) == []


def test_a_length_that_is_refused_is_halved_and_nobody_is_suspected() -> None:
    first, second = resolve(BatchOutcome(answered(413)), TYPES).again
    assert not first.heir
    assert not second.heir


def test_a_403_is_the_types_own_if_there_is_one_type_and_parts_them_if_there_are_more() -> None:
    assert {one.judgement.scope for one in resolve(BatchOutcome(answered(403)), TYPES).judged} == {HoldScope.TYPE}
    mixed = ["SALE", "CONVERSION", "SALE", "CONVERSION", "OPPORTUNITY"]
    assert verdicts(BatchOutcome(answered(403)), mixed) == [Verdict.BATCH_REFUSED] * 5
    assert again(BatchOutcome(answered(403)), mixed) == [(0, 2), (1, 3)]


def test_the_lead_limiter_takes_its_leads_events_out_and_the_rest_goes_again() -> None:
    limit = LimitHint(LimitScope.LEAD, 600)
    outcome = BatchOutcome(answered(429, limit=limit), limited=(1,))
    assert verdicts(outcome)[1] is Verdict.LEAD_THROTTLED
    assert set(verdicts(outcome)) == {Verdict.LEAD_THROTTLED, Verdict.BATCH_REFUSED}
    assert again(outcome) == [(0, 2, 3, 4, 5)]
    nameless = BatchOutcome(answered(429, limit=limit))
    assert verdicts(nameless) == [Verdict.BATCH_REFUSED] * 6
    assert again(nameless) == [(0, 1, 2), (3, 4, 5)]


WHOLE = [
    *(answered(status) for status in (301, 401, 404, 405, 408, 415, 425, 429, 500, 502, 503, 504)),
    answered(400, errors=(ProviderError(CREDENTIAL_ERROR, ""),)),
    *(Outcome(stage, failure=failure) for stage in Stage for failure in TransportFailure),
]


@pytest.mark.parametrize("whole", WHOLE, ids=lambda whole: f"{whole.status}-{whole.stage.name}-{whole.failure}")
def test_what_concerns_the_request_concerns_each_of_its_events(whole: Outcome) -> None:
    alone = judge(whole, event_type="SALE", retired=False)
    resolution = resolve(BatchOutcome(whole), TYPES)
    assert {one.judgement.verdict for one in resolution.judged} == {alone.verdict}
    assert {one.judgement.seconds for one in resolution.judged} == {alone.seconds}
    assert resolution.again == ()


def test_a_success_with_another_count_is_uncertain_for_each() -> None:
    for results in (0, 5, 7):
        outcome = BatchOutcome(answered(200), results=results)
        assert verdicts(outcome) == [Verdict.UNCERTAIN] * 6
        assert again(outcome) == []


def test_a_success_that_is_no_list_is_as_for_a_single_event() -> None:
    assert verdicts(BatchOutcome(answered(204))) == [Verdict.DELIVERED] * 6


def test_results_of_all_kinds_are_judged_by_position() -> None:
    items = (
        answered(200, event_uuid="u-0"),
        answered(200, errors=(INVALID,)),
        answered(200),
        answered(200, errors=(ProviderError(CREDENTIAL_ERROR, ""),)),
    )
    judged = resolve(BatchOutcome(answered(200), 4, items), ["SALE"] * 4).judged
    assert [one.judgement.verdict for one in judged] == [
        Verdict.DELIVERED, Verdict.REJECTED, Verdict.UNCERTAIN, Verdict.REFUSED,
    ]  # fmt: skip
    assert judged[0].judgement.event_uuid == "u-0"
    alone = judge(answered(400, errors=(INVALID,)), event_type="SALE", retired=False)
    assert judged[1].judgement.signature == alone.signature, (
        "it counts in the same row as the same error of a single event"
    )
    assert judged[1].outcome.status == 200


@given(
    status=st.one_of(st.none(), st.integers(100, 599)),
    count=st.integers(2, 40),
    results=st.one_of(st.none(), st.integers(0, 50)),
    named=st.sets(st.integers(0, 39)),
    scope=st.sampled_from(LimitScope),
    stage=st.sampled_from(Stage),
)
def test_every_event_is_judged_once_and_only_refused_ones_go_again(
    status: int | None, count: int, results: int | None, named: set[int], scope: LimitScope, stage: Stage
) -> None:
    positions = sorted(position for position in named if position < count)
    outcome = BatchOutcome(
        Outcome(stage, status, limit=LimitHint(scope, 1)),
        results=results,
        blamed=dict.fromkeys(positions, (INVALID,)) or None,
        limited=tuple(positions),
    )
    resolution = resolve(outcome, ["SALE"] * count)
    assert len(resolution.judged) == count
    sent_again = [position for part in resolution.again for position in part.members]
    assert len(sent_again) == len(set(sent_again))
    assert all(resolution.judged[at].judgement.verdict is Verdict.BATCH_REFUSED for at in sent_again)
    assert all(1 < len(part.members) < count for part in resolution.again), "a search gets shorter with every request"


def test_what_concerns_the_request_counts_once_and_what_concerns_an_event_each_time() -> None:
    of_request: list[Effect] = [
        FeedBreaker(), RestBreaker(), StrangeAnswer("why"), CloseWindow(1),
        SuspendAccount(SuspendCause.CREDENTIALS, "why"), SuspendType("SALE", SuspendCause.FORBIDDEN, "why"),
    ]  # fmt: skip
    of_event: list[Effect] = [
        Proven("SALE"),
        ParkLead("lead", 1),
        RejectedAlike("SALE", "s", "lead", "why"),
        TypeRetired("SALE"),
    ]
    assert {type(effect) for effect in of_request + of_event} == set(get_args(Effect))
    for effect in of_request:
        assert once_per_request([(effect,), (effect,)]) == [(effect,), ()]
    for effect in of_event:
        assert once_per_request([(effect,), (effect,)]) == [(effect,), (effect,)]
    other = SuspendType("CONVERSION", SuspendCause.FORBIDDEN, "why")
    assert once_per_request([(of_request[-1],), (other,)]) == [(of_request[-1],), (other,)]


def test_a_refused_batch_of_one_type_holds_that_type_and_nothing_goes_again() -> None:
    resolution = resolve(BatchOutcome(answered(403)), TYPES)
    assert {one.judgement.verdict for one in resolution.judged} == {Verdict.REFUSED}
    assert resolution.again == ()


def test_credentials_that_are_refused_part_no_types() -> None:
    mixed = ["SALE", "CONVERSION", "SALE"]
    assert verdicts(BatchOutcome(answered(401)), mixed) == [Verdict.REFUSED] * 3
    assert again(BatchOutcome(answered(401)), mixed) == []


def test_a_result_too_few_is_an_error_of_the_caller_and_not_an_event_less() -> None:
    with pytest.raises(ValueError, match="zip"):
        resolve(BatchOutcome(answered(200), 1, (answered(200, event_uuid="u"),)), TYPES)


RETIRED_ERROR = ProviderError("INVALID_OPTION", "", "$.event_type")


def test_no_event_of_a_batch_counts_as_one_of_a_retired_type() -> None:
    limit = LimitHint(LimitScope.LEAD, 600)
    for outcome in (
        BatchOutcome(answered(400, errors=(RETIRED_ERROR,))),
        BatchOutcome(answered(200), 1, (answered(200, errors=(RETIRED_ERROR,)),)),
        BatchOutcome(answered(429, limit=limit), limited=(0,)),
    ):
        assert Verdict.TYPE_RETIRED not in verdicts(outcome, ["SALE"])


def test_why_says_that_it_was_a_batch_and_what_came_of_it() -> None:
    assert resolve(BatchOutcome(answered(503)), TYPES).judged[0].judgement.why.startswith("in a batch of 6: ")
    refused = resolve(BatchOutcome(answered(200), 1, (answered(200, errors=(INVALID,)),)), ["SALE"]).judged[0]
    assert refused.judgement.why.startswith("in a batch that was answered 200, for this event alone: ")


def test_an_unnamed_lead_limit_is_searched_for_as_one_bad_event() -> None:
    limit = LimitHint(LimitScope.LEAD, 600)
    first, second = resolve(BatchOutcome(answered(429, limit=limit)), TYPES).again
    assert (first.heir, second.heir) == (False, True)
