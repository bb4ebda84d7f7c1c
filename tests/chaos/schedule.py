"""What is done to the machines and when: decided by the seed alone, before anything runs. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge

_JITTER = 0.2


class Deed(StrEnum):
    """What can be done; the values are the words of the report."""

    KILL_WORKER = "SIGKILL of a worker"
    FREEZE_WORKER = "SIGSTOP of a worker"
    WIPE_BROKER = "broker wiped (FLUSHALL)"
    STOP_BROKER = "broker absent"
    CUT_BROKER = "connections to the broker cut"
    CRASH_DATABASE = "database crashed and restarted"
    CUT_DATABASE = "connections to the database cut"
    FILL_DISK = "disk full"


@dataclass(frozen=True, slots=True)
class Strike:
    """One deed.

    Attributes:
        at: Seconds from the start.
        deed: What.
        whom: 0 up to 1: which of those that there are then.
        seconds: How long it lasts, where it lasts.
    """

    at: float
    deed: Deed
    whom: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often, and how long it lasts; each time up to a fifth sooner or later."""

    every: float
    lasts: tuple[float, float] = (0.0, 0.0)


def strikes(seed: int, rhythms: Mapping[Deed, Rhythm]) -> Iterator[Strike]:
    """Without end, in order of time. The same seed gives the same strikes, whatever other deeds there are."""
    return merge(*(_of(seed, deed, rhythm) for deed, rhythm in rhythms.items()), key=lambda strike: strike.at)


def _of(seed: int, deed: Deed, rhythm: Rhythm) -> Iterator[Strike]:
    rng = random.Random(f"{seed} {deed.name}")  # noqa: S311 - a schedule, not a secret
    at = 0.0
    while True:
        at += rhythm.every * rng.uniform(1 - _JITTER, 1 + _JITTER)
        yield Strike(round(at, 3), deed, rng.random(), round(rng.uniform(*rhythm.lasts), 3))
