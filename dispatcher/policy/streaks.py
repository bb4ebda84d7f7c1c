"""Two counters of things in a row, kept in the account's row: equal rejections, and answers that look wrong.

One bad event is a dead letter. The same error for event after event is a broken field mapping or a changed API, and
would bury the whole queue: then the type is held instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

REJECTIONS_IN_A_ROW = 20
REJECTED_LEADS = 10
"""Fewer leads may be one customer's bad data."""
STRANGE_ANSWERS_IN_A_ROW = 5

_LEAD_PREFIX = 16
"""Of the keyed hash; enough to tell ten leads apart, and it keeps the account's row small."""


@dataclass(frozen=True, slots=True)
class Streak:
    """Rejections in a row with the same error, of one account and type.

    Attributes:
        signature: The error all of them had (`verdict.signature`).
        count: How many there were.
        leads: The start of the lead's hash for up to `REJECTED_LEADS` different leads.
    """

    signature: str = ""
    count: int = 0
    leads: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The form in which the account's row keeps it, as JSON."""
        return {"signature": self.signature, "count": self.count, "leads": list(self.leads)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, object] | None) -> Self:
        """The streak that `as_dict` wrote; an empty one for None or for anything that it did not write."""
        match stored:
            case {"signature": str(signature), "count": int(count), "leads": [*leads]}:
                return cls(signature, count, tuple(str(lead) for lead in leads))
            case _:
                return cls()


NO_STREAK = Streak()
"""Where a success (`effects.Proven`) sets it back to."""


def advance(streak: Streak, signature: str, lead: str) -> tuple[Streak, bool]:
    """Count one more rejection.

    Returns:
        The streak to store, and whether the type is to be suspended. It stays True while the same error goes on, so
        that a probe which meets it again is held and not buried.
    """
    known = streak if streak.signature == signature else Streak(signature)
    leads = known.leads
    prefix = lead[:_LEAD_PREFIX]
    if prefix not in leads and len(leads) < REJECTED_LEADS:
        leads = (*leads, prefix)
    longer = Streak(signature, known.count + 1, leads)
    return longer, longer.count >= REJECTIONS_IN_A_ROW and len(longer.leads) >= REJECTED_LEADS


def advance_strange(count: int) -> tuple[int, bool]:
    """Count one more 2xx without `event_uuid`; answers the count to store and whether to suspend the account."""
    return count + 1, count + 1 >= STRANGE_ANSWERS_IN_A_ROW
