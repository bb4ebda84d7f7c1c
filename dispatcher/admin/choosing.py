"""From KEYs, IDs and filters to the events they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from dispatcher.admin.moments import since_moment
from dispatcher.clock import Clock
from dispatcher.errors import DispatcherError, InvalidEvent
from dispatcher.lifecycle import State
from dispatcher.outbox import queries
from dispatcher.outbox.intake import validate_account
from dispatcher.outbox.queries import Criteria, EventView
from dispatcher.outbox.transaction import reading

if TYPE_CHECKING:  # handed on only
    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows that names mean, in the order of the names, and the names that mean nothing."""

    rows: list[int]
    unknown: list[str]


def account_name(account: str) -> str:
    """The account's name, if it can be one; else wrong use."""
    try:
        return validate_account(account)
    except InvalidEvent as invalid:
        raise typer.BadParameter(invalid.problems[0].message, param_hint="--account") from None


def criteria(
    clock: Clock,
    *,
    account: str,
    state: State | None = None,
    event_type: str | None = None,
    reason: str | None = None,
    since: str | None = None,
) -> Criteria:
    """The filter that the options make."""
    try:
        moment = None if since is None else since_moment(since, clock.now())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    return Criteria(account_name(account), state, event_type, reason, moment)


def by_name(engine: Engine, account: str, names: Sequence[str]) -> Chosen:
    """Look up KEYs and IDs."""
    found = reading(engine, lambda connection: queries.resolve(connection, account, names))
    return Chosen([found[name] for name in names if name in found], [name for name in names if name not in found])


def one_event(engine: Engine, account: str, name: str, *, payload: bool = False) -> EventView:
    """The event of a KEY or ID.

    Raises:
        DispatcherError: There is none; says where to look.
    """
    chosen = by_name(engine, account, [name])
    views = (
        reading(engine, lambda connection: queries.read_events(connection, chosen.rows, payload=payload))
        if chosen.rows
        else []
    )
    if not views:
        raise not_found(account, name)
    return views[0]


def not_found(account: str, name: str) -> DispatcherError:
    """What to say about a name that means nothing."""
    return DispatcherError(
        f"account {account!r} has no event {name!r}: it was never enqueued, or its transaction was rolled back; "
        "`dispatcher list` shows what there is, --account NAME looks elsewhere"
    )
