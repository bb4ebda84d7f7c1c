"""How much of an account's limits is used, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dispatcher.outbox.permits import Quota, Use
from dispatcher.policy.share import Share


@dataclass(frozen=True, slots=True)
class Configured:
    """The limits of accounts that have none of their own, and the part of every limit that is ours."""

    per_minute: int
    lead_per_day: int
    quota_share: float

    def quota_of(self, per_minute: int | None, lead_per_day: int | None) -> Quota:
        """Our share of an account's limits, of which it may have some of its own."""
        quota = Quota.of(self.per_minute, self.lead_per_day, self.quota_share)
        return quota.for_account(per_minute, lead_per_day, self.quota_share)


@dataclass(frozen=True, slots=True)
class LimitsView:
    """One account's limits now, our share already taken; 0 = no limit.

    Attributes:
        per_minute: Events it may send in 60 s.
        lead_per_day: Events each lead may receive in 24 h.
        allowed: What it may send in these 60 s: less than `per_minute` while others use the same quota.
        used: What it has sent, or is about to, in these 60 s.
        refused: How many of them RD Station answered with 429.
        utilisation: `used` by `allowed`; None without a limit.
    """

    per_minute: int
    lead_per_day: int
    allowed: int
    used: int
    refused: int
    utilisation: float | None


def limits_view(row: sa.RowMapping, configured: Configured, in_use: Use, now: datetime) -> LimitsView:
    """The limits of an account's row, and what of its window is `in_use`."""
    quota = configured.quota_of(row["per_minute"], row["lead_per_day"])
    cut = Share.from_dict(json.loads(row["share"])) if row["share"] else None
    allowed = quota.account if cut is None else cut.permits(quota.account, now)
    utilisation = round(in_use.used / allowed, 3) if allowed else None
    return LimitsView(quota.account, quota.lead, allowed, in_use.used, in_use.refused, utilisation)
