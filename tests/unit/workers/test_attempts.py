"""One attempt. Real: judging and deciding. Doubled: the client (a script of outcomes and errors), the clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.claimed import Claimed
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget, Bury, Complete, Release, Reschedule
from dispatcher.policy.effects import SuspendAccount
from dispatcher.policy.outcome import Outcome, Stage, TransportFailure
from dispatcher.policy.verdicts import Verdict
from dispatcher.rdstation.events_api import build_body
from workers.attempts import Attempting

BUDGET = Budget(12, 604_800, Backoff(2, 900))
RECEIVED = Outcome(Stage.ANSWERED, status=200, event_uuid="uuid-of-rd")
REFUSED = Outcome(Stage.NOT_CONNECTED, failure=TransportFailure.CREDENTIALS, detail="no token")


class Client:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, *answers: Outcome | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[dict[str, Any]] = []

    def send(
        self,
        account: str,
        body: bytes,
        *,
        remaining: Callable[[], float],
        private: Any = (),
        event_type: str = "",  # noqa: ARG002 - the client's signature
    ) -> Outcome:
        self.sent.append({"account": account, "body": body, "seconds": remaining(), "private": list(private)})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def claimed(**changes: Any) -> Claimed:
    given: dict[str, Any] = {
        "id": 1, "event_id": UUID(int=1), "account": "default", "lead": "hash", "event_type": "ORDER_PLACED",
        "key": "ORDER_PLACED:1", "payload": '{"email":"a@b.example","cf_order_id":"1"}', "attempt": 1, "failures": 0,
        "postponed": 0, "age_seconds": 1.0, "about": False, "probe": False,
    }  # fmt: skip
    return Claimed(**{**given, **changes})


@pytest.fixture
def clock() -> SimpleNamespace:
    clock = SimpleNamespace(seconds=50.0)
    clock.monotonic = lambda: clock.seconds
    return clock


def attempting(client: Client, clock: Any) -> Attempting:
    return Attempting(client, BUDGET, clock=clock, rng=random.Random(1))  # type: ignore[arg-type]  # noqa: S311 - the script; jitter


def test_a_delivered_event_completes_with_its_receipt(clock: Any) -> None:
    client = Client(RECEIVED)
    settlement = attempting(client, clock).make(claimed(), 12.0)
    assert settlement.decision == Complete("uuid-of-rd", None)
    (sent,) = client.sent
    assert sent["body"] == build_body("ORDER_PLACED", claimed().payload)
    assert sent["seconds"] == 12.0
    assert sent["private"] == ["a@b.example"]


def test_after_a_refusal_the_account_is_left_alone_for_a_moment(clock: Any) -> None:
    client = Client(REFUSED, RECEIVED)
    attempts = attempting(client, clock)
    refused = attempts.make(claimed(), 30)
    assert any(isinstance(effect, SuspendAccount) for effect in refused.effects)
    assert isinstance(refused.decision, Release)

    held = attempts.make(claimed(id=2), 30)
    assert (held.verdict, held.sent, held.decision.__class__) == (Verdict.RELEASED, False, Release)
    assert attempts.make(claimed(id=3, account="other"), 30).verdict is Verdict.DELIVERED
    assert len(client.sent) == 2

    clock.seconds += 5.1
    assert attempts.make(claimed(id=2), 30).verdict is Verdict.DELIVERED


def test_an_event_given_back_frees_its_permit_and_spends_nothing(clock: Any) -> None:
    settlement = attempting(Client(RECEIVED), clock).unsent(claimed(failures=3), "the worker is shutting down")
    assert not settlement.sent
    assert isinstance(settlement.decision, Release)
    assert settlement.effects == ()


def test_an_event_of_a_refused_batch_stays_marked_when_it_is_given_back_unsent(clock: Any) -> None:
    settlement = attempting(Client(RECEIVED), clock).unsent(claimed(alone=True), "the worker is shutting down")
    assert settlement.verdict is Verdict.BATCH_REFUSED
    assert not settlement.sent
    assert isinstance(settlement.decision, Release)


@pytest.mark.parametrize("type_", ["ORDER_PLACED", "CART_ABANDONED"])
def test_a_token_store_that_is_away_makes_nothing_uncertain(clock: Any, type_: str) -> None:
    away = sa.exc.OperationalError("SELECT", {}, Exception("server closed the connection"))
    settlement = attempting(Client(away), clock).make(claimed(event_type=type_), 30)
    assert settlement.verdict is Verdict.RELEASED
    assert isinstance(settlement.decision, Release)
    assert not settlement.sent


def test_tokens_that_no_key_opens_suspend_the_account_and_spend_nothing(clock: Any) -> None:
    settlement = attempting(Client(ConfigurationError("no key opens it")), clock).make(claimed(), 30)
    assert isinstance(settlement.decision, Release)
    assert any(isinstance(effect, SuspendAccount) for effect in settlement.effects)
    assert not settlement.sent


def test_a_defect_while_sending_is_uncertain_and_tells_no_data(clock: Any) -> None:
    settlement = attempting(Client(LookupError("a@b.example")), clock).make(claimed(), 30)
    assert settlement.verdict is Verdict.UNCERTAIN
    assert isinstance(settlement.decision, Reschedule)
    assert settlement.sent
    assert "a@b.example" not in repr(settlement)


def test_what_cannot_be_sent_is_buried_without_a_request_or_a_permit(clock: Any) -> None:
    client = Client(RECEIVED)
    settlement = attempting(client, clock).make(claimed(payload='{"name":"\ud800"}'), 30)
    assert settlement.verdict is Verdict.MALFORMED
    assert isinstance(settlement.decision, Bury)
    assert client.sent == []
    assert not settlement.sent
