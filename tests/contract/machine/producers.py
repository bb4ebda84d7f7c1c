"""Shops: they enqueue, cancel, change their minds, roll back, and leave transactions open while others work."""

from __future__ import annotations

import contextlib
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from dispatcher import CartAbandoned, IdempotencyConflict, OrderPlaced, cancel, enqueue, enqueue_many
from dispatcher.events import Event
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.intake import OnConflict, Ordering, fact_hash
from tests.contract.machine.acting import act, when
from tests.contract.machine.machine import ACCOUNTS, Fate, Machine, Told
from tests.contract.machine.snapshot import WAITING, Row

LEADS = ("ana@cliente.example", "ana@cliente.example", "rui@cliente.example")
"""One of them has a long line."""
_ARRIVED = {"delivered", "uncertain", "abandoned"}

carts = st.integers(1, 2)
sayings = st.one_of(
    st.builds(lambda cart, items: ("cart", cart, cart, items), carts, st.integers(1, 2)),
    st.builds(
        lambda order, cart, items: ("order", order, cart, items),
        st.integers(1, 3), st.one_of(st.none(), carts), st.integers(1, 2),
    ),
)  # fmt: skip


def event_of(saying: tuple[str, int, int | None, int], email: str) -> Event:
    """A cart or an order; the last number makes other content under the same key."""
    kind, number, cart, items = saying
    if kind == "cart":
        return CartAbandoned.model_validate(
            {**CartAbandoned.EXAMPLE, "email": email, "cf_cart_id": str(number), "cf_cart_total_items": items}
        )
    bought = {} if cart is None else {"cart_id": str(cart)}
    return OrderPlaced.model_validate(
        {**OrderPlaced.EXAMPLE, "email": email, "cf_order_id": str(number), "cf_order_total_items": items, **bought}
    )


