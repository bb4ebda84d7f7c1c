"""Dead letters as a file that a person edits: what a letter is exported as, and what an edited line may do to it.

An edit names the letter and the version it was made from. So a line applies to exactly what its author saw: once the
event has other content, or the letter is closed, it does nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from dispatcher.errors import InvalidEvent, OperationRefused
from dispatcher.events.correction import corrected
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import correction, resolutions
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.queries import PAGE, Criteria, open_letters_meeting
from dispatcher.outbox.resolutions import Done, Refusal
from dispatcher.outbox.sealing import SEE, is_sealed
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import reading


class Action(StrEnum):
    """What a line asks for."""

    REPLAY = "replay"
    DISCARD = "discard"
    LEAVE = "leave"


_RESOLVED_BY = {Action.REPLAY: "replayed", Action.DISCARD: "discarded"}


@dataclass(frozen=True, slots=True)
class Exported:
    """One open dead letter. `payload` is a whole envelope, or whatever was enqueued, where `invalid`."""

    event_id: UUID
    account: str
    key: str
    event_type: str
    reason: str
    detail: str
    errors: str | None
    letter: int
    version: str
    payload: str
    attached: str | None

    @property
    def invalid(self) -> bool:
        """True if it was filed because its envelope breaks RD Station's rules."""
        return self.reason == Reason.INVALID


@dataclass(frozen=True, slots=True)
class Edit:
    """One line of an edited file, well formed by itself.

    Attributes:
        line: Its number, for problems.
        content: As `events.correction.corrected` takes it; the same as was exported if nobody changed it.
        note: Why; for this letter only.
    """

    line: int
    event_id: UUID
    letter: int
    version: str
    action: Action
    content: Mapping[str, Any]
    note: str | None = None


class Standing(StrEnum):
    """How an edit meets its letter."""

    APPLIES = "applies"
    DONE = "done"
    """The letter was closed as the line asks: the file, or this part of it, was imported before."""


@dataclass(frozen=True, slots=True)
class Met:
    """A line and the row it means."""

    edit: Edit
    event: int
    account: str
    key: str
    standing: Standing
    changed: bool


def exported(engine: sa.Engine, criteria: Criteria | Sequence[int]) -> Iterator[Exported]:
    """Open dead letters, the oldest first; each page is a transaction of its own."""
    which = (
        open_letters_meeting(criteria)
        if isinstance(criteria, Criteria)
        else [letters.c.open_event.is_not(None), letters.c.open_event.in_(list(criteria))]
    )
    last = 0
    while True:
        query = _joined().where(*which, letters.c.id > last).order_by(letters.c.id).limit(PAGE)
        rows = reading(engine, lambda connection, query=query: connection.execute(query).all())  # type: ignore[misc]  # mypy cannot type a lambda's default
        for row in rows:
            yield Exported(
                row.event_id, row.account, row.key, row.event_type, row.reason, row.detail, row.errors, row.letter,
                _version(row), row.payload, row.attached,
            )  # fmt: skip
        if len(rows) < PAGE:
            return
        last = rows[-1].letter


def meet(connection: sa.Connection, edit: Edit, *, lock: bool = False) -> Met:
    """Look up what a line means, and whether it may be done.

    Raises:
        InvalidEvent: The edited content breaks RD Station's rules; carries every problem.
        OperationRefused: The letter is closed, or has other content than the file was made from.
    """
    query = _joined().where(letters.c.id == edit.letter)
    row = connection.execute(query.with_for_update(of=events, key_share=True) if lock else query).one_or_none()
    if row is None or row.event_id != edit.event_id:
        raise OperationRefused("there is no such dead letter: it was pruned, or belongs to another outbox")
    met = Met(edit, row.event, row.account, row.key, Standing.APPLIES, changed=not _says_the_same(row, edit))
    if edit.action is Action.LEAVE:
        return met
    if is_sealed(row.payload) or is_sealed(row.attached):
        raise OperationRefused(f"is sealed with a key that is not at hand: {SEE}")
    if row.resolution is not None:
        if row.resolution != _RESOLVED_BY[edit.action] or not (edit.action is Action.DISCARD or _has_become(row, edit)):
            raise OperationRefused(f"was {row.resolution} by {row.resolved_by} since the export: export it again")
        return replace(met, standing=Standing.DONE)
    if row.state != State.DEAD or _version(row) != edit.version:
        raise OperationRefused("was changed since the export: export it again")
    if edit.action is Action.REPLAY:
        invalid = row.reason == Reason.INVALID
        correction.check(connection, row._mapping, edit.content, quarantined=invalid)  # noqa: SLF001 - SQLAlchemy's name
    return met


def apply(connection: sa.Connection, edits: Sequence[Edit], signature: Signature) -> Done:
    """Do what these lines ask, each on its own; what cannot be done any more is refused. The caller commits."""
    done = Done()
    for edit in edits:
        try:
            with connection.begin_nested():  # what the database refuses must not undo the others
                done.add(_apply(connection, edit, Signature(signature.by, edit.note or signature.note)))
        except (InvalidEvent, OperationRefused) as refused:
            done.refused.append(Refusal(edit.event_id, f"line {edit.line}", str(refused)))
        except sa.exc.IntegrityError:
            done.refused.append(Refusal(edit.event_id, f"line {edit.line}", correction.TAKEN))
    return done


def _apply(connection: sa.Connection, edit: Edit, signature: Signature) -> Done:
    if edit.action is Action.LEAVE:
        return Done()
    met = meet(connection, edit, lock=True)
    if met.standing is Standing.DONE:
        return Done()
    if edit.action is Action.DISCARD:
        return resolutions.discard(connection, [met.event], signature)
    if not met.changed:
        return resolutions.replay(connection, [met.event], signature)
    became = correction.correct(connection, met.event, edit.content, signature)
    return Done(changed=1, expired=int(became.expired), accounts={became.account})


def _joined() -> sa.Select[Any]:
    beside = (
        letters.c.id.label("letter"), letters.c.event, letters.c.reason, letters.c.detail, letters.c.errors,
        letters.c.resolution, letters.c.resolved_by,
    )  # fmt: skip
    names = ("event_id", "account", "key", "event_type", "state", "attempt", "payload", "attached", "fact")
    return sa.select(*(events.c[name] for name in names), *beside).join(events, events.c.id == letters.c.event)


def _version(row: sa.Row[Any]) -> str:
    told = "\0".join([str(row.letter), str(row.attempt), row.payload, row.attached or ""])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _says_the_same(row: sa.Row[Any], edit: Edit) -> bool:
    """True if the line's content is what the event has."""
    stored = _decoded(row.payload)
    if row.reason == Reason.INVALID:
        return bool(edit.content == stored)
    beside = _decoded(row.attached) if row.attached else None
    return (edit.content.get("payload"), edit.content.get("attached")) == (stored, beside)


def _has_become(row: sa.Row[Any], edit: Edit) -> bool:
    """True if the event was replayed with the line's content, which is stored in the type's own form."""
    beside = _decoded(row.attached) if row.attached else None
    try:
        typed = corrected(edit.content, event_type=row.event_type, payload=_decoded(row.payload), attached=beside)
    except InvalidEvent:
        return False
    made = (typed.payload_json(), typed.attached_json())
    return made == (row.payload, row.attached) or _says_the_same(row, edit)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
