"""What a person sets for one account: its own limits and defaults, in place of those of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import account_rows
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One account's own values; None: as the settings of the processes say.

    Attributes:
        per_minute: Events it may send in 60 s by its plan at RD Station; 0 = no limit.
        lead_per_day: Events each of its leads may receive in 24 h; 0 = no limit.
        currency: Of its translated orders and carts (`events.account_defaults`).
        checkout_url_template: Where its translated carts are taken up again.
    """

    per_minute: int | None = None
    lead_per_day: int | None = None
    currency: str | None = None
    checkout_url_template: str | None = None


_COLUMNS = tuple(accounts.c[name] for name in AccountSettings.__dataclass_fields__)


def change(engine: sa.Engine, account: str, changes: Mapping[str, Any]) -> AccountSettings:
    """Change some of an account's settings, in a transaction of its own; answers all of them as they are now.

    An account that nobody has used yet is created. Workers see the change with their next claim; events that are in
    flight keep the permits they have.

    Args:
        engine: Of the outbox.
        account: A valid name.
        changes: Names of `AccountSettings` and their new values; None takes a value back.
    """

    def write(connection: sa.Connection) -> AccountSettings:
        row = account_rows.lock(connection, account)
        if changes:
            account_rows.write(connection, account, dict(changes))
        if "per_minute" in changes:  # what a 429 taught was about the old limit
            account_rows.write_share(connection, row, None)
        found = connection.execute(sa.select(*_COLUMNS).where(accounts.c.account == account)).mappings().one()
        return AccountSettings(**found)

    return in_transaction(engine, write)
