"""What a drain is given, and what it answers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from dispatcher.outbox.claimed import Claimed, ClaimRules
from dispatcher.outbox.settlement import Settlement
from workers.batching import Made
from workers.tracing import NoTraces, Traces

STOPPING = "the worker is shutting down"
TOO_LATE = "too little of the lease was left"
MOOT = "another event has superseded it"
"""Why an event is given back unsent."""

Sent: TypeAlias = Settlement | Made
"""What a sender thread brings back: of one event, or of several that shared a request."""


class Attempts(Protocol):
    """What turns a claimed event into a judged attempt: sends it, judges the outcome, decides."""

    def make(self, event: Claimed, seconds: float) -> Settlement:
        """Send the event within so many seconds. Runs in a sender thread; raises nothing."""
        ...

    def unsent(self, event: Claimed, why: str) -> Settlement:
        """The settlement of an event that is given back without a try."""
        ...


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What a drain keeps to.

    Attributes:
        rules: Of the claim.
        deadline_seconds: The longest a send may take; a lease with less left is given back unsent.
        slots: Sends in parallel, 0 = by latency.
        worker: Who holds the leases.
        rng: For the breaker's jitter.
        traces: Told of events whose shop traces.
    """

    rules: ClaimRules
    deadline_seconds: float
    slots: int
    worker: str
    rng: random.Random
    traces: Traces = field(default_factory=NoTraces)


@dataclass(slots=True)
class Report:
    """What a drain did.

    Attributes:
        claimed: Events leased.
        settled: Settlements written.
        lost: Settlements that came too late.
        again: True if it ended with work left: somebody should ring.
        failed: The database did not answer.
    """

    claimed: int = 0
    settled: int = 0
    lost: int = 0
    again: bool = False
    failed: bool = False


@dataclass(slots=True)
class Desk:
    """What lies between the senders and the database.

    Attributes:
        results: Settlements to write.
        oldest: When the first of them came, on the monotonic clock.
        split: Requests of which a part is to be leased anew with the settlement.
        owed: Events whose lead's next event could not be woken yet.
        unqueued: `Batch.unqueued` and `passed_over`: to hint at once an event of theirs is settled, or soon.
        in_flight: Events leased and not settled.
        leases_end: Of the last claim.
    """

    results: list[Settlement] = field(default_factory=list)
    oldest: float = 0.0
    split: list[Made] = field(default_factory=list)
    owed: list[int] = field(default_factory=list)
    unqueued: dict[str, None] = field(default_factory=dict)
    in_flight: int = 0
    leases_end: float = 0.0
