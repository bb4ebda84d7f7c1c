"""`enqueue FILE|-` and `schema TYPE`: events from outside of a shop."""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from typing import Annotated

import typer

from dispatcher.admin.choosing import account_name
from dispatcher.admin.entering import Complaint, Counts, enter_file
from dispatcher.admin.options import Account, Json
from dispatcher.admin.root import opened
from dispatcher.admin.source import opened_source
from dispatcher.admin.terminal import json_line, print_json, progress_line
from dispatcher.events import CATALOGUE
from dispatcher.events.schema import json_schema


def enqueue(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON lines of envelopes, in UTF-8; - reads them from stdin.")
    ],
    account: Account = "default",
    *,
    as_json: Json = False,
) -> None:
    """Enqueue the envelopes of a file, one on each line.

    An envelope is RD Station's own: `{"event_type": …, "event_family": "CDP", "payload": {…}}`. A bad line never
    stops the others: each of its problems is told on stderr as a JSON line with `line`, `path` and `problem`, and
    the command exits 1. A line whose key is known with other content is told there too, and is no failure.

    Good lines are committed 200 at a time. Run it again after it was interrupted: what is in already is recognised,
    and nothing is sent twice.
    """
    account = account_name(account)
    with opened_source(file) as stream, opened() as root:
        counts = enter_file(root.engine, stream, account=account, complain=_complain, progress=_progress)
    progress_line("")
    if as_json:
        print_json(asdict(counts))
    else:
        typer.echo(
            f"enqueued {counts.enqueued}, already known {counts.known}, "
            f"known with other content {counts.conflicts}, refused {counts.refused}"
        )
    if counts.refused:
        raise typer.Exit(1)


def schema(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="An event type, such as ORDER_PLACED.")],
) -> None:
    """Print the JSON Schema of an event type's envelope.

    For editors, tests and producers in other languages. It cannot say everything; `enqueue` checks the rest.
    """
    if event_type not in CATALOGUE:
        close = get_close_matches(event_type.upper(), CATALOGUE, n=3) or list(CATALOGUE)
        raise typer.BadParameter(f"there is no such type; there is {', '.join(close)}", param_hint="TYPE")
    print_json(json_schema(event_type))


def _complain(complaint: Complaint) -> None:
    progress_line("")
    told = {"line": complaint.line, "path": complaint.path, "problem": complaint.problem}
    typer.echo(json_line(told), err=True)


def _progress(counts: Counts) -> None:
    progress_line(f"{counts.lines} lines: enqueued {counts.enqueued}, refused {counts.refused}")
