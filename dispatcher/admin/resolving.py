"""Replay and discard: which events are meant, whether many may be changed, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import typer

from dispatcher.admin.choosing import Chosen, by_name, criteria, not_found
from dispatcher.admin.root import Root, opened
from dispatcher.admin.terminal import may_ask, note, print_json, progress_line
from dispatcher.outbox import operations, ringing
from dispatcher.outbox.correction import replay_corrected
from dispatcher.outbox.operations import Done, Preview, Signature
from dispatcher.outbox.queries import Criteria


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
        if asked.names:
            chosen = by_name(root.engine, asked.account, asked.names)
            done = _do(verb, root, chosen.rows, signature)
        else:
            chosen = Chosen([], [])
            wanted = _criteria(root, asked)
            _ask(verb, asked, operations.preview(root.engine, wanted))
            done = _do(verb, root, wanted, signature)
        ringing.ring(sorted(done.accounts))
    _tell(verb, asked, chosen, done, as_json=as_json)
    if chosen.unknown or (asked.names and done.refused):
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


def _do(verb: Verb, root: Root, chosen: Criteria | list[int], signature: Signature) -> Done:
    def progress(seen: int) -> None:
        progress_line(f"{seen} events …")

    work = {Verb.REPLAY: operations.replay, Verb.DISCARD: operations.discard, Verb.CONFIRM: operations.confirm}
    done = work[verb](root.engine, chosen, signature, progress=progress)
    progress_line("")
    return done


def _criteria(root: Root, asked: Asked) -> Criteria:
    return criteria(
        root.clock, account=asked.account, event_type=asked.event_type, reason=asked.reason, since=asked.since
    )


def _ask(verb: Verb, asked: Asked, preview: Preview) -> None:
    if preview.count <= 1 or asked.yes:
        return
    told = f"{verb} {preview.count} dead events ({_list(preview.reasons)})"
    if verb is Verb.REPLAY:
        told += _warnings(preview)
    if verb is Verb.CONFIRM:
        told += f", of which {preview.may_have_arrived} may have arrived and the others will be left"
    if not may_ask():
        raise _wrong(asked, f"this would {told}; nothing was changed: add --yes to do it")
    if not typer.confirm(f"{told[0].upper()}{told[1:]}?", err=True):
        note("nothing was changed")
        raise typer.Exit(1)


def _warnings(preview: Preview) -> str:
    parts = [
        f"{number} {what}"
        for number, what in (
            (preview.invalid, "must be corrected first and will be left"),
            (preview.expired, "are too late and will be cancelled instead of sent"),
            (preview.may_have_arrived, "may have arrived already and may be sent twice"),
        )
        if number
    ]
    return f", of which {', '.join(parts)}" if parts else ""


def _list(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items(), key=lambda item: -item[1]))


def _tell(verb: Verb, asked: Asked, chosen: Chosen, done: Done, *, as_json: bool) -> None:
    past = verb.past
    if as_json:
        extra = {Verb.REPLAY: {"expired": done.expired}, Verb.DISCARD: {"marked": done.marked}}.get(verb, {})
        refused = [asdict(refusal) for refusal in done.refused]
        print_json({past: done.changed, **extra, "refused": refused, "not_found": chosen.unknown})
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
