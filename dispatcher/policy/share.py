"""Our share of a quota that other apps use as well (rdstation-api.md §6): cut by a 429, regained by asking for more.

RD Station counts all apps of an account together and says nothing about the others. A 429 that comes while our own
window has room says how much there was for us: what it had accepted of us in the window that was full. That becomes
the ceiling. Ten seconds later one event more may go; if it is accepted, two more, then four. So while the others go
on, a refused event every ten seconds finds it out, and once they have stopped, the whole quota is ours again after a
handful of answers. A ceiling only ever lowers what the configured limit allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self

HOLD = timedelta(seconds=10)
"""From a 429 to the next event above the ceiling."""

FORGET_AFTER = timedelta(minutes=5)
"""A ceiling that no 429 has confirmed for so long says nothing about the others any more."""


@dataclass(frozen=True, slots=True)
class Share:
    """What we believe is ours of an account's window.

    Attributes:
        ceiling: Events in one window that RD Station is known to accept of us.
        cut_at: When it last said that the window was full, by the database's clock.
        rise: How many more may be tried now that `HOLD` has passed.
    """

    ceiling: int
    cut_at: datetime
    rise: int = 1

    def permits(self, quota: int, now: datetime) -> int:
        """How many events may be accepted in a window of `quota`; at least 1, at most `quota`."""
        above = self.rise if now >= self.rises_at else 0
        return min(quota, max(1, self.ceiling) + above)

    @property
    def rises_at(self) -> datetime:
        """From when on more than the ceiling may be tried."""
        return self.cut_at + HOLD

    def is_over(self, quota: int, now: datetime) -> bool:
        """True once the whole quota is ours, or nothing is known any more: it may be forgotten."""
        return self.ceiling >= quota or now >= self.cut_at + FORGET_AFTER

    def accepted(self, in_window: int, now: datetime) -> Self:
        """RD Station has accepted so many of ours in this window: if that is more than was known, try for more yet."""
        if in_window <= self.ceiling:
            return self
        rise = min(2 * self.rise, 1 << 16) if now >= self.rises_at else self.rise
        return replace(self, ceiling=in_window, rise=rise)

    def as_dict(self) -> dict[str, object]:
        """The form in which it is stored, as JSON."""
        return {"ceiling": self.ceiling, "cut_at": self.cut_at.isoformat(), "rise": self.rise}

    @classmethod
    def from_dict(cls, stored: Mapping[str, object] | None) -> Self | None:
        """What `as_dict` wrote; None for anything else."""
        match stored:
            case {"ceiling": int(ceiling), "cut_at": str(cut_at), "rise": int(rise)}:
                return cls(ceiling, datetime.fromisoformat(cut_at), rise)
            case _:
                return None


def cut(in_window: int, now: datetime) -> Share:
    """RD Station has refused an event for the account's quota, and has accepted so many of ours in this window."""
    return Share(max(1, in_window), now)
