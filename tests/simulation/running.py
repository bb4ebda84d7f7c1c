"""Runs seeds, and says how to repeat the ones that fail: `python -m tests.simulation.running --seeds 10000`."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from dispatcher.clock import SystemClock
from tests.simulation.coverage import facts, listening
from tests.simulation.database import Database
from tests.simulation.plan import Plan
from tests.simulation.world import World, build_database, reset

REPLAY = "python -m tests.simulation.running --trace {seed}"
_CHUNK = 50


@contextmanager
def simulated_database() -> Iterator[Database]:
    """One for this process."""
    with _directory() as directory:
        database = build_database(Path(directory))
        try:
            yield database
        finally:
            database.close()


def _directory() -> tempfile.TemporaryDirectory[str]:
    """In memory, where the machine has a place for that."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own inside
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def play(
    seed: int, database: Database, *, trace: list[str] | None = None, reached: Counter[str] | None = None
) -> str | None:
    """Play one seed; answers what was broken, with the words that repeat it, or None.

    Args:
        seed: Decides everything.
        database: To play in.
        trace: Gets every step.
        reached: Gets what the run has been through, see `coverage`.
    """
    reset(database)
    world = World(Plan.of(seed), database, trace=trace)
    with listening() as told:
        try:
            world.run()
        except Exception as broken:  # noqa: BLE001 - whatever ends a run is a finding
            return f"seed {seed}: {type(broken).__name__}: {broken}\n    repeat it: {REPLAY.format(seed=seed)}"
        finally:
            if reached is not None:
                reached.update(facts(world, told))
    return None


@cache
def _own_database(directory: str) -> Database:
    """Of this process, for all that it plays: one for each few seeds cost nearly as much as playing them."""
    database = build_database(Path(tempfile.mkdtemp(dir=directory)))
    gc.freeze()
    gc.disable()  # a run leaves little behind; the collector would look through all of SQLAlchemy each time
    return database


def _play_some(directory: str, seeds: Sequence[int]) -> tuple[list[str], Counter[str]]:
    database = _own_database(directory)
    reached: Counter[str] = Counter()
    broken = [found for seed in seeds if (found := play(seed, database, reached=reached)) is not None]
    gc.collect()
    return broken, reached


def main(arguments: Sequence[str] | None = None) -> int:
    """Play many seeds on all cores, or one with its trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--trace", type=int, help="play this one and print every step")
    parser.add_argument(
        "--facts", action="store_true", help="show what the runs have been through, and how many of them"
    )
    given = parser.parse_args(arguments)
    clock = SystemClock()
    if given.trace is not None:
        steps: list[str] = []
        with simulated_database() as database:
            broken = play(given.trace, database, trace=steps)
        sys.stdout.write("\n".join([*steps, broken or "nothing was broken", ""]))
        return int(broken is not None)
    begun = clock.monotonic()
    every = range(given.first, given.first + given.seeds)
    chunks = [every[start : start + _CHUNK] for start in range(0, len(every), _CHUNK)]
    failed, reached = 0, Counter[str]()
    spawn = multiprocessing.get_context("spawn")
    with _directory() as directory, spawn.Pool(os.cpu_count()) as pool:
        for found, been_through in pool.imap_unordered(partial(_play_some, directory), chunks):
            failed += len(found)
            reached += been_through
            sys.stdout.write("".join(f"{broken}\n" for broken in found))
    if given.facts:
        sys.stdout.write("".join(f"{count:7} {fact}\n" for fact, count in sorted(reached.items())))
    sys.stdout.write(f"{len(reached)} facts reached; --facts shows them\n")
    sys.stdout.write(f"{given.seeds} seeds, {failed} failed, {clock.monotonic() - begun:.0f} s\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
