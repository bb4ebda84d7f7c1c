"""`dead export` and `dead import`: dead letters as a file that a person edits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, TextIO

import typer

from dispatcher.admin.choosing import account_name, by_name, criteria, not_found
from dispatcher.admin.edited_lines import line_of, read_edits
from dispatcher.admin.options import Account, By, DryRun, Json, Names, Note, Pace, Reason, Since, Type, Yes
from dispatcher.admin.pacing import pace_for, run
from dispatcher.admin.resolving import duration, warnings
from dispatcher.admin.root import opened
from dispatcher.admin.source import opened_source
from dispatcher.admin.terminal import json_line, may_ask, note, print_json
from dispatcher.errors import Problem
from dispatcher.outbox import edits, importing
from dispatcher.outbox.importing import Examined
from dispatcher.outbox.operation_rows import OperationView, Signature, Standing
from dispatcher.outbox.previewing import Preview, preview, quota_for
from dispatcher.outbox.resolutions import Done


def export(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, for its owner only; - is stdout.")],
    names: Names = None,
    event_type: Type = None,
    reason: Reason = None,
    since: Since = None,
    account: Account = "default",
    *,
    as_json: Json = False,
) -> None:
    """Write open dead letters to a file, one on each line, to be edited and imported.

    All of the account, or those that are named or described. **The file holds personal data**: keep it where only you
    can read it, and delete it afterwards.

    In a line, change `payload` (with `attached` beside it, or `envelope`), `action` (`replay`, `discard`, `leave`) and
    `note`; lines may be taken out. Leave the other fields as they are.
    """
    account = account_name(account)
    if names and (event_type or reason or since):
        raise typer.BadParameter("name events by KEY or ID, or describe them with a filter, not both")
    with opened() as root:
        wanted = criteria(root.clock, account=account, event_type=event_type, reason=reason, since=since)
        chosen = by_name(root.engine, account, names) if names else None
        if chosen is not None and chosen.unknown:
            raise not_found(account, chosen.unknown[0])
        written = 0
        with _target(file) as stream:
            for letter in edits.exported(root.engine, wanted if chosen is None else chosen.rows):
                stream.write(json_line(line_of(letter)) + "\n")
                written += 1
    if as_json and file != "-":
        print_json({"exported": written, "file": file})
    else:
        note(f"exported {written} dead letters" + ("" if file == "-" else f" to {file}, which holds personal data"))


def import_(
    context: typer.Context,
    by: By,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="An edited export; - reads it from stdin.")],
    why: Note = None,
    per_minute: Pace = None,
    account: Account = "default",
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Do what an edited export asks: replay with the content of each line, discard, or leave.

    Every line is looked at before any is done. Each problem is told on stderr as a JSON line with `line`, `path` and
    `problem`; if there is one, nothing is changed and the command exits 1. A line whose event was changed since the
    export is such a problem: export it again.

    A large file keeps a pace. Import the same file again after it was interrupted: it goes on where it was, and nothing
    is done twice.
    """
    account = account_name(account)
    with opened_source(file) as stream:
        edited = read_edits(stream)
    with opened() as root:
        found = importing.examine(root.engine, edited.edits, account=account)
        if problems := sorted([*edited.problems, *found.problems], key=lambda one: one[0]):
            _refuse(problems)
        quota = quota_for(root.engine, account, root.limits)
        pace = pace_for(found.changes, quota, per_minute)
        seen = preview(root.engine, found.replays, quota)
        if dry_run:
            _report(found, seen, quota.account if pace is None else pace, as_json=as_json)
            return
        _ask(context, found, seen, yes=yes)
        operation = importing.start(
            root.engine, edited.digest, len(edited.edits), Signature(by, why), account=account, per_minute=pace
        )
        operation, done = run(
            root, operation, lambda engine, number, size: importing.step(engine, number, edited.edits, size=size)
        )
    _tell(found, operation, done, as_json=as_json)
    if done.refused or operation.state == Standing.CANCELLED:
        raise typer.Exit(1)


def _refuse(problems: list[tuple[int, Problem]]) -> None:
    for line, problem in problems:
        typer.echo(json_line({"line": line, "path": problem.path, "problem": problem.message}), err=True)
    note(f"nothing was changed: {len({line for line, _ in problems})} lines have problems")
    raise typer.Exit(1)


def _counts(found: Examined) -> dict[str, int]:
    return {
        "replay": len(found.replays),
        "corrected": found.corrected,
        "discard": found.discards,
        "leave": found.left,
        "done_before": found.done,
    }


def _report(found: Examined, seen: Preview, rate: int, *, as_json: bool) -> None:
    if as_json:
        print_json(_counts(found) | asdict(seen) | {"per_minute": rate, "finish_seconds": seen.finish_seconds(rate)})
        return
    typer.echo(f"this would {_sentence(found, seen)}")
    typer.echo(duration(seen, rate))


def _sentence(found: Examined, seen: Preview) -> str:
    told = f"replay {len(found.replays)} dead events, {found.corrected} of them with other content{warnings(seen)}"
    told += f"; discard {found.discards}; leave {found.left}"
    return told + (f"; {found.done} were imported before" if found.done else "")


def _ask(context: typer.Context, found: Examined, seen: Preview, *, yes: bool) -> None:
    if yes or found.changes <= 1:
        return
    told = _sentence(found, seen)
    if not may_ask():
        raise typer.BadParameter(f"this would {told}; nothing was changed: add --yes to do it", ctx=context)
    if not typer.confirm(f"{told[0].upper()}{told[1:]}?", err=True):
        note("nothing was changed")
        raise typer.Exit(1)


def _tell(found: Examined, operation: OperationView, done: Done, *, as_json: bool) -> None:
    if as_json:
        known = {"operation": operation.id, "operation_state": operation.state, "done_before": found.done}
        print_json(known | done.counts() | {"refused": [asdict(refusal) for refusal in done.refused]})
        return
    typer.echo(f"changed {done.changed}; recorded as operation {operation.id}")
    if found.done:
        note(f"{found.done} lines were imported before; nothing was done for them")
    if done.expired:
        note(f"{done.expired} of them are too late: they will end as cancelled (expired), and not be sent")
    for refusal in done.refused:
        note(f"{refusal.key}: {refusal.problem}")


@contextmanager
def _target(file: str) -> Iterator[TextIO]:
    if file == "-":
        yield sys.stdout
        return
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise typer.BadParameter(f"{error.strerror}: {file}; name a new file", param_hint="FILE") from None
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        yield stream
