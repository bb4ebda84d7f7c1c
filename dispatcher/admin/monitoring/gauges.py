"""What is read from the tables for each scrape, and what it is called. One reading is of the whole fleet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from dispatcher.outbox.overview import AccountState, AccountView, Overview

OTHERS: Final = "(others)"
"""The label of the accounts that are not listed by name; no account can be called so."""

SILENT_AFTER_SECONDS: Final = 60.0
"""A worker's sweeper writes its progress every few seconds; after so long without, the worker is silent."""


class Gauge(NamedTuple):
    """A gauge's meaning, for the page of metrics and for Prometheus, and the names of its labels."""

    meaning: str
    labels: tuple[str, ...] = ()


GAUGES: Final[Mapping[str, Gauge]] = {
    "database_up": Gauge("1 if the database answered; if not, nothing below is there."),
    "schema_current": Gauge("1 if the tables are of this release."),
    "events": Gauge("Events that are not ended, and open dead letters.", ("state",)),
    "oldest_due_seconds": Gauge("How long the oldest due event has been waiting; 0: none waits."),
    "oldest_dead_seconds": Gauge("Age of the oldest open dead letter; 0: none is open."),
    "accounts": Gauge("Accounts in each state.", ("state",)),
    "breakers_open": Gauge("Accounts whose breaker is open: RD Station fails for them."),
    "suspended_types": Gauge("Event types that some account does not send, counted once for each account."),
    "workers": Gauge(
        "Workers of the last hour: progressing, silent, or stalled (ended by their watchdog).", ("state",)
    ),
    "time_to_drain_seconds": Gauge(
        "When the last event that is due now can be gone, at the rate that the limits permit; of the slowest account."
    ),
    "account_due": Gauge("Due events of an account.", ("account",)),
    "account_oldest_due_seconds": Gauge("How long the account's oldest due event has been waiting.", ("account",)),
    "account_time_to_drain_seconds": Gauge("As `time_to_drain_seconds`, of one account.", ("account",)),
    "account_held": Gauge("1 for an account that is not open, with why.", ("account", "state", "reason")),
    "permits_used": Gauge("Permits in the account's window of a minute.", ("account",)),
    "permits_available": Gauge("Permits that are left in it; not there without a limit.", ("account",)),
    "utilisation": Gauge("The used part of the account's permits, 0 to 1; not there without a limit.", ("account",)),
    "accounts_not_listed": Gauge("Busy accounts that are summed up as `(others)`."),
    "notices_open": Gauge("Notices that are raised and not resolved.", ("kind",)),
    "reading_seconds": Gauge("How long the reading of the tables took."),
}
"""Every gauge. Prometheus sees it as `dispatcher_<name>`."""


class Sample(NamedTuple):
    """One value."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database says at one moment.

    Attributes:
        seen: The outbox without what has ended, with the use of each account's limits.
        notices: Open notices of each kind.
        seconds: How long it took to read.
    """

    seen: Overview
    notices: Mapping[str, int]
    seconds: float


def samples(reading: Reading, *, at_most: int) -> Iterator[Sample]:
    """All values of a reading, at most so many accounts by name: those that are held, then those with most to send."""
    seen = reading.seen
    for state in ("pending", "in_flight", "dead"):
        yield Sample("events", seen.states[state], (state,))
    yield Sample("oldest_due_seconds", seen.oldest_due_seconds)
    yield Sample("oldest_dead_seconds", seen.oldest_dead_seconds)
    for state in AccountState:
        yield Sample("accounts", sum(view.state is state for view in seen.accounts), (state.value,))
    yield Sample("breakers_open", sum(view.reason == "breaker_open" for view in seen.accounts))
    yield Sample("suspended_types", sum(len(view.suspended_types) for view in seen.accounts))
    for state, count in workers(seen).items():
        yield Sample("workers", count, (state,))
    yield Sample("time_to_drain_seconds", _to_drain(seen.accounts))
    for kind, count in sorted(reading.notices.items()):
        yield Sample("notices_open", count, (kind,))
    yield Sample("reading_seconds", reading.seconds)
    yield from _accounts(reading, at_most)


def workers(seen: Overview) -> dict[str, int]:
    """How many workers make progress, are silent, or were ended by their watchdog."""
    counts = {"progressing": 0, "silent": 0, "stalled": 0}
    for worker in seen.workers:
        silent = (seen.at - worker.progress_at).total_seconds() > SILENT_AFTER_SECONDS
        counts["stalled" if worker.stalled_at else "silent" if silent else "progressing"] += 1
    return counts


def _accounts(reading: Reading, at_most: int) -> Iterator[Sample]:
    busy = sorted((view for view in reading.seen.accounts if _is_busy(view)), key=_rank)
    yield Sample("accounts_not_listed", max(0, len(busy) - at_most))
    for view in busy[:at_most]:
        if view.state is not AccountState.OPEN:
            yield Sample("account_held", 1, (view.account, view.state.value, _word(view)))
        yield from _account(view.account, [view])
    if len(busy) > at_most:
        yield from _account(OTHERS, busy[at_most:])


def _account(name: str, views: list[AccountView]) -> Iterator[Sample]:
    label = (name,)
    used = sum(view.limits.used for view in views if view.limits)
    limits = [_limit(view) for view in views]
    yield Sample("account_due", sum(view.due for view in views), label)
    yield Sample("account_oldest_due_seconds", max(view.oldest_due_seconds for view in views), label)
    yield Sample("permits_used", used, label)
    if all(limits):
        total = sum(limit for limit in limits if limit)
        yield Sample("permits_available", max(0, total - used), label)
        yield Sample("utilisation", used / total, label)
        yield Sample("account_time_to_drain_seconds", _to_drain(views), label)


def _limit(view: AccountView) -> int | None:
    """What the account may send in this minute; None: no limit, or no claim has made it known yet."""
    return view.limits.allowed or None if view.limits else None


def _to_drain(views: Iterable[AccountView]) -> float:
    return max((60 * view.due / limit for view in views if (limit := _limit(view))), default=0.0)


def _is_busy(view: AccountView) -> bool:
    return bool(
        view.due
        or view.in_flight
        or view.suspended_types
        or view.state is not AccountState.OPEN
        or (view.limits and view.limits.used)
    )


def _rank(view: AccountView) -> tuple[bool, int, str]:
    return (view.state is AccountState.OPEN, -view.due, view.account)


def _word(view: AccountView) -> str:
    """Why it is held, as a word of a fixed set: a person's note is nobody else's business, and no label."""
    return "person" if view.state is AccountState.PAUSED else view.reason or ""
