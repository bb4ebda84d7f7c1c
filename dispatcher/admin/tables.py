"""Tables and pages for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from dispatcher.admin.documents import event_document
from dispatcher.admin.moments import relative, span
from dispatcher.admin.terminal import json_line, safe
from dispatcher.lifecycle import Reason
from dispatcher.outbox.overview import AccountView, Overview
from dispatcher.outbox.queries import EventView, LetterView
from dispatcher.outbox.vault import Seal


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table; cells are folded, never cut."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return made


def events_table(views: Iterable[EventView], now: datetime) -> Table:
    """One line for each event."""
    made = table("KEY", "STATE", "REASON", "ATTEMPT", "WHEN", right=("ATTEMPT",))
    for view in views:
        made.add_row(safe(view.key), view.state, safe(view.reason or ""), str(view.attempt), _when(view, now))
    return made


def letters_table(views: Iterable[EventView], now: datetime) -> Table:
    """One line for each dead event, with what its open letter says."""
    made = table("KEY", "REASON", "ATTEMPT", "DEAD SINCE", "DETAIL", right=("ATTEMPT",))
    for view in views:
        letter = open_letter(view)
        detail = _detail(letter) if letter else ""
        since = relative(letter.created_at if letter else view.ended_at, now)
        made.add_row(safe(view.key), safe(view.reason or ""), str(view.attempt), since, safe(detail))
    return made


def open_letter(view: EventView) -> LetterView | None:
    """The event's open dead letter."""
    return next((letter for letter in view.dead_letters if letter.resolution is None), None)


def event_page(view: EventView, now: datetime, *, payload: bool = False) -> Iterator[str | Table]:
    """All about one event."""
    yield f"[bold]{safe(view.key)}[/bold]"
    facts = table("", "")
    facts.show_header = False
    for name, value in _facts(view, now):
        if value:
            facts.add_row(name, safe(value))
    yield facts
    if view.attempts:
        yield "\n[bold]Attempts[/bold]"
        yield _attempts_table(view, now)
    for letter in view.dead_letters:
        yield from _letter_page(letter, now, payload=payload)
    if payload:
        yield "\n[bold]Payload[/bold]"
        yield safe(json_line(event_document(view, payload=True)["payload"]))


def overview_page(overview: Overview) -> Iterator[str | Table]:
    """The outbox as a whole."""
    states = table("EVENTS", "", "WHY", right=("",))
    for state, number in overview.states.items():
        reasons = sorted(overview.reasons.get(state, {}).items(), key=lambda reason: -reason[1])
        states.add_row(state, str(number), safe(", ".join(f"{count} {reason}" for reason, count in reasons)))
    yield states
    yield ""
    if overview.outage is not None:
        asks = f", next try {relative(overview.outage_until, overview.at)}" if overview.outage_until else ""
        yield f"RD Station fails for several accounts alike since {relative(overview.outage, overview.at)}{asks}"
    if overview.paused_by is not None:
        yield f"all accounts are paused, new ones included, by {safe(overview.paused_by)}"
    yield f"oldest due event waits  {span(overview.oldest_due_seconds)}"
    yield f"oldest open dead letter {span(overview.oldest_dead_seconds)}"
    yield f"attempts that may have arrived twice: {overview.uncertain} uncertain, {overview.abandoned} abandoned"
    yield ""
    yield accounts_table(overview.accounts, overview.at) if overview.accounts else "no accounts yet"
    yield ""
    if not overview.workers:
        yield "no worker has run lately: start one with `dispatcher worker`"
        return
    workers = table("WORKER", "LAST PROGRESS")
    for worker in overview.workers:
        workers.add_row(safe(worker.worker), relative(worker.progress_at, overview.at))
    yield workers


def accounts_table(views: Iterable[AccountView], now: datetime, seals: Mapping[str, Seal] | None = None) -> Table:
    """One line for each account; `seals`, where they are known, say which key holds its credentials."""
    numbers = ("PENDING", "DUE", "IN FLIGHT", "DEAD", "WAITS", "THIS MINUTE")
    made = table("ACCOUNT", "STATE", *numbers, "CREDENTIALS", "WHY", right=numbers)
    for view in views:
        counted = [str(number) for number in (view.pending, view.due, view.in_flight, view.dead)]
        waits, minute = span(view.oldest_due_seconds), _minute(view)
        seal = (seals or {}).get(view.account, Seal.CURRENT)
        credentials = _CREDENTIALS[seal] if view.has_credentials or view.has_api_key else "none"
        credentials += ", API key only" if view.has_api_key and not view.has_credentials else ""
        made.add_row(safe(view.account), view.state, *counted, waits, minute, credentials, safe(_why(view, now)))
    return made


