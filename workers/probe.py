"""Probing a suspended account: do its credentials work (again)? Spends no event, and at most a few requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.clock import Clock
from dispatcher.outbox import account_rows
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.transaction import in_transaction
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.oauth import AccountInfo, OAuthApi, Refused


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks RD Station about one account, and opens the account if the answer is good.

    Attributes:
        engine: Of the outbox.
        tokens: Where access tokens come from, and how they are renewed.
        oauth: The credential check.
        reseed: Reads the environment's credentials again, and stores them if they have changed.
        clock: For the deadline.
        seconds: For the whole probe.
    """

    engine: sa.Engine
    tokens: AccessTokens
    oauth: OAuthApi
    reseed: Callable[[], None]
    clock: Clock
    seconds: float

    def __call__(self, account: str) -> bool:
        """Probe; answers whether the account is open now."""
        self.reseed()
        why_not = self._why_not(account)
        telemetry.emit("account.probed", account=account, well=why_not is None, why_not=why_not)
        if why_not is not None:
            return False

        def open_again(connection: sa.Connection) -> None:
            account_rows.end_suspension(connection, account, read_clock(connection))

        in_transaction(self.engine, open_again)
        telemetry.emit("account.opened", account=account)
        return True

    def _why_not(self, account: str) -> str | None:
        deadline = self.clock.monotonic() + self.seconds

        def remaining() -> float:
            return deadline - self.clock.monotonic()

        found = self.tokens.token_for(account, remaining=remaining)
        token = found.token
        if token is None:
            return found.why_not
        answer = self.oauth.account_info(token, seconds=remaining())
        if isinstance(answer, Refused):
            found = self.tokens.renew(account, token, remaining=remaining)
            token = found.token
            if token is None:
                return found.why_not
            answer = self.oauth.account_info(token, seconds=remaining())
        match answer:
            case AccountInfo(name) if name is not None:
                self.tokens.worked(account, token)
                return None
            case AccountInfo():
                return "the answer to the credential check names no account: something else may be answering"
            case Refused(error_type):
                return f"RD Station refused the credential check with {error_type}"
            case _:
                return "the credential check got no usable answer"
