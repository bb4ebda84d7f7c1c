"""The tokens of an account, and when to renew them (rdstation-api.md §5.1)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import SecretStr

REFRESH_RETRY_SECONDS = 60.0
"""After a refresh that brought nothing, no other for this long: the limit of `/auth/token` is not known
(rdstation-api.md §12 row 16)."""

_AT_LEAST_AHEAD = 60.0
_MEAN_AHEAD = 120.0


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an account authenticates with. The repr shows no secret.

    Attributes:
        access: Goes with every request; None if there was never one.
        refresh: Buys a new access token; None if a person has to log in again once `access` ends.
        previous_refresh: The refresh token before a rotation, kept until the new access token has worked.
        expires_at: When `access` ends, as far as is known.
        version: Rises with every change; what a refresh is compared and set against.
    """

    access: SecretStr | None
    refresh: SecretStr | None
    previous_refresh: SecretStr | None
    expires_at: datetime | None
    version: int


class Turn(StrEnum):
    """What came of asking for the turn to refresh."""

    GRANTED = "granted"
    """It is ours, until we end it or the lease does."""
    WAIT = "wait"
    """Another one has it; ask again shortly."""
    NEWER = "newer"
    """There are newer tokens than the ones seen; load them."""
    NOT_YET = "not_yet"
    """The last refresh brought nothing, and it is too early for another one."""


def should_refresh(expires_at: datetime | None, now: datetime, rng: random.Random) -> bool:
    """Whether to renew the access token ahead of its end.

    Asked before each request, so the distance is drawn from a distribution whose far end is rare: most processes find
    the token still good long before, one goes first, and the rest meet its result. The last minute is always too late.
    """
    if expires_at is None:
        return False
    return now >= expires_at - timedelta(seconds=_AT_LEAST_AHEAD + rng.expovariate(1 / _MEAN_AHEAD))
