"""When a bell rings: after the outermost commit of a session that enqueued, once for each account."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from dispatcher import telemetry

_WAITING = "dispatcher_bells"


class Bell(Protocol):
    """Whatever can say "there may be work"."""

    def ring(self, accounts: Iterable[str]) -> None:
        """Say it for these accounts, without waiting. May fail; nothing depends on it but latency."""
        ...


_bell: Bell | None = None


def install(bell: Bell | None) -> None:
    """Set this process' bell; None: nothing rings, and the sweep finds the work."""
    global _bell  # noqa: PLW0603 - one bell for each process, as there is one broker connection
    _bell = bell


def ring(accounts: Iterable[str]) -> None:
    """Ring now. Never raises and never waits: a bell that fails costs at most one sweep interval."""
    try:
        if _bell is not None:
            _bell.ring(accounts)
    except Exception as error:  # noqa: BLE001 - the caller has committed; nothing may break it now
        telemetry.emit("bell.lost", error=type(error).__name__)


def after_commit(session: Session, account: str) -> None:
    """Ring for the account once the session's outermost transaction has committed; never if it rolls back.

    A session that is bound to a connection has joined somebody else's transaction and does not know when it commits:
    nothing rings by itself then (`Receipt.ring`, or the sweep).
    """
    if not isinstance(session.bind, sa.Connection):
        session.info.setdefault(_WAITING, set()).add(account)


@event.listens_for(Session, "after_commit")
def _ring_after_commit(session: Session) -> None:
    if _WAITING in session.info and not session.in_nested_transaction():  # it also fires when a savepoint is released
        ring(sorted(session.info.pop(_WAITING)))


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None and _WAITING in session.info:
        del session.info[_WAITING]