def _minute(view: AccountView) -> str:
    """How many permits of the account's window are in use, of how many: `80 of 84`."""
    limits = view.limits
    if limits is None:
        return ""
    return f"{limits.used} of {limits.allowed}" if limits.per_minute else "no limit"


_CREDENTIALS = {
    Seal.CURRENT: "stored",
    Seal.OLDER: "stored, with an older key",
    Seal.UNREADABLE: "no key opens them",
}


def _why(view: AccountView, now: datetime) -> str:
    parts = [
        f"by {view.paused_by}" if view.paused_by else "",
        view.reason or "",
        view.detail or "",
        f"since {relative(view.since, now)}" if view.since else "",
        f"until {relative(view.until, now)}" if view.until else "",
        _lowered(view),
        *(f"{name} not sent ({entry.get('reason')})" for name, entry in view.suspended_types.items()),
        f"RD Station no longer takes {', '.join(sorted(view.retired_types))}" if view.retired_types else "",
        f"currency {view.currency}" if view.currency else "",
        f"checkout URL {view.checkout_url_template}" if view.checkout_url_template else "",
    ]
    return ", ".join(part for part in parts if part)


def _lowered(view: AccountView) -> str:
    limits = view.limits
    if limits is None or limits.allowed >= limits.per_minute:
        return ""
    return f"others use {limits.per_minute - limits.allowed} of the {limits.per_minute} a minute, by RD Station's 429"


def _when(view: EventView, now: datetime) -> str:
    if view.ended_at is not None:
        return f"ended {relative(view.ended_at, now)}"
    if view.lease_until is not None:
        return f"leased until {relative(view.lease_until, now)}"
    return f"due {relative(view.available_at, now)}"


def _facts(view: EventView, now: datetime) -> Iterator[tuple[str, str]]:
    yield "event", str(view.event_id)
    yield "account", view.account
    yield "type", view.event_type
    yield "state", view.state
    yield "reason", view.reason or ""
    yield "sent with", f"{view.sent_with}, as one of its lines" if view.sent_with else ""
    yield "its lines", ", ".join(view.lines)
    yield "RD Station's event_uuid", view.event_uuid or ""
    yield "enqueued", relative(view.created_at, now)
    yield "due", relative(view.available_at, now) if view.ended_at is None else ""
    yield "worthless from", relative(view.expires_at, now)
    yield "leased until", relative(view.lease_until, now)
    yield "leased by", view.leased_by or ""
    yield "will end as", view.cancel_reason or ""
    yield "ended", relative(view.ended_at, now)
    yield "attempts", f"{view.attempt}, of which {view.failures} count as failures"


def _attempts_table(view: EventView, now: datetime) -> Table:
    made = table("#", "VERDICT", "HTTP", "TOOK", "ENDED", "DETAIL", right=("#",))
    for attempt in view.attempts:
        took = f"{attempt.seconds:.2f} s" if attempt.seconds is not None else ""
        detail = "; ".join([attempt.detail or "", *_sentences(attempt.errors)]).strip("; ")
        made.add_row(
            str(attempt.attempt),
            f"{attempt.verdict}, as {attempt.sent_as}" if attempt.sent_as else attempt.verdict,
            str(attempt.status or ""),
            took,
            relative(attempt.ended_at, now),
            safe(detail),
        )
    return made


def _letter_page(letter: LetterView, now: datetime, *, payload: bool) -> Iterator[str | Table]:
    yield f"\n[bold]Dead letter[/bold] of {relative(letter.created_at, now)}: {safe(letter.reason)}"
    yield f"  {safe(letter.detail)}"
    for sentence in _sentences(letter.errors):
        yield f"  {safe(sentence)}"
    if letter.resolution is None:
        held = letter.reason == Reason.HELD_UNCERTAIN
        found = "`dispatcher dead arrived KEY` if RD Station has it, " if held else ""
        when = "if not" if held else "once the cause is put right"
        yield f"  open: {found}`dispatcher dead replay KEY` {when}, or `dispatcher dead discard KEY`"
    else:
        why = f", because: {letter.note}" if letter.note else ""
        how = " with a corrected payload" if letter.payload_before is not None else ""
        yield f"  {safe(f'{letter.resolution}{how} by {letter.resolved_by} {relative(letter.resolved_at, now)}{why}')}"
    if payload and letter.payload_before is not None:
        yield f"  payload before: {safe(letter.payload_before)}"


def _detail(letter: LetterView) -> str:
    return "; ".join([letter.detail, *_sentences(letter.errors)])


def _sentences(errors: Iterable[dict[str, Any]]) -> list[str]:
    return [f"{error.get('path') or '$'}: {error.get('message')}" for error in errors]
