"""People: they pause, replay, correct, discard, confirm, prune and forget."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from hypothesis import strategies as st

from dispatcher.errors import OperationRefused
from dispatcher.outbox import operations, pausing
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.forgetting import forget
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.prune import Pruning, Retention
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.resolutions import Done
from dispatcher.outbox.tables import metadata
from dispatcher.outbox.transaction import in_transaction, reading
from tests.contract.machine.acting import act, when
from tests.contract.machine.machine import ACCOUNTS, Fate, Machine, Told
from tests.contract.machine.producers import LEADS, event_of, sayings
from tests.contract.machine.snapshot import Row

BY = Signature("a test", "because")
UNSURE = {"uncertain", "abandoned"}
MANY = 5
KEPT = Retention(timedelta(days=1), timedelta(days=1), timedelta(days=3))


class Operators(Machine):
    """See the module. Nobody here acts while a shop's transaction is open: people wait for its locks."""

    @act(account=st.sampled_from(ACCOUNTS), stops=st.sampled_from([True, False, False]))
    @when(lambda self: self.shop is None and self.has_work())
    def pause_or_resume(self, account: str, stops: bool) -> None:
        self.tick()
        (pausing.pause if stops else pausing.resume)(self.stage.engine, [account], BY)
        self.held_once |= {account} if stops else set()
        self.look()
        assert (self.before.accounts[account]["paused_at"] is not None) == stops

    def resume_all(self) -> None:
        for account in ACCOUNTS:
            self.pause_or_resume(account=account, stops=False)

    @act(number=st.integers(0, 9), every=st.booleans(), account=st.sampled_from(ACCOUNTS))
    @when(lambda self: self.shop is None and bool(self.before.in_state("dead")))
    def replay(self, number: int, every: bool, account: str) -> None:
        self.tick()
        rows = self._chosen(number, every, account)
        good = {row["id"] for row in rows if row["state"] == "dead" and row["reason"] != "invalid"}
        chosen = Criteria(account=account) if every else [row["id"] for row in rows]
        self._did(operations.replay(self.stage.engine, chosen, BY), rows, good)
        for event in good:
            self.failures[event] = 0
        self.look(dict.fromkeys(good, ("pending", None)), touched=good)
        assert all(self.before.events[event]["line_at"] == self.stage.now for event in good), "at the end of its line"

    @act(number=st.integers(0, 9), every=st.booleans(), account=st.sampled_from(ACCOUNTS))
    @when(lambda self: self.shop is None and bool(self.before.in_state("dead", "pending", "in_flight")))
    def discard(self, number: int, every: bool, account: str) -> None:
        self.tick()
        rows = self._chosen(number, every, account)
        ended = {row["id"] for row in rows if row["state"] in ("dead", "pending")}
        flying = {row["id"] for row in rows if row["state"] == "in_flight"}
        chosen = Criteria(account=account) if every else [row["id"] for row in rows]
        done = operations.discard(self.stage.engine, chosen, BY)
        assert (done.changed, done.marked) == (len(ended), len(flying))
        assert len(done.refused) == len(rows) - len(ended | flying)
        self.look(dict.fromkeys(ended, ("cancelled", "discarded")))
        assert all(self.before.events[event]["cancel_reason"] == "discarded" for event in flying)

    @act(number=st.integers(0, 9))
    @when(lambda self: self.shop is None and bool(self.before.in_state("dead")))
    def confirm_that_it_arrived(self, number: int) -> None:
        self.tick()
        rows = self._chosen(number, False, "")
        good = {
            row["id"]
            for row in rows
            if row["state"] == "dead" and any(tried["verdict"] in UNSURE for tried in self.before.tries(row["id"]))
        }
        self._did(operations.confirm(self.stage.engine, [row["id"] for row in rows], BY), rows, good)
        self.look(dict.fromkeys(good, ("delivered", "arrived")))

    @act(number=st.integers(0, 9), saying=sayings, email=st.sampled_from(LEADS))
    @when(lambda self: self.shop is None and bool(self.before.in_state("dead")))
    def correct(self, number: int, saying: tuple[str, int, int | None, int], email: str) -> None:
        """A whole envelope takes the place of the content; the fact stays what it was, unless it was made up."""
        self.tick()
        event = self.pick("dead", number=number) or 0
        row = self.before.events[event]
        typed = event_of(saying, email)
        content = {"event_type": typed.event_type, "event_family": "CDP", "payload": typed.payload()}
        try:
            corrected = replay_corrected(self.stage.engine, event, content, BY)
        except OperationRefused:
            self.look()
            return
        assert corrected.key == (typed.key() if row["reason"] == "invalid" else row["key"])
        self.failures[event] = 0
        self.told[row["event_id"]] = Told(saying[0], saying[2] if saying[0] == "cart" else self._kept_cart(row))
        self.look({event: ("pending", None)}, touched={event})
        letter = max((one for one in self.before.letters if one["event"] == event), key=lambda one: one["id"])
        assert letter["payload_before"] == row["payload"], "what a correction replaced is kept"

    @act(size=st.sampled_from([2, 1000]))
    @when(lambda self: bool(self.before.in_state("dead", "delivered", "cancelled")))
    def prune(self, size: int) -> None:
        now = self.tick()
        past = {
            row["id"]: row
            for row in self.before.events.values()
            if row["ended_at"] is not None and row["ended_at"] <= now - (KEPT.kept(row["state"]) or timedelta())
        }
        pruning, removed = Pruning(KEPT, size=size), 0
        for _ in range(len(self.before.events) + 1):
            done = in_transaction(self.stage.engine, pruning.step)
            removed += done.removed
            if done.over:
                break
        else:
            raise AssertionError("the walk never came to its end")
        dead: dict[int, Fate] = {
            event: ("cancelled", "discarded") for event, row in past.items() if row["state"] == "dead"
        }
        may_go = past.keys() - dead.keys()
        gone = self.before.events.keys() - self._there()
        assert gone <= may_go, f"pruned too early: {gone - may_go}"
        assert removed == len(gone)
        if size == 1000 and self.shop is None:
            assert gone == may_go, f"left lying: {may_go - gone}"
        for event in gone:
            self._is_remembered(past[event])
        self.look(may=dead, gone=gone)

    @act(email=st.sampled_from(LEADS))
    @when(lambda self: self.shop is None and len(self.before.events) > MANY)
    def forget(self, email: str) -> None:
        self.tick()
        own = {row["id"]: row for row in self.before.events.values() if email in row["payload"]}
        found = forget(self.stage.engine, email, BY)
        ended = {event for event, row in own.items() if row["state"] in ("pending", "dead")}
        assert found.ended == len(ended)
        self.look(dict.fromkeys(ended, ("cancelled", "forgotten")), touched=set(own))
        for event in own:
            assert self.before.events[event]["payload"] == "{}"
        assert not reading(self.stage.engine, lambda connection: _mentions(connection, email))

    def _chosen(self, number: int, every: bool, account: str) -> list[Row]:
        if every:
            return [row for row in self.before.in_state("dead") if row["account"] == account]
        rows = sorted(self.before.events.values(), key=lambda row: (row["state"] != "dead", row["id"]))
        return [rows[number % len(rows)]] if rows else []

    def _did(self, done: Done, rows: list[Row], good: set[int]) -> None:
        assert done.changed == len(good), f"{done} of {rows}"
        assert len(done.refused) == len(rows) - len(good), f"{done} of {rows}"

    def _there(self) -> set[int]:
        query = sa.select(metadata.tables["outbox_events"].c.id)
        return set(reading(self.stage.engine, lambda connection: connection.scalars(query).all()))

    def _is_remembered(self, row: Row) -> None:
        """In the ledger by its fact; or the shop has taken it back before it could arrive, and may enqueue it again."""
        ledger = metadata.tables["outbox_ledger"]
        query = sa.select(ledger.c.event_id).where(ledger.c.account == row["account"], ledger.c.fact == row["fact"])
        found = reading(self.stage.engine, lambda connection: connection.execute(query).scalar_one_or_none())
        tries = self.before.tries(row["id"])
        unsent = not any(tried["verdict"] in {*UNSURE, "delivered"} for tried in tries)
        if (row["state"], row["reason"]) == ("cancelled", "cancelled") and unsent:
            assert found is None
            self.taken_back.add(row["event_id"])
        else:
            assert found == row["event_id"], f"{row['key']} was pruned and is not remembered"

    def _kept_cart(self, row: Row) -> int | None:
        """A correction of an order keeps what is not sent with it."""
        about = self.told.get(row["event_id"])
        return about.cart if about is not None else None


def _mentions(connection: sa.Connection, text: str) -> list[str]:
    found = []
    for table in metadata.sorted_tables:
        for row in connection.execute(sa.select(table)).mappings():
            found += [f"{table.name}.{name}" for name, value in row.items() if isinstance(value, str) and text in value]
    return found
