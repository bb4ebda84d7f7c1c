"""What a claim is given, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.permits import NO_LIMITS, Quota
from dispatcher.outbox.retirement import LegacyRules, Retired
from dispatcher.outbox.transitions import Held
from dispatcher.outbox.window import Front
from dispatcher.policy.verdicts import Verdict

ALONE = Verdict.BATCH_REFUSED.value
"""The reason on pending events that come back from a refused batch."""


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the claim keeps to.

    Attributes:
        lease: How long the events are ours.
        quota: Permits per window, for accounts without limits of their own.
        max_age: Older events are buried instead of claimed; time on hold left out.
        probe_every: How often one event of a suspended type may try.
        quota_share: The part that is ours of an account's own limits.
        legacy: What becomes of retired types.
    """

    lease: timedelta
    quota: Quota
    max_age: timedelta
    probe_every: timedelta
    quota_share: float = 1.0
    legacy: LegacyRules = LegacyRules()  # noqa: RUF009  # frozen

    def quota_of(self, account: AccountRow) -> Quota:
        """Permits per window of this account."""
        return self.quota.for_account(account.per_minute, account.lead_per_day, self.quota_share)


class Claimed(NamedTuple):
    """One leased event, with what sending and deciding need, and the limits its permit was reserved under.

    `about`: a supersede rule is about it, so look again before sending (`moot.py`). `probe`: it tries whether a breaker
    may close; its failure says nothing of the event. `alone`: it was in a refused batch, so it shares no request now.
    `retired`: how it leaves, and with what; for retired types only.
    """

    id: int
    event_id: UUID
    account: str
    lead: str
    event_type: str
    key: str
    payload: str
    attempt: int
    failures: int
    postponed: int
    age_seconds: float
    about: bool
    probe: bool
    traceparent: str | None = None
    alone: bool = False
    quota: Quota = NO_LIMITS
    retired: Retired | None = None

    @property
    def held(self) -> Held:
        """The attempt that settles it."""
        return Held(self.id, self.attempt)


@dataclass(slots=True)
class Batch:
    """What one claim got.

    Attributes:
        events: Leased to the caller.
        more: The look was cut short: claim again, also when there are no events.
        expired: Events that ended `cancelled: expired` on the way.
        superseded: Events that ended `cancelled: superseded` on the way.
        outlived: Events that became dead letters by age on the way.
        owed: Events that ended on the way and whose lead's next event is locked; call `wake` with them soon.
        fronts: Where the candidates of each account began, for a look that need not be complete.
        unqueued: The account whose next turn is yet to be looked for, if there is one: hint at it in the next claim,
            which need not come before these events are sent.
        passed_over: Hinted at, and not looked at: it was to be left out, another claim holds it, its turn has not come.
            Hint at them again later.
    """

    events: list[Claimed] = field(default_factory=list)
    more: bool = False
    expired: int = 0
    superseded: int = 0
    outlived: int = 0
    owed: list[int] = field(default_factory=list)
    fronts: dict[str, Front] = field(default_factory=dict)
    unqueued: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
