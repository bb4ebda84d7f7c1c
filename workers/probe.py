"""Probing a suspended account: do its credentials work (again)? Spends no event, and at most a few requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.outbox import account_rows
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.transaction import in_transaction
from dispatcher.rdstation.credential_check import CredentialCheck


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks RD Station about one account, and opens the account if the answer is good.

    Attributes:
        engine: Of the outbox.
        credentials: Asks.
        reseed: Reads the environment's credentials again, and stores them if they have changed.
        seconds: For the whole probe.
    """

    engine: sa.Engine
    credentials: CredentialCheck
    reseed: Callable[[], None]
    seconds: float

    def __call__(self, account: str) -> bool:
        """Probe; answers whether the account is open now."""
        self.reseed()
        why_not = self.credentials.check(account, seconds=self.seconds).why_not
        telemetry.emit("account.probed", account=account, well=why_not is None, why_not=why_not)
        if why_not is not None:
            return False

        def open_again(connection: sa.Connection) -> None:
            account_rows.end_suspension(connection, account, read_clock(connection))

        in_transaction(self.engine, open_again)
        telemetry.emit("account.opened", account=account)
        return True
