"""Effects on account, type, lead and breaker. Real: everything. Doubled: nothing."""

from __future__ import annotations

import math
from typing import get_args

import pytest

from dispatcher.policy.decision import EventFacts
from dispatcher.policy.effects import (
    CloseWindow,
    Effect,
    Effects,
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
    effects_of,
)
from dispatcher.policy.verdict import HoldScope, Judgement
from dispatcher.policy.verdicts import Verdict

LEAD = "c" * 64
FACTS = EventFacts(event_type="CART_ABANDONED", lead=LEAD, failures=0, age_seconds=0, on_uncertain="hold")

EXPECTED: list[tuple[Judgement, Effects]] = [
    (Judgement(Verdict.DELIVERED, "why", event_uuid="3f0c"), (Proven("CART_ABANDONED"), RestBreaker())),
    (Judgement(Verdict.DELIVERED, "why"), (StrangeAnswer("why"),)),
    (
        Judgement(Verdict.REJECTED, "why", signature="400 X"),
        (RejectedAlike("CART_ABANDONED", "400 X", LEAD, "why"), RestBreaker()),
    ),
    (Judgement(Verdict.TYPE_RETIRED, "why"), (TypeRetired("CART_ABANDONED"), RestBreaker())),
    (Judgement(Verdict.MISCONFIGURED, "why"), (SuspendAccount(SuspendCause.MISCONFIGURED, "why"),)),
    (
        Judgement(Verdict.REFUSED, "why", scope=HoldScope.ACCOUNT),
        (SuspendAccount(SuspendCause.CREDENTIALS, "why"),),
    ),
    (
        Judgement(Verdict.REFUSED, "why", scope=HoldScope.TYPE),
        (SuspendType("CART_ABANDONED", SuspendCause.FORBIDDEN, "why"), RestBreaker()),
    ),
    (Judgement(Verdict.THROTTLED, "why", seconds=12.5), (CloseWindow(12.5), RestBreaker())),
    (Judgement(Verdict.LEAD_THROTTLED, "why", seconds=60), (ParkLead(LEAD, 60), RestBreaker())),
    (Judgement(Verdict.UNREACHABLE, "why"), (FeedBreaker(),)),
    (Judgement(Verdict.UNAVAILABLE, "why"), (FeedBreaker(),)),
    (Judgement(Verdict.UNCERTAIN, "why"), (FeedBreaker(),)),
    (Judgement(Verdict.ABANDONED, "why"), ()),
    (Judgement(Verdict.TOO_LARGE, "why"), ()),
    (Judgement(Verdict.MALFORMED, "why"), ()),
    (Judgement(Verdict.UNTRANSLATABLE, "why"), ()),
    (Judgement(Verdict.RELEASED, "why"), ()),
    (Judgement(Verdict.BATCH_REFUSED, "why"), ()),
]


@pytest.mark.parametrize(("judgement", "effects"), EXPECTED)
def test_each_verdict_has_its_effects(judgement: Judgement, effects: Effects) -> None:
    assert effects_of(judgement, FACTS) == effects


def test_the_table_above_has_every_verdict_and_every_effect() -> None:
    assert {judgement.verdict for judgement, _ in EXPECTED} == set(Verdict)
    assert {type(effect) for _, effects in EXPECTED for effect in effects} == set(get_args(Effect))


@pytest.mark.parametrize(
    ("hint", "account", "lead"),
    [
        (0.0, 1.0, 1.0),
        (0.2, 1.0, 1.0),
        (1.5, 1.5, 1.5),
        (60.0, 60.0, 60.0),
        (61.0, 60.0, 61.0),
        (3_600.0, 60.0, 3_600.0),
        (3_601.0, 60.0, 3_600.0),
        (43_067.0, 60.0, 3_600.0),
        (math.inf, 60.0, 3_600.0),
        (None, 60.0, 3_600.0),
        (-1.0, 60.0, 3_600.0),
        (math.nan, 60.0, 3_600.0),
    ],
)
def test_a_hold_is_at_least_a_second_and_capped_and_the_cap_without_a_usable_hint(
    hint: float | None, account: float, lead: float
) -> None:
    assert effects_of(Judgement(Verdict.THROTTLED, "", seconds=hint), FACTS)[0] == CloseWindow(account)
    assert effects_of(Judgement(Verdict.LEAD_THROTTLED, "", seconds=hint), FACTS)[0] == ParkLead(LEAD, lead)


def test_the_last_rejection_of_a_row_suspends_its_type_and_names_the_error() -> None:
    suspension = RejectedAlike("SALE", "400 INVALID@$.payload.value", LEAD, "RD Station answered 400").suspension()
    assert (suspension.event_type, suspension.cause) == ("SALE", SuspendCause.REJECTED_ALIKE)
    assert suspension.why == "RD Station answered 400, as to those before it; correct what fills SALE"


def test_the_last_strange_answer_of_a_row_suspends_the_account_and_names_what_to_check() -> None:
    suspension = StrangeAnswer("RD Station answered 200 without an event_uuid").suspension()
    assert suspension.cause is SuspendCause.STRANGE_ANSWERS
    assert "RD_BASE_URL" in suspension.why
    assert "without an event_uuid" in suspension.why
