"""The judgement of outcomes. Real: everything. Doubled: nothing; outcomes are built by hand, as the client would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.outcome import LimitHint, LimitScope, Outcome, ProviderError, Stage, TransportFailure
from dispatcher.policy.verdict import (
    HoldScope,
    Judgement,
    abandoned,
    batch_refused,
    judge,
    malformed,
    released,
    signature,
    untranslatable,
)
from dispatcher.policy.verdicts import Verdict


def judged(outcome: Outcome, *, retired: bool = False) -> Judgement:
    return judge(outcome, event_type="ORDER_PLACED", retired=retired)


def answer(
    status: int,
    *errors: ProviderError,
    uuid: str | None = None,
    limit: LimitHint | None = None,
    refreshed: bool = False,
) -> Outcome:
    return Outcome(
        stage=Stage.ANSWERED, status=status, errors=errors, event_uuid=uuid, limit=limit, refreshed=refreshed
    )


def error(error_type: str, path: str | None = None) -> ProviderError:
    return ProviderError(error_type, "Ana Prado is not welcome", path)


def expected(status: int) -> Verdict:
    """The table of statuses, written down a second time and another way."""
    special = {
        401: Verdict.REFUSED, 403: Verdict.REFUSED,
        404: Verdict.MISCONFIGURED, 405: Verdict.MISCONFIGURED, 406: Verdict.MISCONFIGURED,
        407: Verdict.MISCONFIGURED, 414: Verdict.MISCONFIGURED, 415: Verdict.MISCONFIGURED,
        408: Verdict.UNAVAILABLE, 425: Verdict.UNAVAILABLE, 413: Verdict.TOO_LARGE, 429: Verdict.THROTTLED,
    }  # fmt: skip
    if status in special:
        return special[status]
    by_class = {
        1: Verdict.UNCERTAIN, 2: Verdict.DELIVERED, 3: Verdict.MISCONFIGURED, 4: Verdict.REJECTED
    }  # fmt: skip
    return by_class.get(status // 100, Verdict.UNAVAILABLE)


STATUSES = [0, 99, *range(100, 600), 600, 999]


@pytest.mark.parametrize("retired", [False, True])
def test_every_status_has_its_verdict(retired: bool) -> None:
    verdicts = {status: judged(answer(status), retired=retired).verdict for status in STATUSES}
    assert verdicts == {status: expected(status) for status in STATUSES}


def test_why_always_names_the_status() -> None:
    assert [status for status in STATUSES if f"answered {status}" not in judged(answer(status)).why] == []


@pytest.mark.parametrize("failure", TransportFailure)
@pytest.mark.parametrize("stage", Stage)
def test_a_known_status_outweighs_a_body_that_broke_off(stage: Stage, failure: TransportFailure) -> None:
    verdicts = {status: judged(Outcome(stage, status, failure=failure)).verdict for status in STATUSES}
    assert verdicts == {status: expected(status) for status in STATUSES}


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("failure", [*TransportFailure, None])
def test_without_a_status_the_verdict_follows_from_how_far_the_request_got(
    stage: Stage, failure: TransportFailure | None
) -> None:
    if stage in {Stage.PARTLY_WRITTEN, Stage.WRITTEN, Stage.ANSWER_BEGUN, Stage.ANSWERED}:
        verdict = Verdict.UNCERTAIN
    elif failure is None:
        verdict = Verdict.RELEASED
    elif failure is TransportFailure.REQUEST:
        verdict = Verdict.MALFORMED
    elif failure is TransportFailure.CREDENTIALS:
        verdict = Verdict.REFUSED
    else:
        verdict = Verdict.UNREACHABLE
    assert judged(Outcome(stage=stage, failure=failure)).verdict is verdict


def test_a_2xx_with_a_receipt_keeps_it() -> None:
    judgement = judged(answer(200, uuid="3f0c"))
    assert (judgement.verdict, judgement.event_uuid) == (Verdict.DELIVERED, "3f0c")


@pytest.mark.parametrize("uuid", [None, ""])
def test_a_2xx_without_a_receipt_is_delivered_and_says_so(uuid: str | None) -> None:
    judgement = judged(answer(204, uuid=uuid))
    assert (judgement.verdict, judgement.event_uuid) == (Verdict.DELIVERED, None)
    assert judgement.why == "RD Station answered 204 without an event_uuid"


@pytest.mark.parametrize("failure", TransportFailure)
def test_a_2xx_whose_body_breaks_off_is_delivered_and_never_uncertain(failure: TransportFailure) -> None:
    judgement = judged(Outcome(stage=Stage.ANSWERED, status=200, failure=failure))
    assert (judgement.verdict, judgement.event_uuid) == (Verdict.DELIVERED, None)


def test_no_other_status_yields_a_receipt() -> None:
    kept = {status for status in range(100, 600) if judged(answer(status, uuid="3f0c")).event_uuid}
    assert kept == set(range(200, 300))


@pytest.mark.parametrize(
    ("outcome", "scope"),
    [
        (answer(401), HoldScope.ACCOUNT),
        (answer(401, error("UNAUTHORIZED"), refreshed=True), HoldScope.ACCOUNT),
        (answer(403), HoldScope.TYPE),
        (answer(403, error("ACCOUNT_REQUIREMENT_MISSING")), HoldScope.TYPE),
        (answer(403, error("UNABLE_TO_LOAD_CDP_SCHEMA")), HoldScope.ACCOUNT),
        (answer(400, error("UNABLE_TO_LOAD_CDP_SCHEMA")), HoldScope.ACCOUNT),
        (Outcome(Stage.NOT_CONNECTED, failure=TransportFailure.CREDENTIALS), HoldScope.ACCOUNT),
        (answer(400, error("INVALID", "$.x"), error("UNABLE_TO_LOAD_CDP_SCHEMA")), HoldScope.ACCOUNT),
    ],
)
def test_a_refusal_says_whether_it_concerns_the_account_or_the_type(outcome: Outcome, scope: HoldScope) -> None:
    judgement = judged(outcome)
    assert (judgement.verdict, judgement.scope) == (Verdict.REFUSED, scope)


def test_a_refusal_after_a_refresh_says_that_there_was_one() -> None:
    assert "after a token refresh" in judged(answer(401, refreshed=True)).why
    assert "refresh" not in judged(answer(401)).why


def test_a_401_says_why_there_was_no_new_token() -> None:
    outcome = answer(401, error("UNAUTHORIZED"))._replace(detail="the token refresh was refused: INVALID_REFRESH_TOKEN")
    assert judged(outcome).why == (
        "RD Station answered 401: UNAUTHORIZED: the token refresh was refused: INVALID_REFRESH_TOKEN"
    )


def test_a_403_names_the_type_it_concerns() -> None:
    assert judged(answer(403)).why == "RD Station answered 403, for ORDER_PLACED"


EVENT_TYPE_PATHS = [
    "$.event_type",
    "$.body.event_type",
    "body.event_type",
    "event_type",
    "$[3].event_type",
    "$['event_type']",
    "body.event_type.pt-BR",
]
OTHER_PATHS = ["$.payload.event_types", "$.payload.my_event_type", "$.event_type.name", "$.event_family", "", None]


@pytest.mark.parametrize("path", EVENT_TYPE_PATHS)
@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422])
def test_an_error_about_the_event_type_of_a_retired_type_retires_it(status: int, path: str) -> None:
    outcome = answer(status, error("CANNOT_BE_BLANK", "$.payload.name"), error("INVALID_OPTION", path))
    judgement = judged(outcome, retired=True)
    assert judgement.verdict is Verdict.TYPE_RETIRED
    assert "ORDER_PLACED" in judgement.why
    assert judged(outcome, retired=False).verdict is expected(status)


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_an_error_about_anything_else_does_not_retire_a_retired_type(path: str | None) -> None:
    assert judged(answer(400, error("INVALID_OPTION", path)), retired=True).verdict is Verdict.REJECTED


@pytest.mark.parametrize("status", [401, 408, 425, 429, 500])
@pytest.mark.parametrize("named", [error("UNABLE_TO_LOAD_CDP_SCHEMA"), error("INVALID_OPTION", "$.event_type")])
def test_statuses_that_are_not_about_the_request_are_judged_without_their_errors(
    status: int, named: ProviderError
) -> None:
    assert judged(answer(status, named), retired=True).verdict is expected(status)


@pytest.mark.parametrize(
    ("limit", "verdict", "seconds"),
    [
        (LimitHint(LimitScope.ACCOUNT, 12.5), Verdict.THROTTLED, 12.5),
        (LimitHint(LimitScope.ACCOUNT, None), Verdict.THROTTLED, None),
        (LimitHint(LimitScope.LEAD, 43_067), Verdict.LEAD_THROTTLED, 43_067),
        (LimitHint(LimitScope.LEAD, None), Verdict.LEAD_THROTTLED, None),
        (None, Verdict.THROTTLED, None),
    ],
)
def test_a_429_follows_the_limiter_that_answered(
    limit: LimitHint | None, verdict: Verdict, seconds: float | None
) -> None:
    judgement = judged(answer(429, limit=limit))
    assert (judgement.verdict, judgement.seconds) == (verdict, seconds)


def test_a_hint_on_a_503_is_kept() -> None:
    assert judged(answer(503, limit=LimitHint(LimitScope.ACCOUNT, 30))).seconds == 30
    assert judged(answer(503)).seconds is None


def test_why_names_the_errors_and_their_fields_but_not_their_texts() -> None:
    errors = [error("MUST_BE_STRING", "body.name"), error("TAKEN"), error("TOO_LONG", "$.x"), error("A"), error("B")]
    why = judged(answer(422, *errors)).why
    assert why == "RD Station answered 422: MUST_BE_STRING at body.name, TAKEN, TOO_LONG at $.x, 2 more"
    assert judged(answer(422, *errors[1:4])).why == "RD Station answered 422: TAKEN, TOO_LONG at $.x, A"


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(Stage.NOT_CONNECTED, failure=TransportFailure.TLS), "tls before a connection stood"),
        (Outcome(Stage.CONNECTED, failure=TransportFailure.RESET), "reset before a byte was sent"),
        (
            Outcome(Stage.PARTLY_WRITTEN, failure=TransportFailure.RESET, detail="peer closed"),
            "reset after a part of the request was sent: peer closed",
        ),
        (Outcome(Stage.WRITTEN, failure=TransportFailure.TIMEOUT), "timeout after the request was sent"),
        (Outcome(Stage.WRITTEN), "no answer after the request was sent"),
        (Outcome(Stage.ANSWER_BEGUN, failure=TransportFailure.PROTOCOL), "protocol in the middle of the answer"),
        (Outcome(Stage.NOT_CONNECTED, detail="the lease is nearly over"), "the lease is nearly over"),
        (Outcome(Stage.NOT_CONNECTED), "nothing was sent"),
        (
            Outcome(Stage.NOT_CONNECTED, failure=TransportFailure.REQUEST, detail="bad header"),
            "no request can be made of the event: bad header",
        ),
        (
            Outcome(Stage.NOT_CONNECTED, failure=TransportFailure.CREDENTIALS, detail="INVALID_REFRESH_TOKEN"),
            "no access token could be had: INVALID_REFRESH_TOKEN",
        ),
        (answer(302), "RD Station answered 302: a redirect, which is never followed"),
        (answer(101), "RD Station answered 101, which is not a final answer"),
    ],
)
def test_why_tells_what_happened_and_how_far_it_got(outcome: Outcome, why: str) -> None:
    assert judged(outcome).why == why


texts = st.text(max_size=1_000)
outcomes = st.builds(
    Outcome,
    stage=st.sampled_from(Stage),
    status=st.none() | st.integers(min_value=-1, max_value=1_100),
    event_uuid=st.none() | texts,
    errors=st.lists(st.builds(ProviderError, texts, texts, st.none() | texts), max_size=6).map(tuple),
    limit=st.none() | st.builds(LimitHint, st.sampled_from(LimitScope), st.none() | st.floats()),
    failure=st.none() | st.sampled_from(TransportFailure),
    detail=st.none() | texts,
    refreshed=st.booleans(),
)


@given(outcomes, st.booleans())
def test_any_outcome_gets_a_short_judgement_whose_parts_fit_its_verdict(outcome: Outcome, retired: bool) -> None:
    judgement = judged(outcome, retired=retired)
    assert 0 < len(judgement.why) <= 500
    assert (judgement.scope is not None) is (judgement.verdict is Verdict.REFUSED)
    assert (judgement.signature != "") is (judgement.verdict is Verdict.REJECTED)
    assert judgement.event_uuid is None or judgement.verdict is Verdict.DELIVERED
    if judgement.seconds is not None:
        assert judgement.verdict in {Verdict.THROTTLED, Verdict.LEAD_THROTTLED, Verdict.UNAVAILABLE}


@given(outcomes, st.booleans())
def test_what_may_have_arrived_is_never_taken_for_unsent(outcome: Outcome, retired: bool) -> None:
    unsent = {Verdict.UNREACHABLE, Verdict.RELEASED, Verdict.MALFORMED}
    verdict = judged(outcome, retired=retired).verdict
    if outcome.status is not None or outcome.stage >= Stage.PARTLY_WRITTEN:
        assert verdict not in unsent
    else:
        assert verdict in {*unsent, Verdict.REFUSED}


def test_rejections_are_alike_by_status_error_and_field_not_by_text_order_or_list_position() -> None:
    one = answer(400, ProviderError("TOO_LONG", "a", "$.payload.line_items[3].sku"), error("INVALID", "$.payload.name"))
    two = answer(
        400, error("INVALID", "$.payload.name"), ProviderError("TOO_LONG", "b", "$.payload.line_items[17].sku")
    )
    assert signature(one) == signature(two) == "400 INVALID@$.payload.name TOO_LONG@$.payload.line_items[*].sku"
    assert judged(one).signature == signature(one)


def test_a_list_position_is_also_one_between_dots_but_a_digit_in_a_name_is_not() -> None:
    assert signature(answer(400, error("X", "body.items.3.sku"))) == "400 X@body.items.*.sku"
    assert signature(answer(400, error("X", "body.cf_size2"))) == "400 X@body.cf_size2"


@pytest.mark.parametrize(
    "other",
    [
        answer(422, error("INVALID", "$.payload.name")),
        answer(400, error("TAKEN", "$.payload.name")),
        answer(400, error("INVALID", "$.payload.email")),
        answer(400, error("INVALID")),
        answer(400),
    ],
)
def test_another_status_error_or_field_is_another_signature(other: Outcome) -> None:
    assert signature(other) != signature(answer(400, error("INVALID", "$.payload.name")))


def test_a_signature_is_short_whatever_the_provider_sends() -> None:
    assert len(signature(answer(400, *(error(f"E{number}", "x" * 100) for number in range(50))))) <= 200


def test_the_worker_and_the_sweep_have_verdicts_of_their_own() -> None:
    assert abandoned().verdict is Verdict.ABANDONED
    assert released("shutting down") == Judgement(Verdict.RELEASED, "shutting down")
    assert malformed("the payload cannot be read") == Judgement(Verdict.MALFORMED, "the payload cannot be read")


def test_a_long_why_is_cut_visibly_and_one_that_just_fits_is_not() -> None:
    assert released("x" * 400).why == "x" * 400
    assert released("x" * 401).why == "x" * 399 + "…"


def test_every_verdict_is_reached() -> None:
    answers = [answer(status) for status in range(100, 600)]
    silences = [Outcome(stage, failure=failure) for stage in Stage for failure in [*TransportFailure, None]]
    lead = answer(429, limit=LimitHint(LimitScope.LEAD, 1))
    about_type = answer(400, error("INVALID_OPTION", "$.event_type"))
    reached = {judged(outcome, retired=True).verdict for outcome in [*answers, *silences, lead, about_type]}
    assert reached | {abandoned().verdict, batch_refused("").verdict, untranslatable("").verdict} == set(Verdict)


@pytest.mark.parametrize("word", ["UNAUTHORIZED", "ACCESS_DENIED"])
def test_a_refused_api_key_that_comes_as_a_400_holds_the_type_and_says_nothing_about_tokens(word: str) -> None:
    by_key = answer(400, error(word))._replace(by_key=True)
    assert (judged(by_key).verdict, judged(by_key).scope) == (Verdict.REFUSED, HoldScope.TYPE)
    assert judged(answer(400, error(word))).verdict is Verdict.REJECTED
    assert judged(by_key._replace(errors=(error("INVALID"),))).verdict is Verdict.REJECTED


def test_an_error_is_stored_under_names_that_stay() -> None:
    stored = {"error_type": "INVALID", "message": "Ana Prado is not welcome", "path": "$.payload.email"}
    assert error("INVALID", "$.payload.email").as_dict() == stored
