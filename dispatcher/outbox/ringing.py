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
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is not None and not isinstance(session.get_bind(), sa.Connection):
        _waiting(session).setdefault(transaction, set()).add(account)


def _waiting(session: Session) -> dict[SessionTransaction, set[str]]:
    """The accounts to ring for, by the transaction or savepoint that must not roll back."""
    waiting: dict[SessionTransaction, set[str]] = session.info.setdefault(_WAITING, {})
    return waiting


@event.listens_for(Session, "after_commit")
def _ring_after_commit(session: Session) -> None:
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is None or _WAITING not in session.info:
        return
    accounts = _waiting(session).pop(transaction, set())
    if transaction.nested and transaction.parent is not None:  # the event also fires when a savepoint is released
        _waiting(session).setdefault(transaction.parent, set()).update(accounts)
    elif accounts:
        ring(sorted(accounts))


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    if _WAITING in session.info:
        _waiting(session).pop(transaction, None)
