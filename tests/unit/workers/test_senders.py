"""Sender threads. Real: threads and locks. Doubled: the clock, and the jobs, which wait until the test lets them go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dispatcher.clock import SystemClock
from workers.lines import Job
from workers.senders import Senders

PATIENCE = 10.0


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> object:
        raise AssertionError("senders measure, they do not date")

    def wait(self, event: threading.Event, seconds: float) -> bool:
        raise AssertionError(f"senders never wait by the clock, here {seconds} s for {event}")


class Gate:
    """A job that tells when it runs and ends when it is let go."""

    def __init__(self, account: str, name: str = "", latest_start: float = 1e9) -> None:
        self.account, self.name, self.latest_start = account, name or account, latest_start
        self.running, self.open = threading.Event(), threading.Event()

    def job(self) -> Job[str]:
        return Job(self.account, self.latest_start, self._run, lambda why: f"{self.name} not sent: {why}")

    def _run(self) -> str:
        self.running.set()
        assert self.open.wait(PATIENCE)
        return self.name


Make = Callable[[int], Senders[str]]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make(clock: HandClock) -> Iterator[Make]:
    made: list[Senders[str]] = []

    def make(slots: int) -> Senders[str]:
        made.append(Senders(clock, slots))  # type: ignore[arg-type]  # its `now` only refuses
        return made[-1]

    yield make
    for senders in made:
        senders.close()


def quick(account: str, name: str = "") -> Job[str]:
    return Job(account, 1e9, lambda: name or account, lambda why: why)


def results(senders: Senders[str], count: int) -> list[str]:
    found: list[str] = []
    until = SystemClock().monotonic() + PATIENCE
    while len(found) < count and SystemClock().monotonic() < until:  # whoever waits is woken by jobs that break as well
        found += senders.results(count - len(found), PATIENCE, at_most=count - len(found))
    assert len(found) == count, f"only {found} of {count} results came"
    return found


def running(*gates: Gate) -> None:
    for gate in gates:
        assert gate.running.wait(PATIENCE)


def let_go(*gates: Gate) -> None:
    for gate in gates:
        gate.open.set()


def test_two_accounts_that_hang_leave_a_slot_for_a_third(make: Make) -> None:
    senders = make(5)
    hanging = [Gate(account, f"{account}{n}") for n in range(4) for account in ("a", "b")]
    senders.submit([gate.job() for gate in hanging])
    running(*hanging[:4])
    senders.submit([quick("c")])
    assert results(senders, 1) == ["c"]
    assert not any(gate.running.is_set() for gate in hanging[4:]), "an account went over its cap"
    let_go(*hanging)
    assert len(results(senders, 8)) == 8


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_no_account_starves_behind_others_with_long_lines(make: Make, slots: int) -> None:
    senders = make(slots)
    doors = [Gate(f"door{n}") for n in range(slots)]
    senders.submit([door.job() for door in doors])
    running(*doors)
    accounts = ["a", "b", "c", "d"]
    senders.submit([quick(account) for account in accounts for _ in range(20)])
    let_go(*doors)
    order = [name for name in results(senders, 80 + slots) if not name.startswith("door")]
    assert set(order[: 4 * len(accounts)]) == set(accounts)


def test_results_keep_coming_when_the_number_of_threads_shrinks(make: Make, clock: HandClock) -> None:
    senders = make(0)
    slow = Gate("a")
    senders.submit([slow.job()])
    running(slow)
    clock.seconds += 0.05  # a latency that wants some thirty threads
    let_go(slow)
    results(senders, 1)
    crowd = [Gate("a", f"a{n}") for n in range(30)]
    senders.submit([gate.job() for gate in crowd])
    running(*crowd)
    clock.seconds += 0.05
    let_go(*crowd)
    results(senders, 30)
    for n in range(60):  # now answers come at once: fewer threads are wanted with each
        senders.submit([quick("a", str(n))])
        assert results(senders, 1) == [str(n)]


def test_a_job_that_raises_keeps_no_slot_and_is_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def explode() -> str:
        raise ValueError("a secret")

    senders = make(1)
    senders.submit([Job("a", 1e9, explode, str), quick("a", "next")])
    assert results(senders, 1) == ["next"]
    assert (senders.broken(), senders.broken()) == (1, 0)
    assert "drain.failed" in caplog.text
    assert "a secret" not in caplog.text


def test_two_at_once_are_enough_until_the_first_answer(make: Make, clock: HandClock) -> None:
    senders = make(0)
    gates = [Gate("a", str(number)) for number in range(9)]
    senders.submit([gate.job() for gate in gates[:8]])
    running(*gates[:2])
    assert not gates[2].running.is_set(), "a third asked before anybody was answered"
    clock.seconds += 0.001
    let_go(gates[0])
    assert results(senders, 1) == ["0"]
    senders.submit([gates[8].job()])
    running(*gates[1:5])
    let_go(*gates)


def test_whoever_waits_for_results_is_told_of_jobs_that_broke(make: Make) -> None:
    def explode() -> str:
        raise ValueError

    senders, door = make(1), Gate("a")
    senders.submit([door.job(), Job("a", 1e9, explode, str)])
    running(door)
    waiting = threading.Thread(target=lambda: senders.results(2, 1000 * PATIENCE, at_most=9))
    waiting.start()
    let_go(door)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()


def test_results_come_in_order_and_no_more_than_asked_for(make: Make) -> None:
    senders = make(1)
    senders.submit([quick("a", str(number)) for number in range(5)])
    assert senders.results(5, PATIENCE, at_most=3) == ["0", "1", "2"]
    assert senders.results(2, 0.0, at_most=3) == ["3", "4"]
    assert senders.results(1, 0.0, at_most=3) == []
    senders.submit([Job("a", 1e9, lambda: "many", str, size=20), quick("a", "one more")])
    assert senders.results(21, PATIENCE, at_most=3) == ["many"]
    assert senders.results(1, 0.0, at_most=0) == []
    assert senders.results(1, 0.0, at_most=1) == ["one more"]


def test_jobs_that_can_no_longer_start_in_time_are_given_back(make: Make, clock: HandClock) -> None:
    senders = make(1)
    first = Gate("a", "first")
    senders.submit([first.job(), Gate("a", "late", latest_start=110).job(), Gate("b", "later", latest_start=120).job()])
    running(first)
    assert senders.overdue() == []
    clock.seconds = 111
    assert senders.overdue() == ["late not sent: too little of the lease was left"]
    assert senders.outstanding() == {"a": 1, "b": 1}
    senders.give_up("the end")
    let_go(first)


def test_a_job_counts_for_the_events_it_stands_for(make: Make) -> None:
    def explode() -> str:
        raise ValueError

    senders = make(1)
    first = Gate("a", "first")
    senders.submit([replace(first.job(), size=50), replace(quick("a"), size=7), Job("b", 1e9, explode, str, size=20)])
    running(first)
    assert senders.outstanding() == {"a": 57, "b": 20}
    let_go(first)
    assert results(senders, 2) == ["first", "a"]
    while not (broken := senders.broken()):
        pass
    assert broken == 20
    senders.give_up("the end")


def test_giving_up_empties_the_lines_and_lets_what_runs_end(make: Make) -> None:
    senders = make(1)
    first = Gate("a", "first")
    senders.submit([first.job(), Gate("a", "second").job(), Gate("b", "third").job()])
    running(first)
    assert sorted(senders.give_up("bye")) == ["second not sent: bye", "third not sent: bye"]
    let_go(first)
    assert results(senders, 1) == ["first"]


def test_hanging_sends_take_no_slot_from_the_others(make: Make, clock: HandClock) -> None:
    senders = make(0)
    hanging = [Gate("a", f"a{n}") for n in range(2)]  # as many as there are threads at first
    senders.submit([gate.job() for gate in hanging])
    running(*hanging)
    clock.seconds += 2
    senders.submit([quick("b")])
    assert results(senders, 1) == ["b"]
    let_go(*hanging)


def test_the_threads_of_a_drain_end_with_it(make: Make) -> None:
    before = set(threading.enumerate())
    senders = make(8)
    crowd = [Gate("a", f"a{n}") for n in range(3)] + [Gate("b", f"b{n}") for n in range(3)]
    senders.submit([gate.job() for gate in crowd])
    running(*crowd)
    mine = set(threading.enumerate()) - before
    assert len(mine) >= len(crowd)
    let_go(*crowd)
    results(senders, len(crowd))
    senders.close()
    for thread in mine:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("slots", [1, 2])
def test_with_fewer_than_three_slots_two_accounts_that_hang_do_not_stop_a_third(
    make: Make, clock: HandClock, slots: int
) -> None:
    senders = make(slots)
    hanging = [Gate(account) for account in ("a", "b")]
    senders.submit([gate.job() for gate in hanging])
    running(hanging[0])
    for _ in hanging:  # whoever hangs for more than a second is not counted any more
        clock.seconds += 2
        assert senders.overdue() == []
    running(*hanging)
    clock.seconds += 2
    senders.submit([quick("c")])
    assert results(senders, 1) == ["c"]
    let_go(*hanging)
    assert sorted(results(senders, 2)) == ["a", "b"]


@pytest.mark.parametrize("slots", [1, 2])
def test_while_nothing_hangs_no_more_run_than_there_are_slots(make: Make, slots: int) -> None:
    senders = make(slots)
    gates = [Gate(f"account-{number}") for number in range(4)]
    senders.submit([gate.job() for gate in gates])
    running(*gates[:slots])
    assert senders.overdue() == []
    assert not any(gate.running.is_set() for gate in gates[slots:])
    let_go(*gates)
    results(senders, 4)
