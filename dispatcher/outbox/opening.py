"""What a claim asks first, once it holds its accounts: the time, the fleet, and whether one account has candidates.

A bell mostly leads to one account. Each statement is a wait for the database before its event can go, so what concerns
one is asked in one; about several, the fronts make a statement of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from dispatcher.outbox import fleet
from dispatcher.outbox.fleet import FleetRow
from dispatcher.outbox.window import EVERYTHING, Front, Lanes, bound_to, first_of_one


class Opening(NamedTuple):
    """The answers.

    Attributes:
        fleet: The row as it is, without a lock.
        now: The database's time, after the locks: a claim that waited must not see an old window.
        first: When the first candidates behind their fronts are due, of the accounts that were asked about.
    """

    fleet: FleetRow
    now: datetime
    first: dict[str, Lanes]


def ask(connection: sa.Connection, names: Sequence[str], fronts: Mapping[str, Front]) -> Opening:
    """Ask for these accounts, which the caller has locked."""
    if len(names) != 1:
        return Opening(*fleet.read_with_clock(connection), {})
    (name,) = names
    bound = bound_to(name, fronts.get(name, EVERYTHING))
    found = connection.execute(_about_one(connection.dialect.name), bound).one()
    return Opening(*fleet.seen(found), {name: (found.ahead, found.behind)})


@cache
def _about_one(dialect: str) -> sa.Select[Any]:
    return fleet.WITH_CLOCK.add_columns(*first_of_one(dialect).selected_columns)
