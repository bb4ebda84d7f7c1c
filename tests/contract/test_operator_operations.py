"""Replay, correct, discard, pause and resume on each database, on events that real claims and settlements have killed.

Nothing is doubled.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import CartAbandoned, OrderPlaced, enqueue
from dispatcher.errors import InvalidEvent, OperationRefused
from dispatcher.events import Event, parse_event
from dispatcher.lifecycle import Reason
from dispatcher.outbox import fleet, operations, pausing, previewing
from dispatcher.outbox.correction import TAKEN, replay_corrected
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.overview import overview
from dispatcher.outbox.queries import Criteria, EventView, LetterView, read_events, resolve
from dispatcher.outbox.resolutions import Refusal
from dispatcher.outbox.tables import dead_letters, events
from dispatcher.outbox.transaction import reading
from tests.contract.outbox_under_test import OutboxUnderTest, buried, retried

ANA = Signature("ana", "asked by the shop")
ORDER = {**OrderPlaced.EXAMPLE}


def order(number: int | str, **changes: Any) -> OrderPlaced:
    return OrderPlaced(**{**ORDER, "cf_order_id": str(number), "email": f"lead{number}@shop.example", **changes})


def put(outbox: OutboxUnderTest, event: Any, **options: Any) -> int:
    with outbox.engine.begin() as connection:
        receipt = enqueue(connection, event, **options)
        return resolve(connection, options.get("account", "default"), [str(receipt.event_id)])[str(receipt.event_id)]


def killed(outbox: OutboxUnderTest, *wanted: Any) -> list[int]:
    """Events that were enqueued, sent once and rejected."""
    ids = [put(outbox, event) for event in wanted]
    while claimed := outbox.claim_all():  # one at a time until the account has proven itself
        outbox.settle(*map(buried, claimed))
    assert outbox.states(*ids) == ["dead"] * len(ids)
    return ids


def view(outbox: OutboxUnderTest, event: int) -> EventView:
    with outbox.engine.connect() as connection:
        return read_events(connection, [event], payload=True)[0]


def letters(outbox: OutboxUnderTest, event: int) -> tuple[LetterView, ...]:
    return view(outbox, event).dead_letters


def test_a_replay_keeps_the_key_and_starts_a_fresh_budget_at_the_end_of_the_line(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))
    outbox.set(event, failures=1, postponed=3)
    before = outbox.row(event)

    done = operations.replay(outbox.engine, [event], ANA)

    after = outbox.row(event)
    assert (done.changed, done.refused, done.accounts) == (1, [], {"default"})
    assert (after.state, after.key, after.fact, after.attempt) == ("pending", before.key, before.fact, before.attempt)
    assert (after.failures, after.postponed, after.reason, after.ended_at) == (0, 0, None, None)
    assert after.line_at > before.line_at
    assert after.budget_from > before.budget_from
    assert [claimed.attempt for claimed in outbox.claim_all()] == [2]


def test_a_replay_keeps_who_and_when_and_why_in_the_letter(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))
    began = outbox.now()

    operations.replay(outbox.engine, [event], ANA)

    (letter,) = letters(outbox, event)
    assert (letter.resolution, letter.resolved_by, letter.note) == ("replayed", "ana", "asked by the shop")
    assert letter.resolved_at is not None
    assert letter.resolved_at >= began - timedelta(milliseconds=1)
    assert letter.payload_before is None


def test_an_event_that_dies_again_has_two_letters_and_can_be_replayed_again(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))
    operations.replay(outbox.engine, [event], ANA)
    outbox.settle(*(buried(claimed) for claimed in outbox.claim_all()))

    done = operations.replay(outbox.engine, Criteria(account="default", reason="rejected"), ANA)

    assert done.changed == 1
    assert [letter.attempt for letter in letters(outbox, event)] == [1, 2]


def test_a_filter_means_exactly_the_open_letters_that_meet_it(outbox: OutboxUnderTest) -> None:
    first, second, cart = killed(
        outbox, order(1), order(2), CartAbandoned(**{**CartAbandoned.EXAMPLE, "email": "lead3@shop.example"})
    )
    outbox.account("other")
    elsewhere = put(outbox, order(9), account="other")
    outbox.settle(*(buried(event) for event in outbox.claim_all("other")))
    long_ago = outbox.now() - timedelta(days=2)
    with outbox.engine.begin() as connection:
        old = sa.update(dead_letters).where(dead_letters.c.event == first)
        connection.execute(old.values(created_at=long_ago))

    since = outbox.now() - timedelta(hours=1)
    criteria = Criteria(account="default", event_type="ORDER_PLACED", reason="rejected", since=since)

    assert previewing.preview(outbox.engine, criteria).count == 1
    assert operations.replay(outbox.engine, criteria, ANA).changed == 1
    assert outbox.states(first, second, cart, elsewhere) == ["dead", "pending", "dead", "dead"]


def test_many_are_changed_in_bounded_transactions_and_each_once(
    outbox: OutboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "BATCH", 3)
    ids = killed(outbox, *(order(number) for number in range(8)))
    seen: list[int] = []

    done = operations.replay(outbox.engine, Criteria(account="default"), ANA, progress=seen.append)

    assert done.changed == 8
    assert seen == [3, 6, 8]
    assert outbox.states(*ids) == ["pending"] * 8


def test_only_dead_events_are_replayed_and_the_others_are_told(outbox: OutboxUnderTest) -> None:
    waiting = put(outbox, order(1))

    done = operations.replay(outbox.engine, [waiting], ANA)

    assert done.changed == 0
    assert [(refusal.key, "only dead" in refusal.problem) for refusal in done.refused] == [("ORDER_PLACED:1", True)]
    assert outbox.states(waiting) == ["pending"]


def test_an_invalid_envelope_is_not_replayed_as_it_is(outbox: OutboxUnderTest) -> None:
    event = put(outbox, {"event_type": "ORDER_PLACED", "payload": {}}, on_invalid="dead_letter")

    done = operations.replay(outbox.engine, Criteria(account="default"), ANA)

    assert done.changed == 0
    assert isinstance(done.refused[0], Refusal)
    assert "--payload" in done.refused[0].problem
    assert outbox.states(event) == ["dead"]


def test_the_preview_counts_reasons_expired_and_what_may_have_arrived(outbox: OutboxUnderTest) -> None:
    expired, unsure = killed(outbox, order(1), order(2))
    put(outbox, {"payload": 1}, on_invalid="dead_letter")
    outbox.set(expired, expires_at=outbox.now() - timedelta(hours=1))
    with outbox.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE outbox_attempts SET verdict = 'uncertain' WHERE event = :event"), {"event": unsure}
        )

    preview = previewing.preview(outbox.engine, Criteria(account="default"))

    assert preview.reasons == {"rejected": 2, "invalid": 1}
    assert (preview.count, preview.invalid, preview.expired, preview.uncertain) == (3, 1, 1, 1)


@pytest.mark.parametrize("corrections", [(), [("payload.name", "Ana P.")]], ids=["as it is", "corrected"])
def test_a_replay_says_which_are_too_late(outbox: OutboxUnderTest, corrections: list[tuple[str, Any]]) -> None:
    late, later, young, _ = ids = killed(outbox, *(order(number) for number in range(4)))
    now = outbox.now()
    for event, hours in ((late, -1), (later, -2), (young, 1)):
        outbox.set(event, expires_at=now + timedelta(hours=hours))
    outbox.account(turn_at=None)

    done = operations.replay(outbox.engine, ids, ANA, corrections=corrections)

    assert (done.counts(), done.accounts) == ({"changed": 4, "expired": 2, "marked": 0, "refused": 0}, {"default"})
    assert outbox.account_row().turn_at <= outbox.now(), "its account is looked at at once"
    outbox.claim_all()
    assert outbox.states(*ids) == ["cancelled", "cancelled", "in_flight", "in_flight"]


def test_a_correction_that_is_not_too_late_does_not_say_so(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))
    outbox.set(event, expires_at=outbox.now() + timedelta(hours=1))

    assert not replay_corrected(outbox.engine, event, {**ORDER, "cf_order_id": "1"}, ANA).expired


def test_a_correction_gives_no_event_an_end_that_was_enqueued_without(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, CartAbandoned(**CartAbandoned.EXAMPLE))
    outbox.set(event, expires_at=None, created_at=outbox.now() - timedelta(days=9))

    assert not replay_corrected(outbox.engine, event, {**CartAbandoned.EXAMPLE}, ANA).expired
    assert outbox.row(event).expires_at is None


def test_a_correction_replaces_the_content_and_keeps_the_old_in_the_letter(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))
    before = outbox.row(event)

    outbox.account(turn_at=None)

    corrected = replay_corrected(outbox.engine, event, {**ORDER, "cf_order_id": "1", "name": "Ana P."}, ANA)

    assert outbox.account_row().turn_at <= outbox.now(), "its account is looked at at once"
    after = outbox.row(event)
    assert (corrected.key, after.key, after.fact) == ("ORDER_PLACED:1", before.key, before.fact)
    assert json.loads(after.payload)["name"] == "Ana P."
    assert after.fingerprint not in (None, before.fingerprint)
    assert after.lead != before.lead
    (letter,) = letters(outbox, event)
    assert (letter.payload_before, letter.resolved_by) == (before.payload, "ana")
    assert len(outbox.claim_all()) == 1


def test_a_correction_that_breaks_the_rules_changes_nothing(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))
    before = outbox.row(event)

    with pytest.raises(InvalidEvent) as refused:
        replay_corrected(outbox.engine, event, {"cf_order_id": "1"}, ANA)

    assert "$.payload.email" in [problem.path for problem in refused.value.problems]
    assert outbox.row(event) == before
    assert letters(outbox, event)[0].resolution is None


@pytest.mark.parametrize(
    "content",
    [
        {**ORDER, "cf_order_id": "2"},
        {"event_type": "CART_ABANDONED", "event_family": "CDP", "payload": {**CartAbandoned.EXAMPLE}},
    ],
    ids=["another order", "another type"],
)
def test_a_correction_cannot_make_another_fact_of_the_event(outbox: OutboxUnderTest, content: dict[str, Any]) -> None:
    (event,) = killed(outbox, order(1))
    before = outbox.row(event)

    with pytest.raises(OperationRefused):
        replay_corrected(outbox.engine, event, content, ANA)

    assert outbox.row(event) == before


def test_a_correction_cannot_change_the_type_not_even_under_a_key_of_the_shops_own(outbox: OutboxUnderTest) -> None:
    event = put(outbox, order(1), key="the-shops-own:1")  # tells nothing of the type, so no other rule refuses it
    outbox.settle(*map(buried, outbox.claim_all()))
    before = outbox.row(event)
    cart = {"event_type": "CART_ABANDONED", "event_family": "CDP", "payload": {**CartAbandoned.EXAMPLE}}

    with pytest.raises(OperationRefused, match="is of type ORDER_PLACED"):
        replay_corrected(outbox.engine, event, cart, ANA)

    assert outbox.row(event) == before


def test_a_corrected_invalid_envelope_gets_the_key_of_its_fact(outbox: OutboxUnderTest) -> None:
    event = put(outbox, {"event_type": "order_placed", "payload": {**ORDER}}, on_invalid="dead_letter")

    corrected = replay_corrected(
        outbox.engine, event, {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {**ORDER}}, ANA
    )

    assert corrected.key == "ORDER_PLACED:1001"
    assert view(outbox, event).event_type == "ORDER_PLACED"
    with outbox.engine.begin() as connection:
        again = enqueue(
            connection, parse_event({"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": ORDER})
        )
    assert (again.created, again.conflict) == (False, False)


@pytest.mark.parametrize(
    "event",
    [
        OrderPlaced(
            **ORDER, cart_id="C-1", line_items=[{"product_id": "P", "product_title": "T", "price": 1, "quantity": 1}]
        ),
        CartAbandoned(**CartAbandoned.EXAMPLE),
        OrderPlaced(**ORDER),
    ],
    ids=["all that an order has", "cart", "order"],
)
def test_a_corrected_envelope_is_the_row_that_enqueue_would_have_written(outbox: OutboxUnderTest, event: Event) -> None:
    envelope = {"event_type": event.event_type, "event_family": "CDP", "payload": event.payload()}
    filed = put(outbox, {**envelope, "event_family": "X"}, on_invalid="dead_letter")
    good = outbox.row(put(outbox, event, account="other"))

    replay_corrected(outbox.engine, filed, {**envelope, "attached": event.attached()}, ANA)

    row = outbox.row(filed)
    names = ["event_type", "key", "fact", "fingerprint", "lead", "subject", "moots", "lead_moots", "payload"]
    names += ["attached", "whole", "state", "reason", "ended_at"]
    assert {name: getattr(row, name) for name in names} == {name: getattr(good, name) for name in names}
    life = None if event.rules.expires_in is None else row.created_at + event.rules.expires_in
    assert row.expires_at == life


def test_what_is_beside_a_payload_stays_when_only_the_payload_is_corrected(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1, cart_id="C-1"))
    before = outbox.row(event)

    replay_corrected(outbox.engine, event, {**ORDER, "cf_order_id": "1", "name": "Ana P."}, ANA)

    after = outbox.row(event)
    assert json.loads(after.attached or "{}") == {"cart_id": "C-1"}
    assert (after.attached, after.subject, after.moots) == (before.attached, before.subject, before.moots)


def test_under_a_key_of_the_shops_own_an_order_may_get_another_number(outbox: OutboxUnderTest) -> None:
    event = put(outbox, order(1), key="the-shops-own:1")
    outbox.settle(*map(buried, outbox.claim_all()))

    assert replay_corrected(outbox.engine, event, {**ORDER, "cf_order_id": "2"}, ANA).key == "the-shops-own:1"

    row = outbox.row(event)
    assert (row.key, json.loads(row.payload)["cf_order_id"]) == ("the-shops-own:1", "2")


@pytest.mark.parametrize("column", ["payload", "attached"])
def test_what_no_key_opens_is_not_corrected(outbox: OutboxUnderTest, column: str) -> None:
    (event,) = killed(outbox, order(1))
    sealed = sa.text(f"UPDATE outbox_events SET {column} = 'sealed:lost:token' WHERE id = :event")  # noqa: S608 - one of two
    with outbox.engine.begin() as connection:
        connection.execute(sealed, {"event": event})

    with pytest.raises(OperationRefused, match="not at hand"):
        replay_corrected(outbox.engine, event, {**ORDER, "cf_order_id": "1"}, ANA)

    assert outbox.states(event) == ["dead"]


def test_of_many_that_are_corrected_one_that_is_known_already_is_refused(outbox: OutboxUnderTest) -> None:
    """Filed envelopes get the keys of their facts, and one of these is in the outbox."""
    put(outbox, order(1))
    payloads = [order(number).payload() | {"cf_order_payment_method": "barter"} for number in (1, 2)]
    raw = [{"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": payload} for payload in payloads]
    known, new = (put(outbox, envelope, on_invalid="dead_letter") for envelope in raw)
    outbox.set(new, expires_at=outbox.now() + timedelta(hours=1))

    method = [("payload.cf_order_payment_method", "Others")]
    done = operations.replay(outbox.engine, [known, new], ANA, corrections=method)

    assert outbox.states(known, new) == ["dead", "pending"]
    assert [(each.event_id, each.problem) for each in done.refused] == [(outbox.row(known).event_id, TAKEN)]
    assert done.counts() == {"changed": 1, "expired": 0, "marked": 0, "refused": 1}
    assert outbox.row(new).key == "ORDER_PLACED:2"


def test_a_correction_into_a_fact_that_is_known_is_refused(outbox: OutboxUnderTest) -> None:
    put(outbox, OrderPlaced(**ORDER))
    event = put(outbox, {"event_type": "order_placed", "payload": {**ORDER}}, on_invalid="dead_letter")

    with pytest.raises(OperationRefused, match="discard this dead letter"):
        replay_corrected(
            outbox.engine, event, {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {**ORDER}}, ANA
        )

    assert outbox.states(event) == ["dead"]


def test_an_invalid_envelope_needs_a_whole_one(outbox: OutboxUnderTest) -> None:
    event = put(outbox, {"event_type": "ORDER_PLACED", "payload": {}}, on_invalid="dead_letter")

    for part in ({**ORDER}, {"payload": {**ORDER}}, {"event_type": "ORDER_PLACED"}):
        with pytest.raises(OperationRefused, match="whole corrected envelope"):
            replay_corrected(outbox.engine, event, part, ANA)


def test_a_corrected_cart_reminder_is_still_worthless_a_day_after_it_was_enqueued(outbox: OutboxUnderTest) -> None:
    envelope = {"event_type": "CART_ABANDONED", "event_family": "CDP", "payload": {**CartAbandoned.EXAMPLE}}
    event = put(outbox, {**envelope, "event_family": "X"}, on_invalid="dead_letter")
    outbox.set(event, created_at=outbox.now() - timedelta(hours=25))

    assert replay_corrected(outbox.engine, event, envelope, ANA).expired
    assert outbox.claim_all() == []


def test_a_discarded_dead_event_is_cancelled_and_its_letter_says_who(outbox: OutboxUnderTest) -> None:
    (event,) = killed(outbox, order(1))

    done = operations.discard(outbox.engine, [event], ANA)

    assert (done.counts(), done.accounts) == ({"changed": 1, "expired": 0, "marked": 0, "refused": 0}, set())
    found = view(outbox, event)
    assert (found.state, found.reason) == ("cancelled", Reason.DISCARDED)
    assert [(letter.resolution, letter.resolved_by) for letter in found.dead_letters] == [("discarded", "ana")]


def test_discarding_a_waiting_event_lets_the_next_of_its_lead_go(outbox: OutboxUnderTest) -> None:
    first = put(outbox, order(1, email="one@shop.example"))
    second = put(outbox, order(2, email="one@shop.example"))
    claimed = outbox.claim_all()
    assert [event.id for event in claimed] == [first]
    outbox.settle(retried(claimed[0], after=3600))
    outbox.claim_all()  # the second steps aside behind the first
    outbox.account(turn_at=None)

    done = operations.discard(outbox.engine, [first], ANA)

    assert (done.changed, done.accounts) == (1, {"default"})
    assert [event.id for event in outbox.claim().events] == [second], "its account is looked at, without a hint"
    (letter,) = letters(outbox, first)
    assert (letter.resolution, letter.resolved_by, letter.note) == ("discarded", "ana", "asked by the shop")


def test_discarding_an_event_in_flight_lets_the_attempt_finish_and_no_other_follow(outbox: OutboxUnderTest) -> None:
    event = put(outbox, order(1))
    (claimed,) = outbox.claim_all()

    done = operations.discard(outbox.engine, [event], ANA)
    assert (done.changed, done.marked) == (0, 1)
    assert outbox.states(event) == ["in_flight"]

    outbox.settle(retried(claimed, after=1))
    assert (outbox.row(event).state, outbox.row(event).reason) == ("cancelled", "discarded")


def test_nothing_is_left_to_discard_of_an_event_that_has_ended(outbox: OutboxUnderTest) -> None:
    event = outbox.add(state="delivered")

    done = operations.discard(outbox.engine, [event], ANA)

    assert (done.changed, len(done.refused)) == (0, 1)
    assert letters(outbox, event) == ()


def test_a_filter_never_discards_what_is_not_dead(outbox: OutboxUnderTest) -> None:
    (dead,) = killed(outbox, order(1))
    waiting = put(outbox, order(2))

    assert operations.discard(outbox.engine, Criteria(account="default"), ANA).changed == 1
    assert outbox.states(dead, waiting) == ["cancelled", "pending"]


def _resumed(outbox: OutboxUnderTest) -> str | None:
    (account,) = reading(outbox.engine, lambda connection: overview(connection, account="default")).accounts
    return account.resumed


def test_a_paused_account_spends_nothing_until_it_is_resumed(outbox: OutboxUnderTest) -> None:
    event = put(outbox, order(1))

    assert [switch.changed for switch in pausing.pause(outbox.engine, ["default"], ANA)] == [True]
    assert outbox.account_row().turn_at is None, "no claim need look at it"
    assert outbox.claim_all() == []
    assert [switch.changed for switch in pausing.pause(outbox.engine, ["default"], ANA)] == [False]
    row = outbox.account_row()
    assert (row.paused_by, row.pause_note) == ("ana", "asked by the shop")
    assert row.paused_at is not None
    assert _resumed(outbox) is None

    assert [switch.changed for switch in pausing.resume(outbox.engine, ["default"], Signature("bia"))] == [True]
    assert outbox.account_row().turn_at <= outbox.now(), "the next claim looks at it, without a hint"
    assert outbox.claim_ids() == [event]
    assert str(_resumed(outbox)).startswith("resumed by bia at ")


@pytest.mark.alone("everybody is paused")
def test_all_pauses_every_account_also_those_that_only_events_name(outbox: OutboxUnderTest) -> None:
    put(outbox, order(1), account="new-one")

    switched = pausing.pause(outbox.engine, None, ANA)

    assert [(switch.account, switch.changed) for switch in switched] == [("default", True), ("new-one", True)]
    assert outbox.claim_all("new-one") == []

    pausing.resume(outbox.engine, None, ANA)

    everybody = reading(outbox.engine, fleet.read)
    assert (everybody.paused_at, everybody.paused_by, everybody.pause_note) == (None, None, None)
    assert len(outbox.claim_all("new-one")) == 1


def test_a_mistyped_account_is_not_paused_in_silence(outbox: OutboxUnderTest) -> None:
    with pytest.raises(OperationRefused, match=r"known: .*\bdefault\b"):
        pausing.pause(outbox.engine, ["defualt"], ANA)

    assert outbox.account_row().paused_at is None


def test_operations_touch_no_row_they_were_not_asked_for(outbox: OutboxUnderTest) -> None:
    one, other = killed(outbox, order(1), order(2))
    before = outbox.row(other)

    operations.replay(outbox.engine, [one], ANA)
    operations.discard(outbox.engine, [one], ANA)

    assert outbox.row(other) == before
    assert outbox.count(events) == 2
