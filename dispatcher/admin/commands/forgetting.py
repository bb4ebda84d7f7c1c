"""`forget`: remove a person."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from dispatcher.admin.options import By, Json, Note, Yes
from dispatcher.admin.progress import Progress
from dispatcher.admin.root import opened
from dispatcher.admin.terminal import may_ask, note, print_json
from dispatcher.outbox.forgetting import forget as remove
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.prune import last_event
from dispatcher.outbox.transaction import reading


def forget(
    email: Annotated[
        str,
        typer.Argument(
            metavar="EMAIL|-", help="The person's e-mail address; - reads it from stdin, which no shell remembers."
        ),
    ],
    by: By,
    why: Note = None,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove a person from the outbox: from waiting, dead and finished events of every account, and from all history.

    Waiting and dead events end `cancelled`, reason `forgotten`. Contents, attempts' texts and the lead's hash go; keys
    stay recognised, so the same order enqueued again is not sent again. Wherever else the address stands, in another
    person's payload or in a note, it is replaced. A receipt without the address stays: `dispatcher operations list
    --kind forget`. It cannot be undone, and it may be run again.

    It does not reach RD Station, your own tables, backups, or what is enqueued later.
    """
    if email == "-":
        email = sys.stdin.readline()
    if not yes:
        if not may_ask():
            raise typer.BadParameter("nothing was changed: add --yes to do it", param_hint="--yes")
        typer.confirm("Remove this person for good?", abort=True, err=True)
    with opened() as root:
        progress = Progress(root.clock, "row", reading(root.engine, last_event))
        found = remove(root.engine, email, Signature(by, why), progress=progress.tell)
        progress.end()
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(
        f"forgotten: {found.emptied} events emptied, {found.ended} of them ended unsent; the address was replaced in "
        f"{found.mentions} other places; the receipt is operation {found.operation}"
    )
    if found.in_flight:
        note(f"{found.in_flight} being sent at this moment: that attempt may arrive, no other follows")
