"""A person stops accounts, and lets them go on. A paused account spends nothing: no request, no budget, no age."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from dispatcher.errors import OperationRefused
from dispatcher.outbox import account_rows, fleet
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Kind, Signature, record
from dispatcher.outbox.queries import known_accounts
from dispatcher.outbox.tables import accounts as rows
from dispatcher.outbox.transaction import in_transaction, reading

DEFAULT = "default"
_BATCH = 200


@dataclass(frozen=True, slots=True)
class Switched:
    """What pausing or resuming one account did; `changed` is False if it stood so already."""

    account: str
    changed: bool


def pause(engine: sa.Engine, accounts: Iterable[str] | None, signature: Signature) -> list[Switched]:
    """Stop these accounts, or all (None), those to come included; what is in flight is finished.

    Some hundred are one transaction.

    Raises:
        OperationRefused: An account is not known; nothing was changed.
    """

    def switch(connection: sa.Connection, account: str) -> bool:
        now = read_clock(connection)
        if not account_rows.pause(connection, account, by=signature.by, note=signature.note, now=now):
            return False
        record(connection, Kind.PAUSE, signature, account=account)
        return True

    if accounts is None:  # before the known ones are read, so that none slips through between

        def stop_new(connection: sa.Connection) -> None:
            fleet.pause(connection, by=signature.by, note=signature.note, now=read_clock(connection))

        in_transaction(engine, stop_new)
    return _switch(engine, accounts, switch)


def resume(engine: sa.Engine, accounts: Iterable[str] | None, signature: Signature) -> list[Switched]:
    """Let these accounts, or all (None), go on. A suspension by the system stays until its probe succeeds.

    Who resumed the account and when stands in `pause_note` until somebody pauses it again.

    Raises:
        OperationRefused: An account is not known; nothing was changed.
    """

    def switch(connection: sa.Connection, account: str) -> bool:
        now = read_clock(connection)
        if not account_rows.resume(connection, account, now=now):
            return False
        told = f"resumed by {signature.by} at {now:%Y-%m-%dT%H:%M:%SZ}" + (
            f": {signature.note}" if signature.note else ""
        )
        connection.execute(sa.update(rows).where(rows.c.account == account).values(pause_note=told))
        record(connection, Kind.RESUME, signature, account=account)
        return True

    if accounts is None:
        in_transaction(engine, fleet.resume)
    return _switch(engine, accounts, switch)


def _switch(
    engine: sa.Engine, accounts: Iterable[str] | None, switch: Callable[[sa.Connection, str], bool]
) -> list[Switched]:
    switched, chosen = list[Switched](), _chosen(engine, accounts)
    for start in range(0, len(chosen), _BATCH):

        def work(connection: sa.Connection, some: list[str] = chosen[start : start + _BATCH]) -> list[Switched]:
            return [Switched(account, switch(connection, account)) for account in some]

        switched += in_transaction(engine, work)
    return switched


def _chosen(engine: sa.Engine, accounts: Iterable[str] | None) -> list[str]:
    """A mistyped name must not look like a paused account, so only known ones are taken."""
    known = reading(engine, known_accounts)
    if accounts is None:
        return known
    chosen = sorted(set(accounts))  # in one order everywhere: no deadlock
    for account in chosen:
        if account not in known and account != DEFAULT:
            raise OperationRefused(
                f"there is no account {account!r} (known: {', '.join(known) or 'none'}); "
                "add it with `dispatcher account add`, or check the name with `dispatcher account list`"
            )
    return chosen
