"""`operations list|show|resume|cancel`: what people did to the outbox, and the long ones among it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from dispatcher.admin.moments import relative
from dispatcher.admin.options import By, Json, Limit
from dispatcher.admin.pacing import run
from dispatcher.admin.root import opened
from dispatcher.admin.tables import table
from dispatcher.admin.terminal import note, print_json, print_text, safe
from dispatcher.errors import OperationRefused
from dispatcher.outbox import operation_rows, operations
from dispatcher.outbox.operation_rows import Kind, OperationView
from dispatcher.outbox.transaction import in_transaction, reading

SHOWN = 50

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The operation, as `list` shows it.")]


@app.command("list")
def list_(
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="Only operations of this kind.", show_default=False)
    ] = None,
    limit: Limit = None,
    *,
    as_json: Json = False,
) -> None:
    """List what was done to the outbox, by whom and why, the newest first.

    An operation that is `running` without progress was killed: resume or cancel it.
    """
    with opened() as root:
        wanted = limit or (None if as_json else SHOWN)
        found = reading(root.engine, lambda connection: operation_rows.newest(connection, limit=wanted, kind=kind))
        now = root.clock.now()
    if as_json:
        print_json([_document(operation) for operation in found])
        return
    if not found:
        note("nothing has been done yet")
        return
    made = table(
        "NUMBER", "KIND", "STATE", "ACCOUNT", "SEEN", "OF", "BY", "WHEN", "NOTE", right=("NUMBER", "SEEN", "OF")
    )
    for operation in found:
        made.add_row(
            str(operation.id),
            operation.kind,
            operation.state,
            safe(operation.account or ""),
            str(operation.seen),
            str(operation.total),
            safe(operation.signed_by),
            relative(operation.created_at, now),
            safe(operation.note or ""),
        )
    print_text(made)


@app.command()
def show(number: Number, *, as_json: Json = False) -> None:
    """Show one operation: what was meant, how far it came, what came of it."""
    with opened() as root:
        operation = reading(root.engine, lambda connection: operations.known(connection, number))
        now = root.clock.now()
    if as_json:
        print_json(_document(operation))
        return
    page = table("", "")
    page.show_header = False
    for name, value in _document(operation).items():
        shown = relative(value, now) if isinstance(value, datetime) else value
        if shown not in (None, "", [], {}):
            page.add_row(name, safe(shown))
    print_text(page)


@app.command()
def resume(number: Number, *, as_json: Json = False) -> None:
    """Go on with a replay or discard whose command was ended: with what is left, at the same pace.

    Nothing is done twice, also if the first command is still alive: the two take turns.
    """
    with opened() as root:
        operation = reading(root.engine, lambda connection: operations.known(connection, number))
        if operation.ended_at is not None:
            raise OperationRefused(f"operation {number} is {operation.state}: there is nothing left to resume")
        if operation.kind == Kind.IMPORT:
            raise OperationRefused(
                "import the same file again (`dispatcher dead import FILE`): it goes on where it was"
            )
        ended, _ = run(root, operation)
    if as_json:
        print_json(_document(ended))
    else:
        typer.echo(_told(ended))


@app.command()
def cancel(number: Number, by: By, *, as_json: Json = False) -> None:
    """End a running operation after the batch it is at. What it has done stays done; the rest is left as it was."""
    with opened() as root:
        ended = in_transaction(root.engine, lambda connection: operation_rows.cancel(connection, number, by=by))
        operation = reading(root.engine, lambda connection: operations.known(connection, number))
    if not ended:
        raise OperationRefused(f"operation {number} is {operation.state} already")
    if as_json:
        print_json(_document(operation))
    else:
        typer.echo(_told(operation))


def _told(operation: OperationView) -> str:
    counts = ", ".join(f"{name} {number}" for name, number in operation.counts.items() if number)
    return f"operation {operation.id} is {operation.state}: {operation.seen} of {operation.total} events; {counts}"


def _document(operation: OperationView) -> dict[str, object]:
    document = asdict(operation)
    del document["place"], document["last"]
    if "events" in operation.chosen:
        document["chosen"] = {"events": len(operation.chosen["events"])}
    return document
