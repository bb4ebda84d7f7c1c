"""The store under random hands: what everybody shares who acts on it, and the look after each step.

Each act says what it may change; the look compares the tables before and after with that, with the declared ways
between states and with what must always be true. Producers, workers and operators are in files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from dispatcher.lifecycle import TRANSITIONS
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.permits import NO_LIMITS, Quota
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.wake import wake
from tests.contract.machine.acting import Acting
from tests.contract.machine.forecast import Windows
from tests.contract.machine.snapshot import WAITING, Row, Snapshot, judge
from tests.contract.machine.stage import FAR, Stage

ACCOUNTS = ("default", "default", "other")
"""One of them has more to do."""
WAYS = {(source.value, transition.target.value) for transition in TRANSITIONS for source in transition.sources}
SECOND = timedelta(seconds=1)

Fate = tuple[str, str | None]
"""A state and its reason."""

# What no act changes of an event unless it says so.
_STILL = (
    "event_id", "account", "key", "fact", "payload", "lead", "attempt", "state", "event_uuid", "line_at", "budget_from",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a shop said of an event: of which cart it is, or which cart it buys."""

    kind: str
    cart: int | None


class Machine(Acting):
    """Shared by all hands; `stage` is set by the test."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.stage.empty()
        self.healthy = False
        self.passed = timedelta()
        self.quota = NO_LIMITS
        self.told: dict[UUID, Told] = {}
        self.committed: set[UUID] = set()
        self.taken_back: set[UUID] = set()
        self.failures: dict[int, int] = {}
        self.flights: list[Claimed] = []
        self.ghosts: list[Claimed] = []
        self.windows = Windows()
        self.owed: list[int] = []
        self.held_once: set[str] = set()
        self.shop: sa.Connection | None = None
        with self.stage.engine.begin() as connection:
            connection.execute(sa.delete(accounts))
            rows = [{"account": name, "turn_at": None, "proven_until": FAR} for name in sorted(set(ACCOUNTS))]
            connection.execute(sa.insert(accounts), rows)
        self.before = Snapshot.of(self.stage.engine)

    @initialize(quota=st.sampled_from([NO_LIMITS, Quota(account=2, lead=3)]))
    def limits(self, quota: Quota) -> None:
        self.quota = quota

    def tick(self, by: timedelta = SECOND) -> datetime:
        """Time passes; what comes next has not been looked at yet."""
        self.healthy = False
        self.stage.now += by
        self.passed += by
        return self.stage.now

    def physical(self) -> datetime:
        """What RD Station's clock says: it goes on where the database's is set back."""
        return FAR + self.passed

    def shop_is_open(self) -> bool:
        return self.shop is not None

    def shop_is_closed(self) -> bool:
        return self.shop is None

    def has_work(self) -> bool:
        """Something waits or flies. Without it there is nothing for workers and sweeps to do wrong."""
        return self.shop is not None or bool(self.before.in_state(*WAITING))

    def pick(self, *states: str, number: int) -> int | None:
        """One of the events of these states."""
        rows = self.before.in_state(*states)
        return rows[number % len(rows)]["id"] if rows else None

    def moot(self, snapshot: Snapshot, row: Row) -> bool:
        """Its cart has been bought, by an order that stands."""
        about = self.told.get(row["event_id"])
        if about is None or about.kind != "cart":
            return False
        orders = (other for other in snapshot.events.values() if other["account"] == row["account"])
        bought = (self.told.get(order["event_id"]) for order in orders if order["state"] != "cancelled")
        return Told("order", about.cart) in bought

    def pay(self) -> None:
        """Wake whom others could not wake at the time."""
        owed, self.owed = self.owed, []
        self.owed = in_transaction(self.stage.engine, lambda connection: wake(connection, owed)).owed

    def look(
        self,
        becomes: Mapping[int, Fate] | None = None,
        *,
        may: Mapping[int, Fate] | None = None,
        touched: set[int] | None = None,
        new: set[UUID] | None = None,
        gone: set[int] | None = None,
    ) -> None:
        """After an act: what it should have changed has changed, and nothing else.

        Args:
            becomes: Events and where they must stand now.
            may: Events and where they may stand now as well.
            touched: Events whose content or place may have changed besides.
            new: Events that must be there now and were not.
            gone: Events that must be gone, into the ledger.
        """
        becomes, may, touched = becomes or {}, may or {}, touched or set()
        before, now = self.before, Snapshot.of(self.stage.engine)
        judge(now, settled_down=self.shop is None and not self.owed and not now.debts)
        came = {row["event_id"] for number, row in now.events.items() if number not in before.events}
        assert came == (new or set()), f"new: {came}, expected: {new}"
        assert before.events.keys() - now.events.keys() == (gone or set()), "rows vanished"
        for number, row in now.events.items():
            earlier = before.events.get(number)
            if earlier is not None:
                _may_follow(earlier, row, {**may, **becomes}.get(number), touched=number in touched)
            assert row["failures"] == self.failures.get(number, 0), f"{row['key']} counts {row['failures']} failures"
        for number, fate in becomes.items():
            stands = now.events[number]
            assert (stands["state"], stands["reason"]) == fate, f"{stands['key']} is {stands['state']}, not {fate}"
        for entry, row in before.ledger.items():
            assert now.ledger.get(entry) == row, "the ledger forgot or changed a fact"
        known = {row["event_id"] for row in now.events.values()} | {row["event_id"] for row in now.ledger.values()}
        lost = self.committed - known - self.taken_back
        assert not lost, f"lost: {lost}"
        self.before, self.healthy = now, True

    def teardown(self) -> None:
        try:
            if self.healthy:
                self.come_to_an_end()
        finally:
            if self.shop is not None:
                self.shop.close()

    def come_to_an_end(self) -> None:
        """All is well again and time passes."""

    def waiting(self) -> list[Any]:
        return [row["key"] for row in self.before.in_state(*WAITING)]


def _may_follow(before: Row, after: Row, fate: Fate | None, *, touched: bool) -> None:
    way = (before["state"], after["state"])
    stands = (after["state"], after["reason"])
    assert way[0] == way[1] or (way in WAYS and stands == fate), f"{before['key']} went from {way[0]} to {stands}"
    risen = after["attempt"] - before["attempt"]
    assert risen == int(way == ("pending", "in_flight")), f"the attempt of {before['key']} rose by {risen}"
    if way[0] == way[1] and not touched:
        changed = [name for name in _STILL if before[name] != after[name]]
        assert not changed, f"{before['key']} has other {changed} although nobody touched it"
