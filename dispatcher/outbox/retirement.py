"""How one account's events of retired types leave: the setting, what RD Station has refused it, what it supplies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.events.account_defaults import AccountDefaults, currency_problem, template_problem
from dispatcher.events.succession import LegacyEvents, Route, route
from dispatcher.outbox.account_rows import AccountRow, write
from dispatcher.outbox.intake import whole_hash

SEEDED = "default"
"""The account whose defaults may come from the environment, as its credentials may."""


@dataclass(frozen=True, slots=True)
class LegacyRules:
    """What the claim keeps to for retired types.

    Attributes:
        mode: `LEGACY_EVENTS`.
        defaults: Those of the environment, for the account `default` where its row says nothing.
    """

    mode: LegacyEvents = "auto"
    defaults: AccountDefaults = AccountDefaults()  # noqa: RUF009  # frozen

    def route(self, account: AccountRow, event_type: str) -> Route:
        """How an event of this type leaves for the account."""
        return route(event_type, self.mode, account.retired_types)

    def defaults_of(self, account: AccountRow) -> AccountDefaults:
        """What the account supplies. A value that nobody can have given by `account set` counts as none."""
        base = self.defaults if account.account == SEEDED else AccountDefaults()
        currency, template = account.currency, account.checkout_url_template
        return AccountDefaults(
            base.currency if currency is None or currency_problem(currency) else currency,
            base.checkout_url_template if template is None or template_problem(template) else template,
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One `*_ITEM` event that goes out with its order or cart, as it is stored."""

    key: str
    payload: str
    attached: str | None


@dataclass(frozen=True, slots=True)
class Retired:
    """What sending a claimed event of a retired type needs beside its payload.

    Attributes:
        route: How it leaves.
        translatable: True if it goes back to be translated, should RD Station refuse its type.
        attached: JSON that is stored beside the payload.
        defaults: The account's.
        lines: Its parts, leased with it; for a translated whole.
    """

    route: Route
    translatable: bool
    attached: str | None
    defaults: AccountDefaults
    lines: tuple[Line, ...] = ()


def whole_of_row(row: Any) -> str | None:
    """The row's `whole`; computed where a foreign producer or an earlier release left it empty."""
    if row.whole is not None:
        return str(row.whole)
    try:
        payload = json.loads(row.payload)
    except (ValueError, RecursionError):
        return None
    return whole_hash(row.event_type, payload) if isinstance(payload, dict) else None


def remember(connection: sa.Connection, account: AccountRow, event_type: str, now: datetime) -> bool:
    """RD Station takes this type no longer for this account; answers whether that is news. The row is locked."""
    if event_type in account.retired_types:
        return False
    account.retired_types[event_type] = now.isoformat()
    write(connection, account.account, {"retired_types": json.dumps(account.retired_types)})
    return True
