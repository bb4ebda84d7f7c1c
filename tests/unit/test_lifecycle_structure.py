"""The declaration of states and transitions against DESIGN §5. Real: `dispatcher.lifecycle`. Doubled: nothing."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from dispatcher import lifecycle
from dispatcher.lifecycle import CANCEL_REASONS, TRANSITIONS, Reason, State, Transition

WAYS_OUT = {
    ("pending", "in_flight"): {"claim"},
    ("pending", "cancelled"): {"cancel", "supersede", "recognise", "expire", "discard", "forget", "merge_late"},
    ("pending", "dead"): {"outlive", "strand"},
    ("pending", "pending"): {"defer", "replace", "await_parts", "await_whole"},
    ("in_flight", "delivered"): {"complete"},
    ("in_flight", "pending"): {"reschedule", "release"},
    ("in_flight", "dead"): {"bury"},
    ("in_flight", "cancelled"): {"withdraw"},
    ("dead", "pending"): {"replay"},
    ("dead", "delivered"): {"confirm"},
    ("dead", "cancelled"): {"discard", "forget"},
    ("cancelled", "pending"): {"revive"},
}
"""The table of DESIGN §5: nothing leaves `delivered`, and `cancelled` only by enqueuing the same key again."""

PEOPLE = {"shop", "operator"}


def leaving(state: State) -> list[Transition]:
    return [each for each in TRANSITIONS if state in each.sources]


def reachable(start: set[State], *, without: set[str] | None = None) -> set[State]:
    found: set[State] = set()
    ahead = set(start)
    while ahead:
        found |= ahead
        ahead = {each.target for state in ahead for each in leaving(state) if each.by not in (without or set())} - found
    return found


def test_the_ways_between_the_states_are_those_of_the_design() -> None:
    declared: dict[tuple[str, str], set[str]] = {}
    for each in TRANSITIONS:
        for source in each.sources:
            declared.setdefault((source.value, each.target.value), set()).add(each.name)
    assert declared == WAYS_OUT


def test_names_are_unique_and_every_declared_transition_is_listed() -> None:
    names = [each.name for each in TRANSITIONS]
    assert len(names) == len(set(names))
    declared = {each.name for each in vars(lifecycle).values() if isinstance(each, Transition)}
    assert declared == set(names)


def test_every_transition_names_itself_in_capitals() -> None:
    assert all(getattr(lifecycle, each.name.upper()) is each for each in TRANSITIONS)


def test_every_state_is_reached_from_pending() -> None:
    assert reachable({State.PENDING}) == set(State)


def test_every_state_can_end() -> None:
    for state in State:
        assert reachable({state}) & {State.DELIVERED, State.CANCELLED}, state


def test_what_is_not_finished_moves_on_without_people_except_a_dead_letter() -> None:
    moved = {
        state for state in State if any(each.by not in PEOPLE and each.target is not state for each in leaving(state))
    }
    assert moved == {State.PENDING, State.IN_FLIGHT}
    assert {each.by for each in leaving(State.DEAD)} == {"operator"}


def test_without_people_every_event_ends_delivered_dead_or_cancelled() -> None:
    ends = reachable({State.PENDING}, without=PEOPLE) - {State.PENDING, State.IN_FLIGHT}
    assert ends == {State.DELIVERED, State.DEAD, State.CANCELLED}


def test_exactly_the_settlements_of_an_attempt_are_fenced() -> None:
    assert {each.name for each in TRANSITIONS if each.fenced} == {each.name for each in leaving(State.IN_FLIGHT)}


def test_only_a_claim_leads_into_flight() -> None:
    assert [each.name for each in TRANSITIONS if each.target is State.IN_FLIGHT] == ["claim"]


def test_every_transition_says_who_and_when() -> None:
    assert all(each.sources and each.by and each.why for each in TRANSITIONS)


def test_reasons_to_cancel_are_apart_from_reasons_to_bury() -> None:
    assert {reason.value for reason in CANCEL_REASONS} == {
        "cancelled", "superseded", "expired", "discarded", "forgotten", "merged_late",
    }  # fmt: skip
    assert set(Reason) - CANCEL_REASONS == {
        Reason.REJECTED, Reason.TYPE_RETIRED, Reason.TOO_LARGE, Reason.MALFORMED, Reason.INVALID,
        Reason.TOO_MANY_FAILURES, Reason.TOO_OLD, Reason.HELD_UNCERTAIN, Reason.UUID_UNKNOWN,
        Reason.MERGED,
        Reason.ARRIVED,
    }  # fmt: skip


def test_words_are_their_names_in_small_letters() -> None:
    assert all(word.value == word.name.lower() for words in (State, Reason) for word in words)


def test_no_code_can_bend_a_transition() -> None:
    with pytest.raises(FrozenInstanceError):
        lifecycle.CLAIM.target = State.DELIVERED  # type: ignore[misc]  # that is what is asked
