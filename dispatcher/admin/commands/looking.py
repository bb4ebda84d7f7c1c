"""`status`, `list` and `show`: how things stand."""

from __future__ import annotations

from typing import Annotated

import typer

from dispatcher.admin.choosing import account_name, criteria, one_event
from dispatcher.admin.documents import event_document, overview_document
from dispatcher.admin.options import Account, Json, Limit, Name, Payload, Reason, Since, StateOption, Type
from dispatcher.admin.root import opened
from dispatcher.admin.tables import event_page, events_table, overview_page
from dispatcher.admin.terminal import note, print_json, print_json_array, print_text
from dispatcher.outbox import queries
from dispatcher.outbox.overview import overview
from dispatcher.outbox.transaction import reading

SHOWN = 50
"""Events that a table shows if nothing else is asked for."""


def status(
    account: Annotated[
        str | None, typer.Option("--account", metavar="NAME", help="Count one account only.", show_default=False)
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show how the outbox stands: events in each state, the oldest due one, accounts, workers.

    `oldest_due_seconds` is the number to watch: how long the oldest event that could be sent has been waiting.
    `uncertain` and `abandoned` count the attempts that may have reached RD Station twice.
    """
    if account is not None:
        account_name(account)
    with opened() as root:
        seen = reading(root.engine, lambda connection: overview(connection, account=account, limits=root.limits))
    if as_json:
        print_json(overview_document(seen))
    else:
        print_text(*overview_page(seen))


def list_(
    state: StateOption = None,
    event_type: Type = None,
    reason: Reason = None,
    since: Since = None,
    limit: Limit = None,
    account: Account = "default",
    *,
    payload: Payload = False,
    as_json: Json = False,
) -> None:
    """List events, newest first.

    The options narrow the list and may be combined. With `--json`, one array; its items have the fields of `show`.
    """
    with opened() as root:
        wanted = criteria(root.clock, account=account, state=state, event_type=event_type, reason=reason, since=since)
        if as_json:
            views = queries.list_events(root.engine, wanted, limit=limit, payload=payload)
            print_json_array(event_document(view, payload=payload) for view in views)
            return
        shown = list(queries.list_events(root.engine, wanted, limit=limit or SHOWN))
        print_text(events_table(shown, root.clock.now()) if shown else "no such events")
        if limit is None and len(shown) == SHOWN:
            total = reading(root.engine, lambda connection: queries.count(connection, wanted))
            if total > SHOWN:
                note(f"the newest {SHOWN} of {total}; --limit N shows more")


def show(name: Name, account: Account = "default", *, payload: Payload = False, as_json: Json = False) -> None:
    """Show one event: where it stands, each attempt, and its dead letters.

    The payload is personal data and hidden; `--payload` shows it.
    """
    with opened() as root:
        view = one_event(root.engine, account_name(account), name, payload=payload)
        if as_json:
            print_json(event_document(view, payload=payload))
        else:
            print_text(*event_page(view, root.clock.now(), payload=payload))
