"""Judges a history: does what the outbox says agree with what producers committed and what RD Station got? Pure.

`check` answers every violation it finds, in words. No violation means: nothing committed was lost, nothing else was
sent, each copy has a recorded attempt that explains it, leads kept their order, and no limit was exceeded.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from tests.chaos.history import Arrived, End, Enqueued, History

ENDED = frozenset({"delivered", "dead", "cancelled"})
MAY_HAVE_ARRIVED = frozenset({"delivered", "uncertain", "abandoned"})
MINUTE, DAY = 60.0, 86_400.0


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    """Committed, and not in the outbox."""
    UNENDED = "unended"
    """In the outbox, and nothing will become of it."""
    NEVER_COMMITTED = "never committed"
    """Sent or kept although its transaction was rolled back, or nobody enqueued it."""
    TORN = "torn transaction"
    """A part of a transaction stands."""
    TWICE = "one fact, two rows"
    FALSE_DELIVERY = "false delivery"
    """Called delivered, and RD Station never got it; or delivered by two attempts."""
    UNEXPLAINED_COPY = "unexplained copy"
    """RD Station has more copies than attempts are recorded that may have brought one."""
    UNRECORDED_ATTEMPT = "unrecorded attempt"
    """Attempts have gaps, or are more than the row counted."""
    LETTER = "dead letter"
    """A dead event without exactly one open letter, or a letter of an event that is not dead."""
    ORDER = "order"
    """First arrivals of a lead, of types that its account never found closed, are not in the order of enqueue."""
    LIMIT = "limit"
    """More arrived within a window than RD Station allows."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be."""

    kind: Kind
    words: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


def check(history: History) -> list[Violation]:
    """Every violation in this history."""
    return [Violation(kind, words) for kind, examination in _EXAMINATIONS.items() for words in examination(history)]


def copies(history: History) -> Counter[str]:
    """How many copies beyond the first RD Station stored of each event that has any."""
    stored = Counter(one.key for one in history.arrived if one.accepted)
    return Counter({key: count - 1 for key, count in stored.items() if count > 1})


def _lost(history: History) -> Iterator[str]:
    kept = {row.key for row in history.rows}
    for key in sorted(_keys(history, End.COMMITTED) - kept):
        yield f"{key} was committed and is not in the outbox"


def _unended(history: History) -> Iterator[str]:
    for row in history.rows:
        if row.state not in ENDED:
            yield f"{row.key} is still {row.state} ({row.reason}) after {row.attempt} attempts"


def _never_committed(history: History) -> Iterator[str]:
    may_be = _keys(history, End.COMMITTED) | _keys(history, End.UNCLEAR)
    for key in sorted({row.key for row in history.rows} - may_be):
        yield f"{key} is in the outbox and was never committed"
    kept = {row.key for row in history.rows}
    for key in sorted({one.key for one in history.arrived} - _keys(history, End.COMMITTED) - kept):
        yield f"{key} was sent and was never committed"


def _torn(history: History) -> Iterator[str]:
    kept = {row.key for row in history.rows}
    known = _keys(history, End.COMMITTED)
    unclear: dict[str, list[str]] = defaultdict(list)
    for one in history.enqueued:
        if one.end is End.UNCLEAR and one.key not in known:  # another transaction may have brought it
            unclear[one.transaction].append(one.key)
    for transaction, keys in unclear.items():
        there = [key for key in keys if key in kept]
        if there and len(there) < len(keys):
            yield f"of transaction {transaction} only {there} of {keys} stand"


def _twice(history: History) -> Iterator[str]:
    for key, count in Counter(row.key for row in history.rows).items():
        if count > 1:
            yield f"{key} has {count} rows"


def _false_delivery(history: History) -> Iterator[str]:
    stored = {one.key for one in history.arrived if one.accepted}
    for row in history.rows:
        if row.state == "delivered" and row.key not in stored:
            yield f"{row.key} is delivered and RD Station never stored it"
    for key, verdicts in _verdicts(history).items():
        if verdicts["delivered"] > 1:
            yield f"{key} was settled as delivered {verdicts['delivered']} times"


def _unexplained(history: History) -> Iterator[str]:
    verdicts = _verdicts(history)
    for key, stored in Counter(one.key for one in history.arrived if one.accepted).items():
        explained = sum(verdicts[key][verdict] for verdict in MAY_HAVE_ARRIVED)
        if stored > explained:
            yield f"{key} was stored {stored} times; {explained} attempts explain it: {dict(verdicts[key])}"