class Producers(Machine):
    """See the module."""

    @act(
        often=2,
        saying=sayings,
        email=st.sampled_from(LEADS),
        account=st.sampled_from(ACCOUNTS),
        delay=st.sampled_from([None, None, None, 30, 7200]),
        life=st.sampled_from([None, 90]),
        ordering=st.sampled_from(["lead", "lead", "lead", "none"]),
        on_conflict=st.sampled_from(["keep", "keep", "raise", "replace"]),
        commits=st.sampled_from([True, True, True, False]),
    )
    def enqueue(
        self,
        saying: tuple[str, int, int | None, int],
        email: str,
        account: str,
        delay: int | None,
        life: int | None,
        ordering: Ordering,
        on_conflict: OnConflict,
        commits: bool,
    ) -> None:
        self.tick()
        event = event_of(saying, email)
        options: dict[str, Any] = {"account": account, "ordering": ordering, "on_conflict": on_conflict}
        options["delay"] = timedelta(seconds=delay) if delay else None
        options["expires_in"] = timedelta(seconds=life) if life and saying[0] == "cart" else None
        said = Told(saying[0], saying[2])
        if self.shop is not None:
            kept = enqueue(self.shop, event, **options | {"on_conflict": "keep"})
            self.enqueued_in_the_open.append((kept, said))
            self.look()
            return
        expected = self._foresee(event, account, on_conflict)
        with self.stage.shop.connect() as connection:
            receipt: Receipt | None = None
            with contextlib.suppress(IdempotencyConflict):
                receipt = enqueue(connection, event, **options)
            assert (receipt is None) == (expected == "refused"), f"{expected}, but {receipt}"
            if not commits or receipt is None:
                connection.rollback()
                self.look()
                return
            connection.commit()
        self._compare(receipt, expected, said)

    @act(
        often=3,
        some=st.lists(st.tuples(sayings, st.sampled_from(LEADS), st.sampled_from([None, 90])), min_size=2, max_size=6),
        account=st.sampled_from(ACCOUNTS),
    )
    def enqueue_one_after_another(
        self, some: list[tuple[tuple[str, int, int | None, int], str, int | None]], account: str
    ) -> None:
        for saying, email, life in some:
            self.enqueue(
                saying=saying, email=email, account=account, delay=None, life=life, ordering="lead",
                on_conflict="keep", commits=True,
            )  # fmt: skip

    @act(
        sayings=st.lists(sayings, min_size=1, max_size=4),
        email=st.sampled_from(LEADS),
        account=st.sampled_from(ACCOUNTS),
        commits=st.sampled_from([True, True, False]),
    )
    @when(Machine.shop_is_closed)
    def enqueue_many(
        self, sayings: list[tuple[str, int, int | None, int]], email: str, account: str, commits: bool
    ) -> None:
        self.tick()
        told = [event_of(saying, email) for saying in sayings]
        with self.stage.shop.connect() as connection:
            receipts = enqueue_many(connection, told, account=account)
            if not commits:
                connection.rollback()
                self.look()
                return
            connection.commit()
        new, revived = set(), {}
        for receipt, saying in zip(receipts, sayings, strict=True):
            row = self._by_key(receipt.account, receipt.key)
            if receipt.created and row is None:
                new.add(receipt.event_id)
            elif receipt.created and row is not None:
                assert self._may_revive(row), f"{receipt.key} was brought back"
                revived[row["id"]] = ("pending", None)
                self.failures[row["id"]] = 0
            if receipt.created:
                self.told[receipt.event_id] = Told(saying[0], saying[2])
        keys = {(account, event.key()) for event in told}
        known = {key for key in keys if self._by_key(account, key[1] or "") or self._remembered(account, key[1] or "")}
        assert len(new) == len(keys) - len(known), "each fact that was new, and no other, is an event"
        self.committed |= new
        self.look(revived, touched=set(revived), new=new)

    @act(email=st.sampled_from(LEADS), order=st.integers(1, 3), account=st.sampled_from(ACCOUNTS))
    @when(Machine.shop_is_closed)
    def enqueue_what_is_invalid(self, email: str, order: int, account: str) -> None:
        self.tick()
        envelope = {
            "event_type": "ORDER_PLACED",
            "event_family": "CDP",
            "payload": {"email": email, "cf_order_id": str(order), "cf_order_total_items": "many"},
        }
        with self.stage.shop.begin() as connection:
            receipt = enqueue(connection, envelope, account=account, on_invalid="dead_letter")
        if receipt.created:
            assert receipt.dead_letter, "it cannot be sent"
            self.committed.add(receipt.event_id)
        self.look(new={receipt.event_id} if receipt.created else set())
        if receipt.created:
            stands = next(row for row in self.before.events.values() if row["event_id"] == receipt.event_id)
            assert (stands["state"], stands["reason"]) == ("dead", "invalid")

    @act(number=st.integers(0, 9), commits=st.sampled_from([True, True, False]))
    @when(lambda self: bool(self.before.events))
    def cancel(self, number: int, commits: bool) -> None:
        """What waits or flies, the first of its line for preference."""
        self.tick()
        rows = self.before.in_state(*WAITING) or list(self.before.events.values())
        row = rows[number % len(rows)]
        account, key = row["account"], row["key"]
        with nullcontext(self.shop) if self.shop is not None else self.stage.shop.connect() as connection:
            done = cancel(connection, key, account=account)
            if self.shop is not None:
                if done:
                    self.cancelled_in_the_open.add((account, key))
                self.look()
                return
            assert done == (row["state"] == "pending")
            (connection.commit if commits else connection.rollback)()
        self.look({row["id"]: ("cancelled", "cancelled")} if done and commits else {})

    @act()
    @when(lambda self: self.shop is None and self.stage.dialect != "sqlite")
    def a_shop_takes_its_time(self) -> None:
        """Its transaction stays open: nobody else may wait for it."""
        self.tick()
        self.shop = self.stage.shop.connect()
        self.enqueued_in_the_open: list[tuple[Receipt, Told]] = []
        self.cancelled_in_the_open: set[tuple[str, str]] = set()
        self.look()

    @act(commits=st.booleans())
    @when(Machine.shop_is_open)
    def the_shop_is_done(self, commits: bool) -> None:
        self.tick()
        assert self.shop is not None
        (self.shop.commit if commits else self.shop.rollback)()
        self.shop.close()
        self.shop = None
        becomes: dict[int, Fate] = {}
        touched: set[int] = set()
        new: set[UUID] = set()
        may: dict[int, Fate] = {}
        for receipt, said in self.enqueued_in_the_open if commits else ():
            row = self._by_key(receipt.account, receipt.key)
            touched |= {row["id"]} if row is not None else set()
            if receipt.created:
                self.told[receipt.event_id] = said
            if receipt.created and row is None:
                new.add(receipt.event_id)
            elif receipt.created and row is not None:
                may[row["id"]] = ("pending", None)
                self.failures[row["id"]] = 0
        for account, key in self.cancelled_in_the_open if commits else ():
            row = self._by_key(account, key)
            if row is not None:
                may[row["id"]] = ("cancelled", "cancelled")
                if not any(receipt.created and receipt.event_id == row["event_id"] for receipt, _ in
                           self.enqueued_in_the_open):  # fmt: skip
                    becomes[row["id"]] = ("cancelled", "cancelled")
        self.committed |= new
        self.look(becomes, may=may, touched=touched, new=new)

    def _foresee(self, event: Event, account: str, on_conflict: str) -> str:
        """What must become of it: new, known, revived, refused, replaced or conflict."""
        key = event.key() or ""
        row = self._by_key(account, key) or self._remembered(account, key)
        if row is None:
            return "new"
        same = row["fingerprint"] in (None, event.fingerprint())
        if "id" in row and (row["state"], row["reason"]) == ("cancelled", "cancelled"):
            return "revived" if self._may_revive(row) else "known" if same else "conflict"
        if same:
            return "known"
        if on_conflict == "raise":
            return "refused"
        return "replaced" if on_conflict == "replace" and row["state"] == "pending" else "conflict"

    def _compare(self, receipt: Receipt, expected: str, said: Told) -> None:
        row = self._by_key(receipt.account, receipt.key)
        remembered = self._remembered(receipt.account, receipt.key)
        assert receipt.created == (expected in ("new", "revived")), f"{expected}: {receipt}"
        assert receipt.conflict == (expected == "conflict"), f"{expected}: {receipt}"
        known = row or remembered
        assert known is None or known["event_id"] == receipt.event_id, "the same fact has one name"
        if expected in ("new", "revived", "replaced"):
            self.told[receipt.event_id] = said
        if expected == "new":
            self.committed.add(receipt.event_id)
            self.look(new={receipt.event_id})
        elif expected == "revived" and row is not None:
            self.failures[row["id"]] = 0
            self.look({row["id"]: ("pending", None)}, touched={row["id"]})
        else:
            self.look(touched={row["id"]} if expected == "replaced" and row is not None else set())

    def _by_key(self, account: str, key: str) -> Row | None:
        rows = self.before.events.values()
        return next((row for row in rows if (row["account"], row["fact"]) == (account, fact_hash(key))), None)

    def _remembered(self, account: str, key: str) -> Row | None:
        return self.before.ledger.get((account, fact_hash(key)))

    def _may_revive(self, row: Row) -> bool:
        tries = self.before.tries(row["id"])
        harmless = [attempt for attempt in tries if attempt["verdict"] not in _ARRIVED]
        taken_back = (row["state"], row["reason"]) == ("cancelled", "cancelled")
        return taken_back and len(harmless) == row["attempt"]
