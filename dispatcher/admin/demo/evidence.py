"""Both sides of the delivery: what the outbox says, and what arrived at the sandbox."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dispatcher.admin.demo.stage import Stage
from dispatcher.clock import Clock
from dispatcher.errors import DispatcherError
from dispatcher.lifecycle import State
from dispatcher.outbox import queries
from dispatcher.outbox.overview import Overview, overview
from dispatcher.outbox.queries import EventView
from dispatcher.outbox.transaction import reading

PATIENCE_SECONDS = 120.0
"""How long something may take on a very slow machine; it takes a few seconds."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Evidence:
    """Looks and waits; changes nothing."""

    stage: Stage
    clock: Clock

    def event(self, key: str) -> EventView | None:
        """The event of a key, with its attempts and dead letters; None if the outbox does not know it."""
        engine = self.stage.engine
        rows = reading(engine, lambda connection: queries.resolve(connection, "default", [key]))
        views = reading(engine, lambda connection: queries.read_events(connection, list(rows.values()), payload=True))
        return views[0] if views else None

    def payload(self, key: str) -> dict[str, Any]:
        """The event's payload as it would be sent."""
        view = self.event(key)
        return dict(json.loads(view.payload)) if view and view.payload else {}

    def states(self) -> dict[str, int]:
        """How many events are in each state; states without any are left out."""
        return {state: number for state, number in self._overview().states.items() if number}

    def unsure(self) -> int:
        """Attempts that may have made a copy: uncertain or abandoned ones."""
        seen = self._overview()
        return seen.uncertain + seen.abandoned

    def attempts(self, key: str) -> list[tuple[str, int | None]]:
        """Verdict and HTTP status of each attempt."""
        view = self.event(key)
        return [(one.verdict, one.status) for one in view.attempts] if view else []

    def problems(self, key: str) -> list[str]:
        """Each problem that the event's open dead letters name, with its path in front."""
        view = self.event(key)
        letters = [letter for letter in view.dead_letters if letter.resolution is None] if view else []
        return [f"{error.get('path')}: {error.get('message')}" for letter in letters for error in letter.errors]

    def failures(self, key: str) -> int | None:
        """How many tries of the event its budget counts."""
        view = self.event(key)
        return view.failures if view else None

    def successors(self, event_type: str, field: str) -> list[tuple[str | None, object]]:
        """Id and one payload field of each event of this type that the sandbox accepted, by id."""
        arrived = self.stage.sandbox.arrivals(event_type, accepted=True)
        return sorted((one.key, one.field(field)) for one in arrived)

    def answers(self, key: str) -> list[int | None]:
        """The statuses the sandbox answered to this event, in order of arrival."""
        return [arrival.status for arrival in self.stage.sandbox.arrivals(*_named(key))]

    def uuids(self, keys: Sequence[str]) -> list[tuple[str, list[str | None]]]:
        """The outbox' `event_uuid` of each event."""
        views = [(key, self.event(key)) for key in keys]
        return [(key, [view.event_uuid] if view else []) for key, view in views]

    def accepted(self, keys: Sequence[str]) -> list[tuple[str, list[str | None]]]:
        """The `event_uuid` of each copy that the sandbox accepted; equal to `uuids` if each arrived once."""
        sandbox = self.stage.sandbox
        return [(key, [one.event_uuid for one in sandbox.arrivals(*_named(key), accepted=True)]) for key in keys]

    def accepted_in_all(self) -> int:
        """How many events the sandbox accepted, whatever they are."""
        return len(self.stage.sandbox.arrivals(accepted=True))

    def wait_for_worker(self) -> None:
        """Until the worker has noted its first progress in the database."""
        self._wait("the worker to start", lambda: bool(self._overview().workers))

    def wait_until(self, state: State, *keys: str) -> None:
        """Until the events are in this state."""

        def reached() -> bool:
            return all((view := self.event(key)) is not None and view.state == state for key in keys)

        self._wait(f"{', '.join(keys)} to be {state}", reached)

    def _overview(self) -> Overview:
        return reading(self.stage.engine, overview)

    def _wait(self, what: str, reached: Callable[[], bool]) -> None:
        never, until = threading.Event(), self.clock.monotonic() + PATIENCE_SECONDS
        while not reached():
            self.stage.interruption.check()
            if self.stage.worker.has_ended:
                raise DispatcherError(f"the worker ended by itself while the demo waited for {what}")
            if self.clock.monotonic() >= until:
                raise DispatcherError(f"waited {PATIENCE_SECONDS:g} s in vain for {what}")
            self.clock.wait(never, _LOOK_SECONDS)


def _named(key: str) -> tuple[str, None, str]:
    """Type, no field, and number: how the sandbox tells the events of the demo apart."""
    event_type, _, number = key.partition(":")
    return event_type, None, number
