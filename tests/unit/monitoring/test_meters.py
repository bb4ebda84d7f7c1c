"""Counting in a process. Doubles nothing."""

from __future__ import annotations

import os

import pytest

from dispatcher import meters, telemetry
from dispatcher.meters import MEASURES, TALLY, Tally


def test_counts_add_up_by_label_and_are_taken_once() -> None:
    tally = Tally()
    tally.add("attempts", verdict="delivered")
    tally.add("attempts", 2, verdict="delivered")
    tally.add("attempts", verdict="rejected")
    assert tally.take() == {("attempts", "verdict=delivered"): 3, ("attempts", "verdict=rejected"): 1}
    assert tally.take() == {}


def test_what_could_not_be_stored_is_counted_again() -> None:
    tally = Tally()
    tally.add("sweeps")
    taken = tally.take()
    tally.add("sweeps")
    tally.put_back(taken)
    assert tally.take() == {("sweeps", ""): 2}


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    tally = Tally()
    for seconds in (0.1, 0.1001, 99.0):
        tally.time("send_seconds", seconds)
    assert tally.take() == {
        ("send_seconds_bucket", "le=0.1"): 1,
        ("send_seconds_bucket", "le=0.25"): 1,
        ("send_seconds_bucket", "le=+Inf"): 1,
        ("send_seconds_sum", ""): pytest.approx(99.2001),
    }


@pytest.mark.parametrize(("name", "labels"), [("surplus", {}), ("attempts", {}), ("attempts", {"account": "a"})])
def test_what_is_not_declared_cannot_be_counted(name: str, labels: dict[str, str]) -> None:
    with pytest.raises(KeyError):
        Tally().add(name, 1, **labels)


def test_names_and_labels_fit_their_columns() -> None:
    for name, measure in MEASURES.items():
        assert len(f"{name}_bucket") <= 48
        assert not (measure.label and measure.buckets), "a histogram's only label is its bound"


def test_a_log_line_of_a_measure_is_counted_without_another_word() -> None:
    TALLY.take()
    telemetry.emit("token.refreshed", account="a")
    telemetry.emit("account.probed", account="a", well=False, why_not="x")
    telemetry.emit("sweep.expired", count=7)
    telemetry.emit("drain.failed", step="claim", error="x")
    assert TALLY.take() == {
        ("token_refreshes", "result=renewed"): 1,
        ("probes", "result=not_well"): 1,
        ("expired_events", ""): 7,
        ("failures", "step=drain"): 1,
    }


@pytest.mark.parametrize(
    ("event_name", "place"),
    [
        ("token.refreshed", ("token_refreshes", "result=renewed")),
        ("token.refused", ("token_refreshes", "result=refused")),
        ("delivery.lost", ("late_settlements", "")),
        ("account.suspended", ("openings", "what=account_suspended")),
        ("type.suspended", ("openings", "what=type_suspended")),
        ("breaker.opened", ("openings", "what=breaker_opened")),
        ("worker.stalled", ("stalls", "")),
        ("sweep.failed", ("failures", "step=sweep")),
    ],
)
def test_each_line_is_counted_in_its_place(event_name: str, place: tuple[str, str]) -> None:
    TALLY.take()
    meters.note(event_name, {})
    assert TALLY.take() == {place: 1}


def test_a_forked_child_counts_from_zero() -> None:
    TALLY.take()
    TALLY.add("sweeps")
    child = os.fork()
    if child == 0:
        os._exit(len(TALLY.take()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert TALLY.take() == {("sweeps", ""): 1}
