"""One account's turn within a claim: which windows of its candidates are read, one after another.

A claim visits its accounts side by side: each visit says which window it wants next, and the claim reads those of all
visits together (docs/adr/0025).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime

from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.window import Found, Lanes, Place, Window

LOOK_AT_MOST = 2000
"""Candidates looked at in one claim of one account, so that a lead's long line bounds the claim too."""


@dataclass(slots=True)
class Visit:
    """What a claim wants of one account and has got of it.

    Attributes:
        account: Whose turn it is.
        first: When its first candidates are due.
        most: The most events that it may take.
        want: Its share of the claim's room.
        taken: Events leased so far.
        cut: The look ended before its candidates did.
        freed: Events left their leads' lines without being sent, so that others have become candidates.
    """

    account: AccountRow
    first: Lanes
    most: int
    want: int = 0
    taken: int = 0
    cut: bool = False
    freed: bool = False

    def look(self, now: datetime) -> Generator[Window, Found]:
        """The windows to read, each once what was free in the one before is leased or set aside.

        Events guessed to be behind others come second, but always get a look.
        """
        self.cut = False
        for lane, due in enumerate(self.first):
            if due is None or due > now:
                continue
            size, seen = self.want, 0
            after = Place(due, 0)
            enough = LOOK_AT_MOST if self.taken < self.want else self.want
            while seen < enough and (self.taken < self.want or lane):
                size = min(size, enough - seen)
                found = yield Window(self.account.account, lane, size, after)
                seen += found.seen
                if found.end is None or found.seen < size:
                    break
                after = found.end
                size *= 2  # mostly blocked: take longer steps
            else:
                self.cut = True

    def wants_more(self) -> bool:
        """It has got all that it was to have, and could take more."""
        return self.cut and self.taken == self.want < self.most


def share_out(visits: Sequence[Visit], room: int) -> None:
    """Give each visit a share of what is left of the room; what one may not take goes to those after it."""
    for place, visit in enumerate(visits):
        share = min(-(-room // (len(visits) - place)), visit.most - visit.want)
        visit.want += share
        room -= share
