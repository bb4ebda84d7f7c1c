"""Replay and discard: which events are meant, whether many may be changed, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import typer

from dispatcher.admin.choosing import Chosen, by_name, criteria, not_found
from dispatcher.admin.moments import span
from dispatcher.admin.pacing import pace_for, run
from dispatcher.admin.root import Root, opened
from dispatcher.admin.terminal import may_ask, note, print_json
from dispatcher.outbox import operations, ringing
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.operation_rows import Kind, OperationView, Signature, Standing
from dispatcher.outbox.previewing import Preview, preview, quota_for
from dispatcher.outbox.queries import Criteria
from dispatcher.outbox.resolutions import Done


class Verb(StrEnum):
    """What is done to dead events."""

    REPLAY = "replay"
    DISCARD = "discard"
    CONFIRM = "confirm"

    @property
    def past(self) -> str:
        """What has been done; also the field of the JSON document."""
        return {Verb.REPLAY: "replayed", Verb.DISCARD: "discarded", Verb.CONFIRM: "confirmed"}[self]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says about which events are meant."""

    context: typer.Context
    account: str
    names: tuple[str, ...]
    event_type: str | None
    reason: str | None
    since: str | None
    yes: bool
    dry_run: bool = False
    corrections: tuple[tuple[str, Any], ...] = ()
    per_minute: int | None = None

    @property
    def described(self) -> bool:
        """True if there is a filter."""
        return any(part is not None for part in (self.event_type, self.reason, self.since))


def resolve_dead(verb: Verb, asked: Asked, signature: Signature, *, as_json: bool) -> None:
    """Do it to what is meant, print what came of it, and exit 1 if a named event was left as it is."""
    if asked.names and asked.described:
        raise _wrong(asked, "name events by KEY or ID, or describe them with a filter, not both")
    if not asked.names and not asked.described:
        raise _wrong(
            asked, "say which: KEYs or IDs, or a filter with --type, --reason or --since; an empty one is refused"
        )
    with opened() as root:
        chosen = by_name(root.engine, asked.account, asked.names) if asked.names else Chosen([], [])
        wanted = chosen.rows if asked.names else _criteria(root, asked)
        quota = quota_for(root.engine, asked.account, root.limits)
        seen = preview(root.engine, wanted, quota)
        pace = pace_for(seen.count, quota, asked.per_minute) if verb is Verb.REPLAY else None
        rate = quota.account if pace is None else pace
        if asked.dry_run:
            _report(seen, rate, as_json=as_json)
            return
        _ask(verb, asked, seen, rate)
        operation = operations.start(
            root.engine,
            Kind(verb.value),
            wanted,
            signature,
            account=asked.account,
            corrections=asked.corrections,
            per_minute=pace,
        )
        operation, done = run(root, operation)
    _tell(verb, asked, chosen, done, operation, as_json=as_json)
    if chosen.unknown or (asked.names and done.refused) or operation.state == Standing.CANCELLED:
        raise typer.Exit(1)


def correct(asked: Asked, content: Mapping[str, Any], signature: Signature, *, as_json: bool) -> None:
    """Replay one event with corrected content, and print where it stands."""
    with opened() as root:
        chosen = by_name(root.engine, asked.account, asked.names)
        if not chosen.rows:
            raise not_found(asked.account, asked.names[0])
        corrected = replay_corrected(root.engine, chosen.rows[0], content, signature)
        ringing.ring([corrected.account])
    if as_json:
        done = {"replayed": 1, "expired": int(corrected.expired), "refused": [], "not_found": []}
        print_json(done | {"event_id": corrected.event_id, "key": corrected.key})
        return
    typer.echo(f"replayed {corrected.key} with the corrected content")
    if corrected.expired:
        note("its business age has passed: it will end as cancelled (expired), and not be sent")


def _criteria(root: Root, asked: Asked) -> Criteria:
    return criteria(
        root.clock, account=asked.account, event_type=asked.event_type, reason=asked.reason, since=asked.since
    )


def _report(preview: Preview, rate: int, *, as_json: bool) -> None:
    """What a replay would do; nothing was changed."""
    if as_json:
        counts = asdict(preview) | {"sent": preview.sent, "per_minute": rate}
        print_json(counts | {"finish_seconds": preview.finish_seconds(rate)})
        return
    typer.echo(f"this would replay {preview.count} dead events ({_list(preview.reasons)}){warnings(preview)}")
    typer.echo(duration(preview, rate))


def duration(preview: Preview, rate: int) -> str:
    """How long a replay takes at this rate."""
    seconds = preview.finish_seconds(rate)
    waiting = f"; {preview.waiting} events wait already" if preview.waiting else ""
    if seconds is None:
        return f"{preview.sent} would go out, as fast as they can: no limit is set{waiting}"
    return f"{preview.sent} would go out, at {rate} a minute within about {span(seconds)}{waiting}"


def _ask(verb: Verb, asked: Asked, preview: Preview, rate: int) -> None:
    if asked.names or preview.count <= 1 or asked.yes:
        return
    told = f"{verb} {preview.count} dead events ({_list(preview.reasons)})"
    if verb is Verb.REPLAY:
        told += warnings(preview)
        note(duration(preview, rate))
    if verb is Verb.CONFIRM:
        told += f", of which {preview.uncertain} may have arrived and the others will be left"
    if not may_ask():
        raise _wrong(asked, f"this would {told}; nothing was changed: add --yes to do it")
    if not typer.confirm(f"{told[0].upper()}{told[1:]}?", err=True):
        note("nothing was changed")
        raise typer.Exit(1)


def warnings(preview: Preview) -> str:
    """How many of them should give pause, as the end of a sentence."""
    parts = [
        f"{number} {what}"
        for number, what in (
            (preview.delivered, "were delivered already"),
            (preview.uncertain, "may have arrived already and may be sent twice"),
            (preview.expired, "are too late and will be cancelled instead of sent"),
            (preview.superseded, "are superseded and will be cancelled instead of sent"),
            (preview.invalid, "must be corrected first and will be left"),
            (preview.over_lead_limit, "are more than their leads may receive today and will go out tomorrow"),
        )
        if number
    ]
    return f", of which {', '.join(parts)}" if parts else ""


def _list(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items(), key=lambda item: -item[1]))


def _tell(verb: Verb, asked: Asked, chosen: Chosen, done: Done, operation: OperationView, *, as_json: bool) -> None:
    past = verb.past
    if as_json:
        extra = {Verb.REPLAY: {"expired": done.expired}, Verb.DISCARD: {"marked": done.marked}}.get(verb, {})
        refused = [asdict(refusal) for refusal in done.refused]
        known = {"operation": operation.id, "operation_state": operation.state}
        print_json({past: done.changed, **extra, "refused": refused, "not_found": chosen.unknown, **known})
        return
    typer.echo(f"{past} {done.changed}")
    if done.expired:
        note(f"{done.expired} of them are too late: they will end as cancelled (expired), and not be sent")
    if done.marked:
        note(f"{done.marked} being sent at this moment: that attempt may arrive, no other follows")
    for refusal in done.refused:
        note(f"{refusal.key} ({refusal.event_id}) {refusal.problem}")
    for name in chosen.unknown:
        note(str(not_found(asked.account, name)))


def _wrong(asked: Asked, message: str) -> typer.BadParameter:
    return typer.BadParameter(message, ctx=asked.context)
