"""Where crash points are played: a world in which nothing happens by chance, and whose victim's steps are noted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import cast

from dispatcher.sandbox import Arrival, Sandbox, Violations
from tests.simulation.kernel import Process
from tests.simulation.oracle import FINAL, Oracle
from tests.simulation.world import HostClock, World

RESTART_SECONDS, SWEEP_SECONDS, LEASE_SECONDS = 2.0, 8.0, 12.0
"""The world's settings (`world.settings_for`), and how long until somebody takes the victim's place."""

OPERATION_OF = {
    "sell": "enqueue",
    "_claim": "claim",
    "make": "send",
    "_settle": "settle",
    "sweep": "sweep",
    "poll": "sweep",
    "replay": "replay",
    "prune": "prune",
}
"""Functions that begin an operation."""


class _PromptClock(HostClock):
    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self.kernel.inside:
            self.kernel.sleep(seconds)
        return event.is_set()


@dataclass(frozen=True, order=True, slots=True)
class Point:
    """A step of an operation: what would have come next."""

    operation: str
    step: str


@dataclass
class _ForgivingOracle(Oracle):
    """What has ended may be pruned."""

    pruned: set[str] = field(default_factory=set)

    def look(self) -> None:
        there = {row["id"] for row in self._all("SELECT id FROM outbox_events")}
        for number in self._events.keys() - there:
            assert self._events[number]["state"] in FINAL, f"pruned before it ended: {self._events[number]}"
            self.pruned.add(self._events[number]["key"])
        self._events = {number: row for number, row in self._events.items() if number in there}
        self._attempts = {at: row for at, row in self._attempts.items() if at[0] in there}
        super().look()

    def end(self, sandbox: Sandbox) -> None:
        self.story.committed -= self.pruned
        super().end(cast("Sandbox", _WithoutPruned(sandbox, self.pruned)))


@dataclass
class _WithoutPruned:
    """What RD Station got, but for events whose attempts have been pruned with them."""

    sandbox: Sandbox
    pruned: set[str]

    def arrivals(self, *, accepted: bool) -> list[Arrival]:
        found = self.sandbox.arrivals(accepted=accepted)
        return [one for one in found if f"{one.event_type}:{one.key}" not in self.pruned]

    def violations(self) -> Violations:
        return self.sandbox.violations()


@dataclass
class Stage(World):
    """A world in which nothing happens by chance: one act, one victim.

    Attributes:
        victim: Where it dies, counted in its own steps; None: it does not.
        steps: The victim's steps, in order.
    """

    victim: int | None = None
    steps: list[Point] = field(default_factory=list)
    act: Callable[[Stage], None] = lambda _stage: None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.oracle = _ForgivingOracle(self.database.observer, self.story)
        self.kernel.at_points.append(self._note)
        self.watched: Process | None = None
        self.acting = 0

    def set_the_stage(self) -> None:
        self.act(self)

    def host_clock(self) -> HostClock:
        return _PromptClock(self.kernel)

    def scene(self, name: str, body: Callable[[Process], object], *, at: float, victim: bool = False) -> None:
        """A process that does this at that time; as the victim it does it again after its death."""
        self.acting += 1
        process: list[Process] = []

        def play() -> None:
            self.kernel.sleep(at)
            body(process[0])
            self.acting -= 1

        def again() -> None:
            self.acting -= 1
            self.scene(name, body, at=RESTART_SECONDS)

        process.append(self.start(name, play, dies_at=self.victim if victim else None))
        if victim:
            self.watched = process[0]
            process[0].on_death = again

    def worker(self, *, victim: bool = False) -> Process:
        """A worker; another one takes its place."""
        process = self.start_worker(dies_at=self.victim if victim else None)
        if victim:
            self.watched = process
        return process

    def _replace(self, process: Process, start: Callable[[], object]) -> None:
        self.workers.remove(process)
        self.scene("supervisor", lambda _: start(), at=RESTART_SECONDS)

    def _ended(self) -> bool:
        return bool(self.broken) or (
            self.acting == 0
            and self.kernel.now > 1.0
            and all(row["state"] in FINAL for row in self.oracle._all("SELECT state FROM outbox_events"))
        )

    def _note(self, process: Process, step: str) -> None:
        if process is self.watched:
            self.steps.append(Point(_operation(), step))


def _operation() -> str:
    """Whose step this is: the outermost function on the stack that begins an operation."""
    found, frame = "start", sys._getframe()
    above: FrameType | None = frame
    while above is not None:
        found = OPERATION_OF.get(above.f_code.co_name, found)
        above = above.f_back
    return found
