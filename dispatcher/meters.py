"""What the processes count and time: each measure declared once, and the counts of this process until they are stored.

Counting is an addition in a dictionary and needs no library. A worker's processes add their counts to the table
`outbox_counters` every few seconds (docs/adr says why there), and `dispatcher metrics` shows them. Label values come
from small fixed sets: verdicts, steps, results; never an account, a key or a customer.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_CLAIM = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SEND = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0)
_SWEEP = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is counted, or timed if it has buckets.

    Attributes:
        meaning: One line, for the page of metrics and for Prometheus.
        label: The name of its label; empty: none.
        values: What the label may say, where no enumeration says it.
        buckets: Upper bounds in seconds of a histogram; empty for a counter.
    """

    meaning: str
    label: str = ""
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


MEASURES: Final[Mapping[str, Measure]] = {
    "attempts": Measure("Attempts that were judged and settled, by what they came to.", "verdict"),
    "late_settlements": Measure("Settlements that came too late and changed nothing."),
    "claimed_events": Measure("Events that were leased to an attempt."),
    "claim_seconds": Measure("One claim: the transaction that leases due events.", buckets=_CLAIM),
    "send_seconds": Measure(
        "The request of an event to RD Station, whatever the answer; events of a batch count one by one.", buckets=_SEND
    ),
    "settle_seconds": Measure("One settlement: the transaction that writes what attempts came to.", buckets=_CLAIM),
    "sweeps": Measure("Sweeps that were made."),
    "sweep_seconds": Measure("One sweep.", buckets=_SWEEP),
    "expired_events": Measure("Events that a sweep ended because their business age had passed."),
    "failures": Measure(
        "Errors of a step of our own: the database was away, or a bug. The log has them.", "step", ("sweep", "drain")
    ),
    "bells": Measure(
        "Bells rung by the sweepers: published, or lost because the broker did not take it.",
        "result",
        ("published", "lost"),
    ),
    "token_refreshes": Measure("Access tokens renewed, or refresh tokens refused.", "result", ("renewed", "refused")),
    "probes": Measure("Probes of suspended accounts.", "result", ("well", "not_well")),
    "openings": Measure(
        "Suspensions of accounts and types, and openings of breakers.",
        "what",
        ("account_suspended", "type_suspended", "breaker_opened"),
    ),
    "stalls": Measure("Workers that their watchdog ended because they made no progress with work due."),
    "notices": Measure("Notices to the webhook: told, or failed for this time.", "result", ("told", "failed")),
}
"""Every count. Prometheus sees it as `dispatcher_<name>_total`, or `dispatcher_<name>` if it is timed."""

_OF_EVENTS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "token.refreshed": ("token_refreshes", {"result": "renewed"}),
    "token.refused": ("token_refreshes", {"result": "refused"}),
    "delivery.lost": ("late_settlements", {}),
    "account.suspended": ("openings", {"what": "account_suspended"}),
    "type.suspended": ("openings", {"what": "type_suspended"}),
    "breaker.opened": ("openings", {"what": "breaker_opened"}),
    "worker.stalled": ("stalls", {}),
}
_STEP_OF: Final[Mapping[str, str]] = {"sweep.failed": "sweep", "drain.failed": "drain"}

Counts = dict[tuple[str, str], float]
"""Name and labels (`verdict=delivered`) to what was added."""


class Tally:
    """Counts since the last `take`. Serves many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counts = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count.

        Raises:
            KeyError: No measure of this name with these labels is declared.
        """
        label = MEASURES[name].label
        place = (name, f"{label}={labels[label]}" if label else "")
        with self._lock:
            self._counts[place] = self._counts.get(place, 0) + amount

    def time(self, name: str, seconds: float) -> None:
        """Put one duration into its bucket, the sum and the count.

        Raises:
            KeyError: No measure of this name is declared.
        """
        buckets = MEASURES[name].buckets
        slot = bisect_left(buckets, seconds)
        bound = str(buckets[slot]) if slot < len(buckets) else "+Inf"
        with self._lock:
            for place, amount in ((f"{name}_bucket", f"le={bound}"), 1.0), ((f"{name}_sum", ""), seconds):
                self._counts[place] = self._counts.get(place, 0) + amount

    def take(self) -> Counts:
        """Everything counted so far; counting starts anew."""
        with self._lock:
            counts, self._counts = self._counts, {}
            return counts

    def put_back(self, counts: Counts) -> None:
        """What could not be stored, for the next time."""
        with self._lock:
            for place, amount in counts.items():
                self._counts[place] = self._counts.get(place, 0) + amount

    def begin_anew(self) -> None:
        """In a child after a fork: what was counted before it is the parent's, and its lock may have been held."""
        self._lock = threading.Lock()
        self._counts = {}


TALLY: Final = Tally()
"""The counts of this process; like a logger, one for all that runs in it. Bounded by what is declared above."""

if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=TALLY.begin_anew)


def note(event_name: str, fields: Mapping[str, object]) -> None:
    """Count what is logged anyway, so that no code has to say it twice."""
    if event_name in _OF_EVENTS:
        name, labels = _OF_EVENTS[event_name]
        TALLY.add(name, 1, **labels)
    elif event_name in _STEP_OF:
        TALLY.add("failures", step=_STEP_OF[event_name])
    elif event_name == "account.probed":
        TALLY.add("probes", result="well" if fields.get("well") else "not_well")
    elif event_name == "sweep.expired":
        TALLY.add("expired_events", float(str(fields.get("count", 1))))
