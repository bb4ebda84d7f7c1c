"""The entry point `dispatcher`: the command tree, and every error as a line that says what to do next."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from dispatcher.admin.commands import (
    accounts,
    dead,
    demo,
    entering,
    explaining,
    forgetting,
    installing,
    looking,
    operating,
    payloads,
    pruning,
    running,
    watching,
)
from dispatcher.admin.terminal import note
from dispatcher.errors import DispatcherError, InvalidEvent

FAILED = 1
INTERRUPTED = 130

_HELP = """
Deliver a shop's events to RD Station Marketing: see how they stand, and put right what went wrong.

Settings come from the environment (`DISPATCHER_…`) or a `.env` file. Listings take `--json` for scripts. Exit codes:
0 done, 1 failed, 2 wrong use.

Where KEY|ID is asked for, a UUID is an event's ID; anything else is its key, such as `ORDER_PLACED:1001`.
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)
app.command(rich_help_panel="Set up")(demo.demo)
app.command(rich_help_panel="Set up")(installing.migrate)
app.command(rich_help_panel="Set up")(installing.check)
app.command(rich_help_panel="Run", context_settings=running.PASSED_THROUGH)(running.worker)
app.command(rich_help_panel="Run")(running.sandbox)
app.command(rich_help_panel="Run")(watching.metrics)
app.command(rich_help_panel="Look")(looking.status)
app.command("list", rich_help_panel="Look")(looking.list_)
app.command(rich_help_panel="Look")(looking.show)
app.command(rich_help_panel="Look")(explaining.explain)
app.command(rich_help_panel="Look")(watching.health)
app.command(rich_help_panel="Operate")(accounts.pause)
app.command(rich_help_panel="Operate")(accounts.resume)
app.command(rich_help_panel="Operate")(pruning.prune)
app.command(rich_help_panel="Operate")(forgetting.forget)
app.add_typer(
    dead.app, name="dead", rich_help_panel="Operate", help="See, correct, replay or discard the undeliverable."
)
app.add_typer(
    operating.app, name="operations", rich_help_panel="Operate", help="What was done, by whom; resume or cancel it."
)
app.add_typer(accounts.app, name="account", rich_help_panel="Operate", help="The RD Station accounts.")
app.add_typer(
    payloads.app, name="payloads", rich_help_panel="Operate", help="Encrypt what is stored of people; change the key."
)
app.command(rich_help_panel="Events")(entering.enqueue)
app.command(rich_help_panel="Events")(entering.schema)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; always ends in SystemExit."""
    # The commands print what matters; without this, Python would write our warnings to stderr in a form of its own.
    logging.getLogger("dispatcher").addHandler(logging.NullHandler())
    try:
        app(args=None if arguments is None else list(arguments), prog_name="dispatcher")
    except InvalidEvent as invalid:
        for problem in invalid.problems:
            note(f"dispatcher: {problem}")
        sys.exit(FAILED)
    except DispatcherError as error:
        note(f"dispatcher: {error}")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `dispatcher list | head`
        sys.stderr.close()
        sys.exit(FAILED)
    except Exception as bug:  # noqa: BLE001 - a traceback may quote secrets and personal data
        place = traceback.extract_tb(bug.__traceback__)[-1]
        note(
            f"dispatcher: a bug: {type(bug).__name__} at {Path(place.filename).name}:{place.lineno} in {place.name}. "
            "Its text is not shown because it may hold data; please report this line"
        )
        sys.exit(FAILED)
