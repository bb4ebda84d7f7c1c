"""`payloads seal|unseal|status`: whether what the outbox stores of people is encrypted, and with which key."""

from __future__ import annotations

from typing import Annotated

import typer

from dispatcher.admin.options import By, Json, Note
from dispatcher.admin.progress import Progress
from dispatcher.admin.root import Root, opened
from dispatcher.admin.terminal import note, print_json
from dispatcher.errors import DispatcherError
from dispatcher.outbox import resealing, sealing
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.prune import last_event
from dispatcher.outbox.resealing import Sealed
from dispatcher.outbox.transaction import reading

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.command()
def seal(by: By, why: Note = None, *, as_json: Json = False) -> None:
    """Encrypt payloads from now on, with the first of DISPATCHER_ENCRYPTION_KEYS, and those that are stored.

    Give every process the key first, the shop's too: one without it refuses to enqueue. Processes that run already go
    on in plain text until they are restarted; then run this again.

    To change the key: put the new one in front, for every process, in any order; run this, and again once the shop's
    processes have been restarted; drop the old key when `dispatcher payloads status` shows none that it holds.

    It works in short transactions beside everything else, and may be ended and started again at any time.
    """
    with opened() as root:
        progress = _progress(root)
        done = resealing.seal_all(root.engine, Signature(by, why), progress=progress.tell)
        progress.end()
    _tell(done, "sealed", as_json=as_json)


@app.command()
def unseal(
    by: By,
    why: Note = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before storing personal data in plain text.")] = False,
    as_json: Json = False,
) -> None:
    """Encrypt no more, and store what is encrypted in plain text."""
    if not yes:
        typer.confirm("Store personal data in plain text?", abort=True, err=True)
    with opened() as root:
        progress = _progress(root)
        done = resealing.open_all(root.engine, Signature(by, why), progress=progress.tell)
        progress.end()
    _tell(done, "opened", as_json=as_json)


@app.command()
def status(*, as_json: Json = False) -> None:
    """Count the events by the key that holds them. Reads every event."""
    with opened() as root:
        held = reading(root.engine, resealing.held)
    at_hand = sealing.keys().names
    if as_json:
        keys = [
            {"key": name or None, "events": count, "at_hand": name == resealing.PLAIN or name in at_hand}
            for name, count in sorted(held.events.items())
        ]
        print_json({"sealed_with": held.key, "keys": keys})
        return
    typer.echo(f"payloads are sealed with the key {held.key}" if held.key else "payloads are not encrypted")
    for name, count in sorted(held.events.items()):
        where = "in plain text" if name == resealing.PLAIN else f"with the key {name}"
        lost = "" if name == resealing.PLAIN or name in at_hand else ", which is not at hand"
        typer.echo(f"{count} events {where}{lost}")


def _progress(root: Root) -> Progress:
    return Progress(root.clock, "row", reading(root.engine, last_event))


def _tell(done: Sealed, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"operation": done.operation, what: done.changed, "seen": done.seen, "unreadable": done.unreadable})
    else:
        typer.echo(f"{what} {done.changed} rows of {done.seen}; recorded as operation {done.operation}")
    if done.unreadable:
        raise DispatcherError(
            f"no key at hand opens {done.unreadable} rows, which were left as they are: put the key that sealed them "
            "behind the first one in DISPATCHER_ENCRYPTION_KEYS, and run this again"
        )
    if not as_json and what == "sealed":
        note("restart the shop's processes that have been running since before, and run this again for what they wrote")
