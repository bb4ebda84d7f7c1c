"""What the tokens' keeper needs of the database. The database is the lock: one refresh per account, fleet-wide."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from dispatcher.policy.tokens import Tokens, Turn


class TokenStore(Protocol):
    """Each call is one short transaction of its own, committed on return; none is open while HTTP is going on.

    Errors of the database pass through to the caller.
    """

    def load(self, account: str) -> Tokens | None:
        """The tokens as they are now; None if the account has none."""
        ...

    def load_all(self, accounts: Collection[str]) -> dict[str, Tokens | None]:
        """The tokens of many, in one read; None for an account that has none. What cannot be opened is left out."""
        ...

    def begin_refresh(self, account: str, *, seen_version: int, owner: str, lease_seconds: float) -> Turn:
        """Ask for the turn to refresh.

        Answers, in this order: `NEWER` if the version is above `seen_version`; `WAIT` if another owner's lease runs;
        `NOT_YET` before `refresh_not_before`; else `GRANTED`, after writing owner and end of lease. The time is the
        database's. Polled by those who wait: everything but `GRANTED` must be a plain read.
        """
        ...

    def store(self, account: str, tokens: Tokens) -> bool:
        """Store renewed tokens and end the turn, if the version stored is still `tokens.version - 1`.

        Clears `refresh_not_before`. The owner is not compared: a refresh that outlived its lease still brings tokens
        that must not be lost, and the version says whether somebody was faster.

        Returns:
            False if the version has moved on; nothing was changed.
        """
        ...

    def end_refresh(self, account: str, *, owner: str, retry_seconds: float) -> None:
        """End a turn that brought nothing.

        Clears the lease if it is this owner's, and sets `refresh_not_before` to `retry_seconds` from now in any case.
        """
        ...

    def forget_previous(self, account: str, *, version: int) -> None:
        """Clear `previous_refresh` if the version is still this one, which stays: the new tokens have worked."""
        ...
