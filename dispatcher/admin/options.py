"""The options that several commands share, each with one meaning everywhere."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from dispatcher.lifecycle import State


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return "unknown"


Account = Annotated[str, typer.Option("--account", metavar="NAME", help="The RD Station account.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text for people.")]
Payload = Annotated[bool, typer.Option("--payload", help="Show the payloads too. They are personal data.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="At most so many.  [default: 50; with --json: all]", show_default=False),
]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only this event type.", show_default=False)]
StateOption = Annotated[State | None, typer.Option("--state", help="Only events in this state.", show_default=False)]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="WORD", help="Only with this reason.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="Only from then on: 30m, 2h, 3d, or a time in ISO 8601.", show_default=False
    ),
]
Pace = Annotated[
    int | None,
    typer.Option(
        "--per-minute",
        min=0,
        help="At most so many; 0: no pace.  [default: none up to 100 events, then half of the account's limit]",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before changing many.")]
Note = Annotated[
    str | None, typer.Option("--note", metavar="TEXT", help="Why; kept with who and when.", show_default=False)
]
By = Annotated[
    str, typer.Option("--by", metavar="WHO", help="Who does it.", default_factory=_user, show_default="your user name")
]
Name = Annotated[str, typer.Argument(metavar="KEY|ID", help="An event: its ID (a UUID), or its key.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY|ID]...", help="Events: IDs (UUIDs) or keys.", show_default=False),
]
