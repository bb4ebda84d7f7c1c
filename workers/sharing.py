"""The drain's side of requests with several events: their jobs, and the jobs of what goes again.

A job stands for all parts of a search: its first part is sent, the others wait for what comes of it. So a search takes
one slot, goes to the end of its account's line after each request, and ends with the lease or the stop sign.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from dispatcher.clock import Clock
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settlement import Settlement
from dispatcher.policy.bisection import Part, Parts, together
from workers.batching import Batching, Made
from workers.lines import Job
from workers.plan import MOOT, STOPPING, TOO_LATE, Sent

_FEWEST_AHEAD = 200
_LEFT_OVER = "what is left of its batch goes alone"


class Sharing:
    """Makes jobs. Used by one coordinating thread; the jobs run in others.

    Args:
        batching: Sends.
        deadline_seconds: The longest a send may take; a lease with less left is given back unsent.
        clock: For leases.
        stopping: True once the worker shuts down.
    """

    def __init__(
        self, batching: Batching, *, deadline_seconds: float, clock: Clock, stopping: Callable[[], bool]
    ) -> None:
        self._batching = batching
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._stopping = stopping

    def ahead(self, sends: int) -> int:
        """How many events of one account are worth holding at once, if so many sends are: some full requests."""
        of_one = self._batching.bounds.events
        return min(max(_FEWEST_AHEAD, 2 * of_one), of_one * sends)

    def jobs(
        self, events: Sequence[Claimed], leases_end: float, *, alone: Callable[[Claimed, float], Job[Sent]]
    ) -> list[Job[Sent]]:
        """A job for each request that these claimed events make; `alone` makes those of a single event."""
        return [
            alone(shared[0], leases_end) if len(shared) == 1 else self._job(together([shared]), leases_end)
            for shared in self._batching.share(events)
        ]

    def waiting(self, made: Made) -> list[Job[Sent]]:
        """The job of what waited for this request and goes on without anything new, if there is something."""
        return [self._job(made.waiting, made.leases_end)] if made.waiting else []

    def next(
        self, made: Made, leased: Sequence[Claimed], *, moot: Collection[int], leases_end: float
    ) -> tuple[list[Job[Sent]], list[Settlement]]:
        """The job of what goes again after this request, and the settlements of what was leased but will not go.

        Args:
            made: The request.
            leased: Those of its parts that could be leased anew.
            moot: Of these, the events that were superseded meanwhile.
            leases_end: Of these, on the monotonic clock.
        """
        good = {event.id: event for event in leased if event.id not in moot}
        parts = [Part(tuple(good[e.id] for e in part.members if e.id in good), part.heir) for part in made.again]
        again = tuple(part for part in parts if len(part.members) > 1)
        going = {event.id for part in again for event in part.members}
        unsent = [
            self._batching.attempting.unsent(event, MOOT if event.id in moot else _LEFT_OVER)
            for event in leased
            if event.id not in going
        ]
        search = again + made.waiting
        ends = min(leases_end, made.leases_end) if made.waiting else leases_end
        return [self._job(search, ends)] if search else [], unsent

    def _job(self, parts: Parts[Claimed], leases_end: float) -> Job[Sent]:
        latest = leases_end - self._deadline_seconds

        def run() -> Sent:
            if self._stopping():
                return self._batching.unsent(parts, STOPPING)
            if self._clock.monotonic() >= latest:
                return self._batching.unsent(parts, TOO_LATE)
            return self._batching.make(parts, leases_end)

        account, size = parts[0].members[0].account, sum(len(part.members) for part in parts)
        return Job(account, latest, run, lambda why: self._batching.unsent(parts, why), size)
