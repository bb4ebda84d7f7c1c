"""What a claim must do: a pure model beside the store, of lines, ages, supersede and windows.

It knows nothing of candidates, sleepers, wakes and turns, which are how the store does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dispatcher.outbox.permits import ACCOUNT_WINDOW, LEAD_WINDOW, Quota
from tests.contract.machine.snapshot import Row, Snapshot, place

MAX_AGE = timedelta(days=7)

Held = tuple[int, int]


@dataclass
class Forecast:
    """What a claim that takes all it may must do. `may` holds what it may do besides, to events further back.

    Attributes:
        taken: Leased, in no order.
        perhaps: Leased or not: behind an event that may have been held for a part of its long life, and that event.
        ended: What becomes of others on the way: the state and the reason.
        may: Likewise, where nobody need look now.
    """

    taken: set[int] = field(default_factory=set)
    perhaps: set[int] = field(default_factory=set)
    ended: dict[int, tuple[str, str]] = field(default_factory=dict)
    may: dict[int, tuple[str, str]] = field(default_factory=dict)


def forecast(snapshot: Snapshot, now: datetime, *, paused: set[str], held_once: set[str], moot: Moot) -> Forecast:
    """Without limits: the first of each line that is due goes, unless it has no business to go any more."""
    found = Forecast()
    alone = [[row] for row in snapshot.in_state("pending") if row["ordering"] == "none"]
    for queue in [*snapshot.lines().values(), *alone]:
        if queue[0]["account"] in paused:
            continue
        _walk(found, [row for row in queue if row["state"] == "pending"], queue, snapshot, now, held_once, moot)
    return found


Moot = Callable[[Snapshot, Row], bool]
"""True if another event of the snapshot makes this one moot, as the shop understands it."""


def _walk(
    found: Forecast,
    pending: Sequence[Row],
    queue: Sequence[Row],
    snapshot: Snapshot,
    now: datetime,
    held_once: set[str],
    moot: Moot,
) -> None:
    blocked, open_question = len(pending) < len(queue), False
    for row in sorted(pending, key=place):
        if row["available_at"] > now:
            blocked = True  # a retry keeps its place; whatever is due later has a later place
        verdict = _business(snapshot, row, now, moot)
        if verdict is None and not blocked and now - row["budget_from"] > MAX_AGE:
            if row["account"] not in held_once:
                verdict = ("dead", "too_old")
            else:  # the time it was held does not count, and this does not count it
                found.may[row["id"]] = ("dead", "too_old")
                open_question = True
        if verdict is not None:
            (found.may if blocked or open_question else found.ended)[row["id"]] = verdict
        elif not blocked:
            (found.perhaps if open_question else found.taken).add(row["id"])
            blocked = not open_question


def _business(snapshot: Snapshot, row: Row, now: datetime, moot: Moot) -> tuple[str, str] | None:
    if row["expires_at"] is not None and row["expires_at"] <= now:
        return ("cancelled", "expired")
    return ("cancelled", "superseded") if moot(snapshot, row) else None


@dataclass
class Windows:
    """RD Station's windows as it sees them: in time that really passes, whatever the database's clock says."""

    _sent: dict[Held, tuple[str, str, datetime, datetime]] = field(default_factory=dict)

    def reserve(self, held: Held, account: str, lead: str, now: datetime, lease: timedelta) -> None:
        """It may arrive until the lease has ended."""
        self._sent[held] = (account, lead, now + lease + ACCOUNT_WINDOW, now + lease + LEAD_WINDOW)

    def settle(self, held: Held, now: datetime, *, sent: bool, answered: bool) -> None:
        """It has arrived by now, or never will."""
        if held in self._sent and not sent:
            del self._sent[held]
        elif held in self._sent and answered:
            account, lead, *_ = self._sent[held]
            self._sent[held] = (account, lead, now + ACCOUNT_WINDOW, now + LEAD_WINDOW)

    def check(self, quota: Quota, now: datetime) -> None:
        """No window holds more than it may."""
        for place_, limit, until in ((0, quota.account, 2), (1, quota.lead, 3)):
            used: dict[str, int] = {}
            for permit in self._sent.values():
                if permit[until] > now:  # type: ignore[operator]  # the third and fourth are moments
                    name = f"{permit[0]} {permit[1]}" if place_ else str(permit[0])
                    used[name] = used.get(name, 0) + 1
            over = {name: number for name, number in used.items() if limit and number > limit}
            assert not over, f"over a limit of {limit}: {over}"
