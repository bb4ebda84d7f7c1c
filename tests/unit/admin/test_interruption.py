"""Signals to a process that must clean up before it ends."""

from __future__ import annotations

import signal

import pytest

from dispatcher.admin.demo.interruption import interruptible

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Finalised:
    """Is interrupted while it is collected; Python would only print what a handler raised here."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def interrupted(number: signal.Signals, reached: list[str]) -> None:
    with interruptible() as interruption:
        interruption.check()
        Finalised(number)
        reached.append("the next look")
        interruption.check()
        reached.append("what comes after it")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_block_at_its_next_look(number: signal.Signals) -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(number, reached)
    assert reached == ["the next look"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_block_that_never_looks_does_not_end_well(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        Finalised(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_wait_for_a_look(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        impatient(number)


def impatient(number: signal.Signals) -> None:
    with interruptible():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
