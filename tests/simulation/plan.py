"""What a world is like: how many act in it, what goes wrong, and when. Drawn from a seed.

Most worlds are small and dense with faults: a few events, over as soon as nothing can happen any more. Each draws which
kinds of trouble there are at all, so that the ones that hide others are absent now and then (swarm testing). One in
`LARGE_EVERY` is large: more events, trouble spread over half a minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from dispatcher.sandbox import FaultKind

LARGE_EVERY = 40

UNTIL_A_RIVAL_SENDS = math.inf
"""A freeze that ends when its lease is over and another process has a request under way."""

_KEYHOLES = ("request sent", "request sent", "answer read", "connect", "COMMIT done", "BEGIN")
_SMALL_STEPS, _LARGE_STEPS = 150, 600
"""Steps of all processes within which kills are drawn."""


@dataclass(frozen=True)
class Plan:
    """What a world is like. `of` draws one from a seed.

    Attributes:
        seed: Replays everything.
        workers: At once.
        prefork: Workers only drain, and one process beside them sweeps; else each does both in threads.
        events: Enqueued by each shop.
        leads: How many customers they are about.
        carts: How many carts.
        rush: All but the first event of a shop come at one moment, this many seconds after the start; 0: at any.
        pause: Seconds at most between a shop's events.
        kills: At which steps a process dies, counted over all processes.
        freezes: At which steps a worker is stopped, and for how many seconds.
        person: Seconds between what the operator does, at least and at most; None: nothing.
        trouble: Seconds during which faults strike; afterwards all is well.
        at_least: Seconds that the run lasts at least.
        sweep: Seconds between sweeps.
        sweeper_late: Seconds from the start of a worker to its first sweep.
        help_after: Seconds after which a person logs the account in again, and again.
        account_per_minute: RD Station's limit; 0 = none.
        lead_per_day: Likewise.
        concurrency: Sends in parallel of each worker; 0: by latency.
        faults: What the provider does wrong, as rates.
        network: What the network does wrong, as rates: lost_there, lost_back, unreachable.
        bells: What the broker does wrong, as rates: lost, doubled.
        token_seconds: The life of an access token.
        rotation: What becomes of a refresh token when it is used.
        latency: Seconds each way, at most.
        database: Share of the database's steps that fail.
        skew: Clocks are off by up to so many seconds.
        haste: Seconds at most that may pass at a step; 0: none ever do.
    """

    seed: int
    workers: int = 2
    prefork: bool = False
    shops: int = 2
    events: int = 3
    leads: int = 2
    carts: int = 2
    rush: float = 0.0
    pause: float = 6.0
    kills: tuple[int, ...] = ()
    freezes: tuple[tuple[str, float], ...] = ()
    person: tuple[float, float] | None = (4.0, 20.0)
    trouble: float = 30.0
    at_least: float = 12.0
    help_after: float = 120.0
    sweep: float = 8.0
    sweeper_late: float = 0.0
    account_per_minute: int = 0
    lead_per_day: int = 0
    concurrency: int = 0
    faults: tuple[tuple[FaultKind, float], ...] = ()
    network: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bells: tuple[float, float] = (0.0, 0.0)
    token_seconds: int = 86_400
    rotation: str = "fixed"
    latency: float = 0.2
    database: float = 0.0
    skew: float = 600.0
    haste: float = 0.02

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The world of this seed."""
        rng = Random(f"plan {seed}")  # noqa: S311 - a simulation's dice
        return cls._large(seed, rng) if seed % LARGE_EVERY == 0 else cls._small(seed, rng)

    @classmethod
    def _small(cls, seed: int, rng: Random) -> Plan:
        kinds = rng.sample(list(FaultKind), rng.choice((0, 1, 2, 3)))
        drawn = cls(
            seed,
            workers=rng.choice((1, 2, 2)),
            prefork=rng.random() < 0.75,
            shops=rng.choice((1, 2)),
            events=rng.choice((2, 2, 3)),
            leads=rng.choice((1, 2, 3)),
            carts=rng.choice((1, 2)),
            pause=1.0,
            kills=tuple(rng.randrange(1, _SMALL_STEPS) for _ in range(rng.choice((0, 1, 1, 2)))),
            freezes=_freezes(
                rng, rng.choice(((), (), (UNTIL_A_RIVAL_SENDS,), (UNTIL_A_RIVAL_SENDS,), (1.0,), (18.0,)))
            ),
            person=rng.choice((None, (0.3, 3.0))),
            trouble=15.0,
            at_least=0.0,
            sweep=rng.choice((10.0, 30.0)),
            sweeper_late=rng.uniform(0.0, 10.0),
            help_after=30.0,
            account_per_minute=rng.choice((0, 0, 0, 0, 0, 2)),
            lead_per_day=rng.choice((0, 0, 0, 1)),
            faults=tuple((kind, 0.25) for kind in kinds),
            network=_three(rng, (0.0, 0.0, 0.25)),
            bells=(rng.choice((0.0, 0.3, 1.0)), rng.choice((0.0, 0.3))),
            token_seconds=rng.choice((86_400, 86_400, 5)),
            latency=rng.choice((0.2, 0.2, 1.5)),
            rotation=rng.choice(("fixed", "rotated", "rotated_with_grace")),
            database=rng.choice((0.0, 0.0, 0.0, 0.02)),
        )
        return drawn if rng.random() < 0.85 else drawn._at_an_expired_token()

    def _at_an_expired_token(self) -> Plan:
        """Two workers have something to send at the moment at which the token has just expired, far from RD Station."""
        return replace(
            self, workers=2, shops=2, events=2, leads=4, rush=5.5, kills=(), freezes=(), account_per_minute=0,
            bells=(0.0, self.bells[1]), token_seconds=5, latency=1.5, concurrency=1,  # neither takes both
        )  # fmt: skip

    @classmethod
    def _large(cls, seed: int, rng: Random) -> Plan:
        kinds = rng.sample(list(FaultKind), 3)
        return cls(
            seed,
            workers=rng.choice((1, 2, 2, 3)),
            prefork=rng.random() < 0.3,
            shops=rng.choice((1, 2)),
            events=rng.choice((2, 3, 4)),
            kills=tuple(rng.randrange(1, _LARGE_STEPS) for _ in range(rng.choice((0, 1, 1, 2)))),
            freezes=_freezes(rng, rng.choice(((), (), (18.0,), (25.0, 1.0)))),
            account_per_minute=rng.choice((0, 0, 3, 5)),
            lead_per_day=rng.choice((0, 0, 0, 2)),
            faults=tuple((kind, 0.1) for kind in kinds) if rng.random() < 0.6 else (),
            network=_three(rng, (0.0, 0.1)),
            bells=(rng.choice((0.0, 0.3, 1.0)), rng.choice((0.0, 0.3))),
            token_seconds=rng.choice((86_400, 86_400, 5)),
            latency=rng.choice((0.2, 0.2, 1.5)),
            rotation=rng.choice(("fixed", "rotated", "rotated_with_grace")),
            database=rng.choice((0.0, 0.0, 0.01)),
        )


def _three(rng: Random, rates: Sequence[float]) -> tuple[float, float, float]:
    return rng.choice(rates), rng.choice(rates), rng.choice(rates)


def _freezes(rng: Random, seconds: Sequence[float]) -> tuple[tuple[str, float], ...]:
    return tuple((rng.choice(_KEYHOLES), length) for length in seconds)
