"""A look at one account's candidates: why one may go and another may not. Where they are read: `window.py`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.candidates import Candidate
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.sealing import is_sealed


@dataclass(slots=True)
class Look:
    """What a look at one account's candidates found."""

    free: list[Candidate] = field(default_factory=list)
    blocked: dict[int, int] = field(default_factory=dict)
    parked: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    outlived: list[int] = field(default_factory=list)
    over_lead_limit: list[tuple[int, str]] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)

    def gone(self) -> list[int]:
        """Events that have left their leads' lines here, so that the next ones are to be woken."""
        return [*self.expired, *self.superseded, *self.known, *self.outlived, *self.parked]


def sort_out(window: Collection[Candidate], account: AccountRow, rules: ClaimRules, now: datetime, want: int) -> Look:
    """What may go, and why the others may not. Changes nothing but the account's probe times."""
    look, quota, max_age = Look(), rules.quota_of(account), rules.max_age.total_seconds()
    counted: dict[str, int] = {}
    for row in window:
        if row.expires_at is not None and row.expires_at <= now:
            look.expired.append(row.id)
        elif row.known:
            look.known.append(row.id)
        elif row.moot:
            look.superseded.append(row.id)
        elif row.blocker is not None:
            look.blocked[row.id] = row.blocker
        elif account.age_seconds(row.budget_from, now) > max_age:
            look.outlived.append(row.id)
        elif len(look.free) >= want:
            continue  # stays a candidate
        elif is_sealed(row.payload) or is_sealed(row.attached):
            look.unreadable.append(row.id)
        elif quota.lead and row.lead_used + counted.get(row.lead, 0) >= quota.lead:
            look.over_lead_limit.append((row.id, row.lead))
        elif not account.types.may_send(row.event_type, now, rules.probe_every):
            look.parked.append(row.id)
        else:
            counted[row.lead] = counted.get(row.lead, 0) + 1
            look.free.append(row)
    return look
