"""The sweep's look at what somebody should hear about: once for the whole fleet, to the log and to a webhook."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.meters import TALLY
from dispatcher.outbox import notice_rows
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.notice_rows import NoticeRow
from dispatcher.outbox.overview import AccountState, Overview, overview
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.notices import AccountFacts, Condition, Thresholds, conditions


class Teller(Protocol):
    """Whoever hears notices."""

    def tell(self, notice: NoticeRow) -> str | None:
        """Tell it; answers why it was not taken, None if it was."""
        ...


@dataclass(slots=True)
class Noticing:
    """One sweeper's part of it. `look` is a step of the sweep.

    Attributes:
        engine: Of the outbox.
        limits: Those of the settings, for accounts without their own.
        thresholds: From when on it is worth a notice.
        teller: The webhook; None: the log only.
        elsewhere: Where the webhook is told, so that one that hangs holds up no sweep.
    """

    engine: sa.Engine
    limits: Configured
    thresholds: Thresholds
    teller: Teller | None
    elsewhere: Executor
    _telling: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Bring the notices up to what is so, unless another sweeper of the fleet has just done it; then tell."""
        if in_transaction(self.engine, notice_rows.may_look):
            found = reading(self.engine, self._conditions)
            tell = self.teller is not None
            raised, resolved = in_transaction(
                self.engine, lambda connection: notice_rows.observe(connection, found, tell=tell)
            )
            for notice in raised:
                telemetry.emit("notice.raised", **_fields(notice), detail=notice.detail)
            for notice in resolved:
                telemetry.emit("notice.resolved", **_fields(notice))
        if self.teller is not None and reading(self.engine, notice_rows.somebody_waits):
            self.elsewhere.submit(self.tell)

    def tell(self) -> None:
        """Give the webhook what it has not heard; no transaction is open while it is told. Raises nothing."""
        if self.teller is None or not self._telling.acquire(blocking=False):
            return
        try:
            for notice in in_transaction(self.engine, notice_rows.take_to_tell):
                self._tell_one(self.teller, notice)
        except Exception as error:  # noqa: BLE001 - the database is away: the next sweep goes on
            telemetry.emit("sweep.failed", step="notices", error=telemetry.where(error))
        finally:
            self._telling.release()

    def _tell_one(self, teller: Teller, notice: NoticeRow) -> None:
        why_not = teller.tell(notice)
        if why_not is None:
            in_transaction(self.engine, lambda connection: notice_rows.told(connection, notice))
            TALLY.add("notices", result="told")
            return
        again = in_transaction(self.engine, lambda connection: notice_rows.not_told(connection, notice))
        telemetry.emit("notice.failed", **_fields(notice), why=why_not, again=again)
        TALLY.add("notices", result="failed")

    def _conditions(self, connection: sa.Connection) -> list[Condition]:
        seen = overview(connection, ended=False, limits=self.limits)
        lately = notice_rows.dead_lately(connection, seen.at)
        return list(conditions(list(_facts(seen)), lately, self.thresholds))


def _facts(seen: Overview) -> Iterator[AccountFacts]:
    for view in seen.accounts:
        suspended = f"{view.reason}: {view.detail}" if view.state is AccountState.SUSPENDED else None
        yield AccountFacts(
            account=view.account,
            suspended=suspended,
            suspended_types={
                name: f"{entry.get('reason')}: {entry.get('detail')}" for name, entry in view.suspended_types.items()
            },
            breaker_open=view.reason == "breaker_open",
            is_open=view.state is AccountState.OPEN,
            due=view.due,
            used=view.limits.used if view.limits else 0,
            limit=view.limits.allowed or None if view.limits else None,
        )


def _fields(notice: NoticeRow) -> dict[str, str]:
    return {"kind": notice.kind, "account": notice.account, "subject": notice.subject}
