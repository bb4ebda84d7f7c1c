"""`explain`: the one thing that holds an event back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from dispatcher.admin.choosing import account_name
from dispatcher.admin.moments import relative
from dispatcher.admin.options import Account, Json, Name
from dispatcher.admin.root import opened
from dispatcher.admin.terminal import print_json, safe_plain
from dispatcher.outbox.facts import read_facts
from dispatcher.outbox.transaction import reading
from dispatcher.policy.explanation import Explanation, Facts
from dispatcher.policy.explanation import explain as judge


def explain(name: Name, account: Account = "default", *, as_json: Json = False) -> None:
    """Say the one thing that holds an event back, until when, and what to do about it.

    Also for an event that was never enqueued, has ended, or was pruned. With `--json`, `cause` is a stable word, and
    `until` and `by` are null where there is none. The limits are judged by this process' own settings.
    """
    with opened() as root:
        facts = reading(
            root.engine, lambda connection: read_facts(connection, account_name(account), name, root.limits)
        )
    found = judge(facts)
    if as_json:
        print_json(_document(facts, found))
        return
    key = facts.event.key if facts.event else name
    typer.echo(safe_plain(f"{key}: {found.cause}"))
    until = f" until {relative(found.until, facts.now)}" if found.until else ""
    typer.echo(safe_plain(f"  why  {found.says}{until}"))
    typer.echo(safe_plain(f"  do   {found.advice}"))


def _document(facts: Facts, found: Explanation) -> dict[str, Any]:
    event = facts.event
    known = {
        "key": event.key if event else facts.name,
        "account": facts.account,
        "event_type": event.event_type if event else None,
        "state": event.state if event else None,
    }
    return known | asdict(found)
