"""Whose job is next: fairly, and for the same price among hundreds of accounts as among three."""

import random
from collections import Counter

import pytest

from workers.lines import Job, Lines


def job(account: str, latest_start: float = 100.0, size: int = 1) -> Job[str]:
    return Job(account, latest_start, lambda: account, lambda why: why, size)


def taken(lines: Lines[str]) -> Job[str]:
    found = lines.take()
    assert found is not None
    return found


def test_whoever_has_the_fewest_running_is_next_and_then_whoever_has_been_so_for_longest() -> None:
    lines = Lines[str](most_running=10)
    for account in "aaabbc":
        lines.put(job(account))
    first = [taken(lines) for _ in range(4)]
    assert [one.account for one in first] == ["a", "b", "c", "a"]
    lines.ended(first[1])  # b has none running now
    lines.put(job("d"))
    assert [taken(lines).account for _ in range(3)] == ["b", "d", "a"]
    assert lines.take() is None


def test_an_account_at_its_cap_waits_until_one_of_its_jobs_has_ended() -> None:
    lines = Lines[str](most_running=2)
    for account in "aaab":
        lines.put(job(account))
    running = [taken(lines) for _ in range(3)]
    assert [one.account for one in running] == ["a", "b", "a"]
    assert lines.take() is None
    lines.put(job("a"))
    assert lines.take() is None
    lines.ended(running[0])
    assert taken(lines).account == "a"
    assert lines.take() is None


def test_what_is_removed_is_not_outstanding_and_what_stays_keeps_its_order() -> None:
    lines = Lines[str](most_running=10)
    for account, latest_start, size in (("a", 1.0, 3), ("a", 5.0, 2), ("b", 1.0, 1), ("a", 2.0, 4)):
        lines.put(job(account, latest_start, size))
    assert [one.size for one in lines.remove_late(2.0)] == [3, 1]
    assert (lines.waiting, lines.events, lines.outstanding()) == (2, 6, {"a": 6})
    first = taken(lines)
    assert (first.size, lines.waiting, lines.events) == (2, 1, 6)
    assert [one.size for one in lines.remove_all()] == [4]
    assert lines.outstanding() == {"a": 2}
    lines.ended(first)
    assert (lines.waiting, lines.events, lines.outstanding()) == (0, 0, {})
    assert lines.take() is None


@pytest.mark.parametrize("seed", range(20))
def test_at_every_step_the_next_has_the_fewest_running_of_all_that_may(seed: int) -> None:
    rng, cap = random.Random(seed), 3  # noqa: S311 - a test chooses, nobody guesses
    lines, waiting = Lines[str](cap), Counter[str]()
    running: list[Job[str]] = []
    for _ in range(400):
        step = rng.random()
        if step < 0.4:
            account = rng.choice("abcdefgh")
            lines.put(job(account, rng.random()))
            waiting[account] += 1
        elif step < 0.45:
            waiting -= Counter(late.account for late in lines.remove_late(rng.random() / 4))
        elif step < 0.65 and running:
            lines.ended(running.pop(rng.randrange(len(running))))
        else:
            runs = Counter(one.account for one in running)
            may = {account: runs[account] for account in waiting if waiting[account] and runs[account] < cap}
            found = lines.take()
            assert (found is None) == (not may)
            if found is not None:
                assert may[found.account] == min(may.values())
                waiting[found.account] -= 1
                running.append(found)
        assert lines.waiting == waiting.total()
        assert lines.events == waiting.total() + len(running)


def test_choosing_costs_the_same_among_many_accounts() -> None:
    def looks(accounts: int) -> int:
        lines = Lines[str](most_running=10)
        for number in range(accounts):
            lines.put(job(Counted(f"account-{number}")))
            lines.put(job(Counted(f"account-{number}")))
        Counted.looks = 0
        running = [taken(lines), taken(lines)]
        lines.ended(running[0])
        taken(lines)
        return Counted.looks

    assert looks(300) == looks(4)


class Counted(str):
    """A name that counts how often it is looked up."""

    __slots__ = ()
    looks = 0

    def __hash__(self) -> int:
        Counted.looks += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Counted.looks += 1
        return super().__eq__(other)
