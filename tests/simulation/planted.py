"""Bugs planted on purpose: the simulation must find each, or it proves nothing. A test of the tests.

Each is put around the product's functions while a world runs, and leaves the product as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa

from dispatcher.outbox import claim as claiming
from dispatcher.outbox import credentials, ringing, window
from dispatcher.outbox import settle as settling
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.tables import events
from dispatcher.outbox.transitions import Held
from dispatcher.policy.tokens import Turn
from workers import drain, sweeper

Bug = Callable[[], Any]


@contextmanager
def fence_without_attempt() -> Iterator[None]:
    """A settlement proves the event and its state, not the attempt."""
    real = settling.settle

    def settle(connection: sa.Connection, settlements: Any, **options: Any) -> Any:
        query = sa.select(events.c.id, events.c.attempt).where(events.c.id.in_([s.held.id for s in settlements]))
        now = {row.id: row.attempt for row in connection.execute(query)}
        loose = [replace(s, held=Held(s.held.id, now.get(s.held.id, s.held.attempt))) for s in settlements]
        return real(connection, loose, **options)

    with patch.object(drain, "settle", settle), patch.object(sweeper, "settle", settle):
        yield


@contextmanager
def settle_outside_the_transaction() -> Iterator[None]:
    """The event's state is committed before what belongs to it."""
    real = settling._write_states

    def write(connection: sa.Connection, *arguments: Any) -> None:
        real(connection, *arguments)
        raw: Any = connection.connection.dbapi_connection
        raw.commit()
        raw.cursor().execute("BEGIN IMMEDIATE")

    with patch.object(settling, "_write_states", write):
        yield


@contextmanager
def limiter_in_memory() -> Iterator[None]:
    """Each worker counts for itself, and forgets when it dies: the database counts nothing."""
    from dispatcher.outbox import permits

    used: dict[tuple[str, str], list[Any]] = {}
    real = claiming.claim

    def claim(connection: sa.Connection, rules: Any, *, worker: str, room: int, **options: Any) -> Any:
        now = read_clock(connection)
        mine = used.setdefault((worker, "default"), [])
        mine[:] = [at for at in mine if at > now - permits.ACCOUNT_WINDOW]
        if rules.quota.account:
            room = min(room, max(0, rules.quota.account - len(mine)))
        batch = real(connection, replace(rules, quota=Quota(0, 0)), worker=worker, room=room, **options)
        mine.extend(now for _ in batch.events)
        return batch

    with patch.object(drain, "claim", claim):
        yield


@contextmanager
def bell_before_commit() -> Iterator[None]:
    """The bell rings when the event is written, not when its transaction has committed."""

    def now(_session: object, account: str) -> None:
        ringing.ring([account])

    with patch.object(ringing, "after_commit", now):
        yield


@contextmanager
def refresh_without_lock() -> Iterator[None]:
    """Whoever wants a new token asks for it."""

    def granted(*_: Any, **__: Any) -> Turn:
        return Turn.GRANTED

    with patch.object(credentials.CredentialStore, "begin_refresh", granted):
        yield


@contextmanager
def supersede_after_claim() -> Iterator[None]:
    """The claim does not ask whether an order has come; somebody later is to."""
    with (
        patch.object(window, "is_moot", lambda _of: sa.false()),
        patch.object(window, "_of_every_candidate", window._of_every_candidate.__wrapped__),
        patch.object(window, "_window", window._window.__wrapped__),  # both are made once
        patch.object(drain, "withdraw_moot", lambda _connection, _claimed: set()),
    ):
        yield


BUGS = {
    bug.__name__: bug
    for bug in (
        fence_without_attempt, settle_outside_the_transaction, limiter_in_memory, bell_before_commit,
        refresh_without_lock, supersede_after_claim,
    )
}  # fmt: skip
