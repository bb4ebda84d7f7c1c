"""The state of the provider, in one place and under one lock."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from dispatcher.sandbox.clock import AdjustableClock
from dispatcher.sandbox.faults import Faults
from dispatcher.sandbox.messages import Opened
from dispatcher.sandbox.options import Options
from dispatcher.sandbox.recorder import Arrival, Recorder
from dispatcher.sandbox.tokens import AccountSpec, Credentials
from dispatcher.sandbox.windows import Violations, Windows


@dataclass(slots=True)
class Visit:
    """One request being answered: what came, how it was recorded, when."""

    opened: Opened
    arrivals: list[Arrival]
    now: float

    @property
    def account(self) -> str:
        """Whose credential it carries; only after the gate let it in."""
        account = self.arrivals[0].account
        if account is None:
            raise LookupError("the gate has not identified this request")
        return account

    @property
    def leads(self) -> Counter[str]:
        """How many of its events name each lead."""
        return Counter(arrival.lead for arrival in self.arrivals if arrival.lead)


@dataclass
class World:
    """Everything the provider knows. Hold `lock` for any use; no part of it is thread-safe by itself."""

    options: Options
    clock: AdjustableClock
    rng: random.Random
    faults: Faults
    credentials: Credentials
    recorder: Recorder
    windows: Windows = field(default_factory=Windows)
    contacts: set[tuple[str, str]] = field(default_factory=set)
    """Leads that an event other than a qualification has named, per account."""
    lead_overlaps: int = 0
    lock: threading.Condition = field(default_factory=threading.Condition)
    """Notified after each arrival."""
    _in_service: Counter[tuple[str, str]] = field(default_factory=Counter)

    def event_uuid(self) -> str:
        """A fresh receipt; RD Station knows no deduplication (§8), so every post gets its own."""
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def limits(self, account: str) -> tuple[int, int]:
        """Events per minute of the account, and per day of each of its leads."""
        spec = self._spec(account)
        return (
            spec.get("account_per_minute", self.options.account_per_minute),
            spec.get("lead_per_day", self.options.lead_per_day),
        )

    def legacy(self, account: str) -> Literal["accept", "reject"]:
        """What this account does with the retired types."""
        return self._spec(account).get("legacy", self.options.legacy)

    def ecommerce_plan(self, account: str) -> Literal["accept", "refuse"]:
        """Whether the account's plan has the e-commerce events."""
        return self._spec(account).get("ecommerce_plan", self.options.ecommerce_plan)

    def violations(self) -> Violations:
        """What went over a limit so far."""
        return self.windows.report(
            [(account, *self.limits(account)) for account in self.credentials.accounts], self.lead_overlaps
        )

    def forget_traffic(self) -> None:
        """Empty the record and the windows; credentials, faults and switches stay."""
        self.recorder = Recorder(self.options.keep)
        self.windows = Windows()
        self.lead_overlaps = 0
        self.contacts.clear()

    def enter(self, arrivals: Sequence[Arrival]) -> None:
        """Events of these leads are being answered from now on."""
        for who in _served(arrivals):
            self.lead_overlaps += self._in_service[who] > 0
            self._in_service[who] += 1

    def leave(self, arrivals: Sequence[Arrival]) -> None:
        """The answer is about to be sent, or the client is gone."""
        for who in _served(arrivals):
            self._in_service[who] -= 1
            if not self._in_service[who]:
                del self._in_service[who]

    def _spec(self, account: str) -> AccountSpec:
        return self.credentials.accounts.get(account, {})


def _served(arrivals: Sequence[Arrival]) -> set[tuple[str, str]]:
    return {(arrival.account, arrival.lead) for arrival in arrivals if arrival.account and arrival.lead}
