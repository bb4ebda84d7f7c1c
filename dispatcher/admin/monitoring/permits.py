"""How many permits an account has in a minute, as the workers count them."""

from __future__ import annotations

from dispatcher.outbox.permits import ACCOUNT_WINDOW
from dispatcher.policy.windows import Limit, permits_per_window
from dispatcher.settings import Settings


def permits_of(settings: Settings) -> dict[str | None, int]:
    """By account; None stands for all that are not named. 0: no limit."""
    limit = Limit(settings.account_per_minute, ACCOUNT_WINDOW.total_seconds())
    return {None: permits_per_window(limit, settings.quota_share)}
