"""`migrate` and `check`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dispatcher.admin import checks
from dispatcher.admin.checks import Level
from dispatcher.admin.options import Json
from dispatcher.admin.root import opened
from dispatcher.admin.terminal import print_json, print_text, safe
from dispatcher.outbox import schema
from dispatcher.outbox.explaining import where

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def migrate() -> None:
    """Bring the outbox tables of the database up to this release.

    Safe to run twice, and by several processes at once. All tables are called `outbox_…`; a database that already
    holds somebody else's table of such a name is refused untouched.
    """
    with opened(creates=True) as root:
        applied = schema.upgrade(root.engine)
        place = where(root.engine)
    typer.echo(f"{place}: applied {', '.join(applied)}" if applied else f"{place} is up to date")


def check(*, as_json: Json = False) -> None:
    """Look for what keeps events from being delivered, and say how to fix it.

    Checks the settings, the encryption keys, the limits, the broker, the database, its schema, the credentials, the
    workers, and whether deprecated event types are in use. RD Station is asked whether it takes the credentials, which
    sends no event; a token that has ended is renewed, as a worker would. Each finding has a stable code. Exits 1 if one
    of them is an error.
    """
    findings = list(checks.examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            level = f"[{_COLOURS[finding.level]}]{finding.level:<7}[/]"
            print_text(f"{level}  {finding.code}: {safe(finding.message)}")
            if finding.fix:
                print_text(f"         fix: {safe(finding.fix)}")
        if any(finding.level is not Level.OK for finding in findings):
            print_text("the runbook, docs/runbook, has a page for each code")
    if any(finding.level is Level.ERROR for finding in findings):
        raise typer.Exit(1)
