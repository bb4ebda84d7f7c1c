"""Where the drains of a process have met each account's candidates: for some time its claims need not look before."""

from __future__ import annotations

from collections.abc import Mapping

from dispatcher.outbox.window import Front

_COMPLETE_EVERY_SECONDS = 1.0
_COMPLETE_SHARE = 30
"""A complete look that takes long is made more rarely: a thirtieth of the time goes into complete looks at most."""

_COMPLETE_AT_LATEST_SECONDS = 60.0
"""A claim may also have taken long because it waited."""


class Fronts:
    """What the drains of a process remember of their claims, by account.

    A look from the front on misses what was committed late or has been woken before it; the next complete look finds
    that. It passes whatever has gone since somebody else began a transaction that is still open, a million index
    entries perhaps, and so it is not made each time.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Front, float]] = {}

    def at(self, now: float) -> dict[str, Front]:
        """The fronts that still hold, at this moment of the monotonic clock."""
        self._known = {account: (front, until) for account, (front, until) in self._known.items() if now < until}
        return {account: front for account, (front, _) in self._known.items()}

    def met(self, fronts: Mapping[str, Front], *, began: float, took: float) -> None:
        """Where a claim has met its accounts' candidates; of an account without a front, it has looked at all.

        Args:
            fronts: As the claim answers them.
            began: When it did, on the monotonic clock.
            took: Seconds of the claim.
        """
        pause = max(_COMPLETE_EVERY_SECONDS, _COMPLETE_SHARE * took)
        complete_until = began + took + min(pause, _COMPLETE_AT_LATEST_SECONDS)
        for account, front in fronts.items():
            _, until = self._known.get(account, (front, complete_until))
            self._known[account] = front, until
