"""`dead list|show|replay|arrived|discard`: what could not be delivered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dispatcher.admin.choosing import account_name, criteria, one_event
from dispatcher.admin.commands.editing import export, import_
from dispatcher.admin.documents import event_document
from dispatcher.admin.envelopes import parse_json
from dispatcher.admin.options import (
    Account,
    By,
    DryRun,
    Json,
    Limit,
    Name,
    Names,
    Note,
    Pace,
    Payload,
    Reason,
    Since,
    Type,
    Yes,
)
from dispatcher.admin.resolving import Asked, Verb, correct, resolve_dead
from dispatcher.admin.root import opened
from dispatcher.admin.tables import event_page, letters_table
from dispatcher.admin.terminal import note, print_json, print_json_array, print_text
from dispatcher.errors import DispatcherError, InvalidEvent
from dispatcher.events.setting import check_path
from dispatcher.outbox import queries
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.transaction import reading

SHOWN = 50

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

app.command("export")(export)
app.command("import")(import_)

_MAX_CORRECTION = 1 << 20


@app.command("list")
def list_(
    event_type: Type = None,
    reason: Reason = None,
    since: Since = None,
    limit: Limit = None,
    account: Account = "default",
    *,
    payload: Payload = False,
    as_json: Json = False,
) -> None:
    """List open dead letters, the latest first.

    With `--json`, one array; its items have the fields of `dispatcher show`.
    """
    with opened() as root:
        wanted = criteria(root.clock, account=account, event_type=event_type, reason=reason, since=since)
        if as_json:
            views = queries.list_dead(root.engine, wanted, limit=limit, payload=payload)
            print_json_array(event_document(view, payload=payload) for view in views)
            return
        shown = list(queries.list_dead(root.engine, wanted, limit=limit or SHOWN))
        print_text(letters_table(shown, root.clock.now()) if shown else "no open dead letters")
        if limit is None and len(shown) == SHOWN:
            total = reading(root.engine, lambda connection: queries.count_dead(connection, wanted))
            if total > SHOWN:
                note(f"the latest {SHOWN} of {total}; --limit N shows more")


@app.command()
def show(name: Name, account: Account = "default", *, payload: Payload = False, as_json: Json = False) -> None:
    """Show one event's dead letters, open and closed: why, RD Station's own words, who did what."""
    with opened() as root:
        view = one_event(root.engine, account_name(account), name, payload=payload)
        if not view.dead_letters:
            raise DispatcherError(f"{view.key!r} is {view.state} and never had a dead letter: see `dispatcher show`")
        if as_json:
            print_json(event_document(view, payload=payload))
        else:
            print_text(*event_page(view, root.clock.now(), payload=payload))


@app.command()
def replay(
    context: typer.Context,
    by: By,
    names: Names = None,
    event_type: Type = None,
    reason: Reason = None,
    since: Since = None,
    corrected: Annotated[
        str | None,
        typer.Option(
            "--payload",
            metavar="FILE|-",
            help="A corrected payload for one event, as JSON; a whole envelope for one filed as invalid.",
            show_default=False,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="payload.FIELD=VALUE",
            help="Set a field of each payload; VALUE is JSON, or else text. May be repeated.",
            show_default=False,
        ),
    ] = None,
    per_minute: Pace = None,
    why: Note = None,
    account: Account = "default",
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give dead events another try, with the same key and a fresh budget, at the end of their customers' lines.

    Name events by KEY or ID, or describe them with `--type`, `--reason` and `--since`. What a description means is
    counted and shown first; `--yes` goes on without asking.

    With `--dry-run`, it only says how many that are, how many of them were delivered, may have arrived, are too late or
    superseded or more than their leads may receive today, and when the last would go out.

    A large replay keeps a pace. It may be ended at any time: `dispatcher operations` lists, resumes and cancels.

    With `--set`, each payload is corrected in the same way, checked, and left alone if it then breaks a rule. With
    `--payload`, one event is sent with corrected content. It is checked before anything changes, and the old
    content is kept with the dead letter.
    """
    corrections = _corrections(assignments or [])
    if corrections and corrected is not None:
        raise typer.BadParameter("give --set or --payload, not both", param_hint="--set")
    asked = Asked(
        context,
        account_name(account),
        tuple(names or ()),
        event_type,
        reason,
        since,
        yes=yes,
        dry_run=dry_run,
        corrections=corrections,
        per_minute=per_minute,
    )
    if corrected is None:
        resolve_dead(Verb.REPLAY, asked, Signature(by, why), as_json=as_json)
        return
    if len(asked.names) != 1 or asked.described:
        raise typer.BadParameter("corrects one event: name it by its KEY or ID", param_hint="--payload")
    correct(asked, _correction(corrected), Signature(by, why), as_json=as_json)


def _resolution(verb: Verb) -> Callable[..., None]:
    """A command that gives the events which it names or describes this end."""

    def resolve(
        context: typer.Context,
        by: By,
        names: Names = None,
        event_type: Type = None,
        reason: Reason = None,
        since: Since = None,
        why: Note = None,
        account: Account = "default",
        *,
        yes: Yes = False,
        as_json: Json = False,
    ) -> None:
        asked = Asked(context, account_name(account), tuple(names or ()), event_type, reason, since, yes=yes)
        resolve_dead(verb, asked, Signature(by, why), as_json=as_json)

    return resolve


_DISCARD = """\
Give dead events up: they end `cancelled`, reason `discarded`, and are never sent.

Name events by KEY or ID, or describe them with `--type`, `--reason` and `--since`. A named event may also be waiting
still; if it is being sent at this moment, that one attempt may arrive and no other follows.
"""

_ARRIVED = """\
Say that dead events have arrived after all: they end `delivered`, reason `arrived`, and are not sent again.

For those that may have, such as the reason `held_uncertain`: look into RD Station's timeline of the lead first. Who
says so is kept with the dead letter. Name events by KEY or ID, or describe them with `--type`, `--reason` and
`--since`.
"""

app.command("discard", help=_DISCARD)(_resolution(Verb.DISCARD))
app.command("arrived", help=_ARRIVED)(_resolution(Verb.CONFIRM))


def _corrections(assignments: list[str]) -> tuple[tuple[str, Any], ...]:
    found = []
    for assignment in assignments:
        path, _, text = assignment.partition("=")
        try:
            check_path(path)
            value = parse_json(text)
        except ValueError as wrong:
            raise typer.BadParameter(str(wrong), param_hint="--set") from None
        except InvalidEvent:
            value = text
        found.append((path, value))
    return tuple(found)


def _correction(source: str) -> dict[str, Any]:
    try:
        raw = sys.stdin.buffer.read(_MAX_CORRECTION + 1) if source == "-" else _read(Path(source))
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{error.strerror}: {source}", param_hint="--payload") from None
    except UnicodeDecodeError:
        raise typer.BadParameter("is not UTF-8", param_hint="--payload") from None
    if len(raw) > _MAX_CORRECTION:
        raise typer.BadParameter(f"is longer than {_MAX_CORRECTION} bytes", param_hint="--payload")
    content = parse_json(text)
    if not isinstance(content, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--payload")
    return content


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MAX_CORRECTION + 1)