def _unrecorded(history: History) -> Iterator[str]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for attempt in history.attempts:
        numbers[attempt.key].append(attempt.attempt)
    for row in history.rows:
        if row.state in ENDED and sorted(numbers[row.key]) != list(range(1, row.attempt + 1)):
            yield f"{row.key} counts {row.attempt} attempts, recorded are {sorted(numbers[row.key])}"


def _letters(history: History) -> Iterator[str]:
    letters = Counter(history.letters)
    for row in history.rows:
        if letters[row.key] != int(row.state == "dead"):
            yield f"{row.key} is {row.state} and has {letters[row.key]} open letters"


_FORBIDDEN = 403


def _order(history: History) -> Iterator[str]:
    first: dict[str, Arrived] = {}
    for one in history.arrived:
        if one.key not in first or one.seconds < first[one.key].seconds:
            first[one.key] = one
    lines: dict[tuple[str, str], list[Enqueued]] = defaultdict(list)
    for event in _by_place(history):
        if event.key in first:
            lines[event.account, event.lead].append(event)
    closed = _closed_types(history)
    for (account, _), line in lines.items():
        for earlier, later in pairwise(event for event in line if (account, _type_of(event.key)) not in closed):
            if first[later.key].seconds < first[earlier.key].seconds:
                yield f"{later.key} of {later.lead} arrived before {earlier.key}"


def _closed_types(history: History) -> set[tuple[str, str]]:
    """What RD Station has refused to let an account send: events of such a type leave their leads' lines (ADR 17)."""
    owner = {row.key: row.account for row in history.rows}
    return {(owner[one.key], _type_of(one.key)) for one in history.attempts if one.status == _FORBIDDEN}


def _type_of(key: str) -> str:
    return key.partition(":")[0]


def _by_place(history: History) -> list[Enqueued]:
    """The ordered events in the order of enqueue; an event enqueued again keeps its first place."""
    kept: dict[str, Enqueued] = {}
    for event in sorted(history.enqueued, key=lambda one: one.place):
        if event.ordered and event.end is not End.ROLLED_BACK:
            kept.setdefault(event.key, event)
    return list(kept.values())


def _limits(history: History) -> Iterator[str]:
    limits = history.limits
    yield from _windows(history, limits.account_per_minute, MINUTE, lambda one: one.account)
    yield from _windows(history, limits.lead_per_day, DAY, lambda one: f"{one.lead} of {one.account}")


def _windows(history: History, limit: int, seconds: float, whose: Callable[[Arrived], str]) -> Iterator[str]:
    """Sliding and half-open: what is exactly `seconds` old has left."""
    if not limit:
        return
    inside: dict[str, deque[float]] = defaultdict(deque)
    most: Counter[str] = Counter()
    for one in sorted(history.arrived, key=lambda arrival: arrival.seconds):
        if not one.counted:
            continue
        window = inside[whose(one)]
        window.append(one.seconds)
        while one.seconds - window[0] >= seconds:
            window.popleft()
        most[whose(one)] = max(most[whose(one)], len(window))
    for name, count in sorted(most.items()):
        if count > limit:
            yield f"{count} arrivals for {name} within {seconds:g} s, allowed are {limit}"


def _keys(history: History, end: End) -> set[str]:
    return {one.key for one in history.enqueued if one.end is end}


def _verdicts(history: History) -> defaultdict[str, Counter[str]]:
    verdicts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for attempt in history.attempts:
        verdicts[attempt.key][attempt.verdict] += 1
    return verdicts


_EXAMINATIONS: dict[Kind, Callable[[History], Iterator[str]]] = {
    Kind.LOST: _lost,
    Kind.UNENDED: _unended,
    Kind.NEVER_COMMITTED: _never_committed,
    Kind.TORN: _torn,
    Kind.TWICE: _twice,
    Kind.FALSE_DELIVERY: _false_delivery,
    Kind.UNEXPLAINED_COPY: _unexplained,
    Kind.UNRECORDED_ATTEMPT: _unrecorded,
    Kind.LETTER: _letters,
    Kind.ORDER: _order,
    Kind.LIMIT: _limits,
}
