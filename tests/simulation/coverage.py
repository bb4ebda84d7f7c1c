"""What a run has been through, as facts that can be counted: who died where, what failed, which states were reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World

_LOGGER = logging.getLogger("dispatcher")


class Told(logging.Handler):
    """The names of what the product has logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        name = getattr(record, "event_name", "")
        step = getattr(record, "fields", {}).get("step")
        self.names.add(f"{name} {step}" if step else name)


@contextmanager
def listening() -> Iterator[Told]:
    """While it lasts, the product's log is heard here and nowhere else."""
    told, before = Told(), (_LOGGER.level, _LOGGER.propagate)
    _LOGGER.addHandler(told)
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    try:
        yield told
    finally:
        _LOGGER.level, _LOGGER.propagate = before
        _LOGGER.removeHandler(told)


def facts(world: World, told: Told) -> set[str]:
    """What this run has been through, each as `kind: what`."""
    found = {f"step: {step}" for step in world.kernel.covered}
    found |= {f"death: {role} at {step}" for role, step in world.kernel.deaths}
    found |= {f"log: {name}" for name in told.names}
    found |= {f"network: {event}" for event in world.network.events}
    found |= {f"state: {reached}" for reached in world.oracle.reached}
    for one in world.sandbox.arrivals():
        if one.fault is not None:
            found.add(f"fault: {one.fault}")
        found.add(f"answer: {one.path.partition('?')[0]} {one.status}")
    return found
