"""Sliding windows, measured at arrival by the sandbox's own clock, and what went over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum

ACCOUNT_SECONDS = 60.0
LEAD_SECONDS = 86_400.0


class _Kind(Enum):
    ADMITTED = 0
    REFUSED = 1
    OTHERS = 2


class SlidingWindow:
    """The arrivals of the last `seconds` of one account or lead, half-open: what is exactly `seconds` old has left.

    A refused arrival takes no place, so that a client that waits gets in again; it does count as an arrival.
    """

    __slots__ = ("_entries", "_inside", "above", "arrived", "max_arrived", "refused", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.arrived = 0
        self.refused = 0
        """Arrivals that found the window full, whoever had filled it: the 429s."""
        self.above = 0
        """Arrivals that found the window full by our own arrivals alone: our violations."""
        self.max_arrived = 0
        self._entries: deque[tuple[float, int, _Kind]] = deque()
        self._inside = [0, 0, 0]

    def arrive(self, now: float, limit: int, *, cost: int = 1, enforce: bool = True) -> bool:
        """Count an arrival; answers whether there was room. With `enforce=False` it takes its place regardless."""
        self._forget(now)
        ours, _, others = self._inside
        room = not limit or ours + others + cost <= limit
        self.arrived += cost
        if not room:
            self.refused += cost
        if limit and ours + cost > limit:
            self.above += cost
        self._enter(now, cost, _Kind.ADMITTED if room or not enforce else _Kind.REFUSED)
        self.max_arrived = max(self.max_arrived, self._inside[0] + self._inside[1])
        return room

    def taken_by_others(self, now: float, count: int) -> None:
        """Another app of the same account used a part of the quota (rdstation-api.md §6)."""
        self._forget(now)
        self._enter(now, count, _Kind.OTHERS)

    def usage(self, now: float) -> int:
        """Places taken."""
        self._forget(now)
        return self._inside[0] + self._inside[2]

    def seconds_until_room(self, now: float, limit: int, cost: int = 1) -> float:
        """How long until `cost` more fit; the whole window if they never do."""
        self._forget(now)
        excess = self._inside[0] + self._inside[2] + cost - limit
        for at, weight, kind in self._entries:
            if excess <= 0:
                break
            if kind is not _Kind.REFUSED:
                excess -= weight
                if excess <= 0:
                    return at + self.seconds - now
        return 0.0 if excess <= 0 else self.seconds

    def _enter(self, now: float, weight: int, kind: _Kind) -> None:
        self._entries.append((now, weight, kind))
        self._inside[kind.value] += weight

    def _forget(self, now: float) -> None:
        while self._entries and now - self._entries[0][0] >= self.seconds:
            _, weight, kind = self._entries.popleft()
            self._inside[kind.value] -= weight


@dataclass(frozen=True, slots=True)
class WindowReport:
    """One window, as seen so far.

    Attributes:
        account: The account.
        lead: The lead, or None for the account's own window.
        limit: The limit now; 0 = unlimited.
        seconds: The window's length.
        arrived: Events that arrived with a valid token, refused ones included.
        above: Those that arrived although our own earlier ones had filled the window.
        refused: Those that found no room, counting also what other apps had taken: the 429s given.
        max_in_window: The most that arrived in any window of that length, refused ones included.
    """

    account: str
    lead: str | None
    limit: int
    seconds: float
    arrived: int
    above: int
    refused: int
    max_in_window: int


@dataclass(frozen=True, slots=True)
class Violations:
    """What the dispatcher did that RD Station's limits forbid. `total == 0` is the promise.

    Attributes:
        total: Events that arrived above a limit, over all windows.
        lead_overlaps: Events that arrived while an earlier one of the same lead was still being answered. A
            client that gives up on a hanging answer is noticed within 50 ms; until then its request counts.
        accounts: Every account's window, also the clean ones.
        leads: The leads' windows that were exceeded.
    """

    total: int
    lead_overlaps: int
    accounts: tuple[WindowReport, ...]
    leads: tuple[WindowReport, ...]

    def as_dict(self) -> dict[str, object]:
        """The form of `GET /sandbox/violations`."""
        return asdict(self)


class Windows:
    """The windows of all accounts and leads. Not thread-safe: the provider's lock guards it."""

    def __init__(self) -> None:
        self._accounts: dict[str, SlidingWindow] = {}
        self._leads: dict[tuple[str, str], SlidingWindow] = {}

    def of_account(self, account: str) -> SlidingWindow:
        """The account's minute."""
        if (window := self._accounts.get(account)) is None:
            window = self._accounts[account] = SlidingWindow(ACCOUNT_SECONDS)
        return window

    def of_lead(self, account: str, lead: str) -> SlidingWindow:
        """The lead's day, within one account."""
        if (window := self._leads.get((account, lead))) is None:
            window = self._leads[account, lead] = SlidingWindow(LEAD_SECONDS)
        return window

    def report(self, limits: Iterable[tuple[str, int, int]], lead_overlaps: int) -> Violations:
        """Everything seen so far; `limits` holds each account with its minute's and its leads' limit."""
        known = {account: (per_minute, per_day) for account, per_minute, per_day in limits}
        accounts = tuple(
            _report(window, account, None, known[account][0]) for account, window in sorted(self._accounts.items())
        )
        leads = tuple(
            _report(window, account, lead, known[account][1])
            for (account, lead), window in sorted(self._leads.items())
            if window.above or window.refused
        )
        return Violations(sum(one.above for one in (*accounts, *leads)), lead_overlaps, accounts, leads)


def _report(window: SlidingWindow, account: str, lead: str | None, limit: int) -> WindowReport:
    return WindowReport(
        account, lead, limit, window.seconds, window.arrived, window.above, window.refused, window.max_arrived
    )
