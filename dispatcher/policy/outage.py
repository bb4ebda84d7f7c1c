"""An outage of RD Station as a whole: when failures of several accounts are one failure. Pure.

Each account has a breaker of its own; with thousands of accounts, thousands of half-open tries a minute would knock at
a door that is closed for all. So failures are also counted over all accounts, and one breaker stands before them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from dispatcher.policy.breaker import CLOSED, TRIPS_AFTER, Breaker, feed

ACCOUNTS_ALIKE = 3
"""Accounts that fail, with no success of any account between, before the failure is taken for RD Station's."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What is known of it.

    Attributes:
        breaker: Before RD Station as a whole.
        failing: The first accounts that have failed since the last success of any.
    """

    breaker: Breaker = CLOSED
    failing: tuple[str, ...] = ()

    @property
    def noticed(self) -> bool:
        """True if there has been a failure since the last success, so that a success has something to end."""
        return bool(self.failing)

    @classmethod
    def from_stored(cls, breaker: Mapping[str, Any] | None, failing: list[str] | None) -> Self:
        """What the database holds."""
        return cls(Breaker.from_dict(breaker), tuple(failing or ()))


WELL = Outage()


def worsen(outage: Outage, account: str, now: datetime, rng: random.Random) -> Outage:
    """Count one failure of an account. The breaker opens with enough failures in a row, of enough accounts."""
    failing = outage.failing
    if account not in failing and len(failing) < ACCOUNTS_ALIKE:
        failing = (*failing, account)
    breaker = outage.breaker
    if breaker.is_closed() and len(failing) < ACCOUNTS_ALIKE:
        # An account that fails alone has its own breaker; here it brings the count up to one short of opening.
        return Outage(replace(breaker, failures=min(TRIPS_AFTER - 1, breaker.failures + 1)), failing)
    return Outage(feed(breaker, now, rng), failing)
