"""How many permits an account has in a minute, as the workers count them."""

from __future__ import annotations

from dispatcher.outbox.permits import Quota
from dispatcher.settings import Settings


def permits_of(settings: Settings) -> dict[str | None, int]:
    """By account; None stands for all that are not named. 0: no limit."""
    quota = Quota.of(settings.account_per_minute, settings.lead_per_day, settings.quota_share)
    return {None: quota.account}
