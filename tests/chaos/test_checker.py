"""The checker of histories, on histories written by hand: each kind of violation has one that it finds."""

from __future__ import annotations

import pytest

from tests.chaos.checker import Kind, check, copies
from tests.chaos.history import Arrived, Attempted, End, Enqueued, History, Limits, Row


def enqueued(key: str, place: int = 1, end: End = End.COMMITTED, *, transaction: str = "", **changes: bool) -> Enqueued:
    ordered = changes.get("ordered", True)
    return Enqueued(key, "default", "ana", ordered, place, transaction or f"of {key}", end)


def arrived(key: str, seconds: float = 1.0, *, accepted: bool = True, counted: bool = True) -> Arrived:
    return Arrived(key, "default", "ana", seconds, accepted, counted)


def row(key: str, state: str = "delivered", attempt: int = 1) -> Row:
    return Row(key, "default", state, None if state == "delivered" else "why", attempt)


def delivered(*keys: str) -> History:
    """Each enqueued, sent, stored and settled once, in this order."""
    return History(
        enqueued=[enqueued(key, place) for place, key in enumerate(keys)],
        arrived=[arrived(key, float(place)) for place, key in enumerate(keys)],
        rows=[row(key) for key in keys],
        attempts=[Attempted(key, 1, "delivered") for key in keys],
    )


def found(history: History) -> list[Kind]:
    return [violation.kind for violation in check(history)]


def test_what_went_well_is_no_violation() -> None:
    assert check(delivered("a", "b", "c")) == []


def test_a_rolled_back_event_that_is_nowhere_is_right() -> None:
    history = delivered("a")
    history.enqueued.append(enqueued("b", 2, End.ROLLED_BACK))
    assert check(history) == []


@pytest.mark.parametrize("stands", [True, False])
def test_a_transaction_that_ended_unclear_may_stand_or_not(stands: bool) -> None:
    history = delivered("a", "b") if stands else delivered()
    history.enqueued = [enqueued(key, place, End.UNCLEAR, transaction="t") for place, key in enumerate("ab")]
    assert check(history) == []


def test_a_copy_is_explained_by_an_uncertain_or_abandoned_attempt() -> None:
    history = delivered("a")
    history.arrived += [arrived("a", 2), arrived("a", 3)]
    history.rows = [row("a", attempt=3)]
    history.attempts = [Attempted("a", 1, "uncertain"), Attempted("a", 2, "abandoned"), Attempted("a", 3, "delivered")]
    assert check(history) == []
    assert copies(history) == {"a": 2}


def test_a_committed_event_that_is_gone_is_lost() -> None:
    history = delivered("a", "b")
    del history.rows[1], history.attempts[1], history.arrived[1]
    assert found(history) == [Kind.LOST]


@pytest.mark.parametrize("state", ["pending", "in_flight"])
def test_an_event_that_never_ends_is_found(state: str) -> None:
    history = delivered("a")
    history.rows, history.attempts, history.arrived = [row("a", state, 0)], [], []
    assert found(history) == [Kind.UNENDED]


@pytest.mark.parametrize("enqueue", [[enqueued("b", 2, End.ROLLED_BACK)], []])
def test_what_was_sent_and_never_committed_is_found(enqueue: list[Enqueued]) -> None:
    history = delivered("a")
    history.enqueued += enqueue
    history.arrived.append(arrived("b", 2, accepted=False))
    assert found(history) == [Kind.NEVER_COMMITTED]


def test_what_is_kept_and_never_committed_is_found() -> None:
    history = delivered("a", "b")
    history.enqueued[1] = enqueued("b", 2, End.ROLLED_BACK)
    assert found(history) == [Kind.NEVER_COMMITTED]


def test_what_was_sent_of_an_unclear_transaction_that_does_not_stand_is_found() -> None:
    history = delivered()
    history.enqueued, history.arrived = [enqueued("a", 1, End.UNCLEAR)], [arrived("a", accepted=False)]
    assert found(history) == [Kind.NEVER_COMMITTED]


def test_a_part_of_a_transaction_is_found() -> None:
    history = delivered("a")
    history.enqueued = [enqueued(key, place, End.UNCLEAR, transaction="t") for place, key in enumerate("ab")]
    assert found(history) == [Kind.TORN]


def test_one_fact_in_two_rows_is_found() -> None:
    history = delivered("a")
    history.rows.append(row("a"))
    assert Kind.TWICE in found(history)


def test_a_delivery_that_never_arrived_is_found() -> None:
    history = delivered("a")
    history.arrived = [arrived("a", accepted=False)]
    assert found(history) == [Kind.FALSE_DELIVERY]


def test_two_deliveries_of_one_event_are_found() -> None:
    history = delivered("a")
    history.rows, history.attempts = [row("a", attempt=2)], [Attempted("a", n, "delivered") for n in (1, 2)]
    assert found(history) == [Kind.FALSE_DELIVERY]


@pytest.mark.parametrize("verdict", ["unavailable", "unreachable", "released", "throttled", "rejected"])
def test_a_copy_after_an_attempt_that_cannot_have_brought_it_is_found(verdict: str) -> None:
    history = delivered("a")
    history.arrived.append(arrived("a", 2))
    history.rows = [row("a", attempt=2)]
    history.attempts.append(Attempted("a", 2, verdict))
    assert found(history) == [Kind.UNEXPLAINED_COPY]


def test_an_attempt_that_left_no_record_is_found() -> None:
    history = delivered("a")
    history.rows = [row("a", attempt=2)]
    assert found(history) == [Kind.UNRECORDED_ATTEMPT]


def test_a_dead_event_without_a_letter_and_a_letter_of_a_live_one_are_found() -> None:
    history = delivered("a", "b")
    history.rows[0] = row("a", "dead")
    history.letters = ["b"]
    assert found(history) == [Kind.LETTER, Kind.LETTER]


def test_an_event_that_overtakes_an_earlier_one_of_its_lead_is_found() -> None:
    history = delivered("a", "b")
    history.arrived = [arrived("b", 1), arrived("a", 2)]
    assert found(history) == [Kind.ORDER]


def test_the_order_is_that_of_first_arrivals_also_refused_ones() -> None:
    history = delivered("a", "b")
    history.arrived = [arrived("a", 1, accepted=False), arrived("a", 3), arrived("b", 4)]
    assert check(history) == []


def test_an_event_without_ordering_may_overtake() -> None:
    history = delivered("a", "b")
    history.enqueued[1] = enqueued("b", 1, ordered=False)
    history.arrived = [arrived("b", 1), arrived("a", 2)]
    assert check(history) == []


def test_an_event_of_a_type_that_its_account_may_not_send_leaves_its_line() -> None:
    history = delivered("SALE:a", "SALE:b", "OTHER:c", "OTHER:d")
    history.rows[1] = row("SALE:b", "dead")
    history.letters = ["SALE:b"]
    history.attempts[1] = Attempted("SALE:b", 1, "misconfigured", 403)
    refused = arrived("SALE:b", 0, accepted=False)
    history.arrived = [refused, *(arrived(key, at) for at, key in enumerate(["OTHER:c", "OTHER:d", "SALE:a"], 1))]
    assert check(history) == []
    history.arrived = [refused, *(arrived(key, at) for at, key in enumerate(["OTHER:d", "OTHER:c", "SALE:a"], 1))]
    assert found(history) == [Kind.ORDER]


def test_an_account_that_is_suspended_as_a_whole_keeps_its_order() -> None:
    history = delivered("SALE:a", "SALE:b")
    history.rows[0], history.letters = row("SALE:a", "dead"), ["SALE:a"]
    history.attempts[0] = Attempted("SALE:a", 1, "misconfigured", 404)
    history.arrived = [arrived("SALE:b", 1), arrived("SALE:a", 2, accepted=False)]
    assert found(history) == [Kind.ORDER]


def test_an_event_enqueued_again_keeps_its_place() -> None:
    history = delivered("a", "b")
    history.enqueued.append(enqueued("a", 9))
    assert check(history) == []


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (Limits(account_per_minute=2), [0.0, 30.0, 59.9]),
        (Limits(lead_per_day=2), [0.0, 100.0, 86_399.0]),
    ],
)
def test_a_window_that_was_exceeded_is_found(limits: Limits, seconds: list[float]) -> None:
    history = delivered("a", "b", "c")
    history.arrived = [arrived(key, at) for key, at in zip("abc", seconds, strict=True)]
    history.limits = limits
    assert found(history) == [Kind.LIMIT]


def test_what_is_exactly_a_window_old_has_left_it_and_a_refused_token_is_not_in_it() -> None:
    history = delivered("a", "b", "c")
    history.arrived = [arrived("a", 0), arrived("b", 0.5, counted=False), arrived("b", 1), arrived("c", 60)]
    history.arrived[1] = arrived("b", 0.5, accepted=False, counted=False)
    history.limits = Limits(account_per_minute=2)
    assert check(history) == []
