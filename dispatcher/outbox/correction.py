"""Replay with a corrected payload: validated by the type's class before anything changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from dispatcher.errors import InvalidEvent, OperationRefused
from dispatcher.events import Event, fact_of, lead_hash, parse_event
from dispatcher.events.correction import corrected
from dispatcher.events.setting import with_set
from dispatcher.events.supersede import subject_of
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import dead_letters, transitions, turns
from dispatcher.outbox.at_rest import sealer
from dispatcher.outbox.installed import lead_secret
from dispatcher.outbox.intake import fact_hash, whole_hash
from dispatcher.outbox.ledger import recall
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.operation_rows import Kind, Signature, record
from dispatcher.outbox.resolutions import Done, Refusal
from dispatcher.outbox.sealing import SEE, is_sealed
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.tables import events
from dispatcher.outbox.transaction import in_transaction

_QUARANTINE_KEY = "INVALID:"
"""How `events.salvage` begins the key of an envelope that no event could be made of."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A dead event that is on its way again with other content.

    Attributes:
        key: Its key; another one than before only if the old one was made up for an invalid envelope.
        expired: Its business age has passed: it will end `cancelled: expired` and not be sent.
    """

    event_id: UUID
    account: str
    key: str
    expired: bool


def replay_corrected(engine: sa.Engine, event: int, content: Mapping[str, Any], signature: Signature) -> Corrected:
    """Replace a dead event's payload and give it another try; the old payload is kept in the letter.

    An event keeps its key. One that was filed under a made-up key because its envelope was invalid gets the key its
    type has by rule, so that the fact stays one event when the shop enqueues it again.

    Args:
        engine: Ours.
        event: The event's row.
        content: A payload of the event's type, `{"attached": {…}}` with what its successor lacks, or a whole
            envelope (`events.correction`). An invalid envelope needs a whole one, and only there may the type be
            another.
        signature: Kept in the letter.

    Raises:
        InvalidEvent: The content breaks RD Station's rules; carries every problem. Nothing was changed.
        OperationRefused: The event is not dead, or the content is another fact's. Nothing was changed.
    """
    try:
        return in_transaction(engine, lambda connection: _correct_one(connection, event, content, signature))
    except sa.exc.IntegrityError:  # the one constraint that valid content can meet: a fact is unique per account
        raise OperationRefused(TAKEN) from None


def _correct_one(connection: sa.Connection, event: int, content: Mapping[str, Any], signature: Signature) -> Corrected:
    corrected = correct(connection, event, content, signature)
    chosen = {"events": [event]}
    record(connection, Kind.CORRECT, signature, account=corrected.account, chosen=chosen, counts={"changed": 1})
    return corrected


def replay_with(
    connection: sa.Connection, ids: Sequence[int], corrections: Sequence[tuple[str, Any]], signature: Signature
) -> Done:
    """Set the same paths in each payload and replay it; what breaks a rule is refused and left. Caller commits."""
    done = Done()
    query = sa.select(events.c.id, events.c.event_id, events.c.account, events.c.key, events.c.payload)
    for row in connection.execute(query.where(events.c.id.in_(ids)).order_by(events.c.id)).all():
        try:
            with connection.begin_nested():  # what the database refuses must not undo the others
                corrected = correct(connection, row.id, _with_set(row.payload, corrections), signature)
        except (InvalidEvent, OperationRefused) as refused:
            done.refused.append(Refusal(row.event_id, row.key, str(refused)))
        except sa.exc.IntegrityError:
            done.refused.append(Refusal(row.event_id, row.key, TAKEN))
        else:
            done.changed += 1
            done.expired += corrected.expired
            done.accounts.add(row.account)
    return done


def _with_set(stored: str, corrections: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {} if is_sealed(stored) else with_set(stored, corrections)  # `correct` refuses what is sealed


TAKEN = (
    "the corrected content is a fact that another event of this account tells already: "
    "discard this dead letter instead (`dispatcher dead discard`)"
)


def correct(connection: sa.Connection, event: int, content: Mapping[str, Any], signature: Signature) -> Corrected:
    """`replay_corrected` in the caller's transaction, without a record of its own."""
    query = sa.select(events).where(events.c.id == event).with_for_update(key_share=True)
    row = connection.execute(query).mappings().one()
    if row["state"] != State.DEAD:
        raise OperationRefused(f"{row['key']!r} is {row['state']}: only dead events can be replayed")
    if is_sealed(row["payload"]) or is_sealed(row["attached"]):
        raise OperationRefused(f"{row['key']!r} is sealed with a key that is not at hand: {SEE}")
    quarantined = _open_reason(connection, event) == Reason.INVALID
    typed, key = check(connection, row, content, quarantined=quarantined)
    attached, seal = typed.attached_json(), sealer(connection)
    lead = lead_hash(typed.email, lead_secret(connection))
    values: dict[str, Any] = {
        "event_type": typed.event_type,
        "key": key,
        "fact": fact_hash(key),
        "payload": seal(typed.payload_json()),
        "attached": None if attached is None else seal(attached),
        "whole": whole_hash(typed.event_type, typed.payload()),
        "fingerprint": typed.fingerprint(),
        "lead": lead,
        **_about(row, typed, lead),
    }
    expires_at = row["expires_at"]
    if quarantined and expires_at is None and typed.rules.expires_in is not None:
        expires_at = values["expires_at"] = row["created_at"] + typed.rules.expires_in
    connection.execute(
        sa.update(letters).where(letters.c.open_event == event).values(payload_before=seal(row["payload"]))
    )
    transitions.replay(connection, [event], content=values)
    dead_letters.resolve(connection, [event], resolution="replayed", by=signature.by, note=signature.note)
    turns.make_due(connection, [row["account"]])
    expired = expires_at is not None and expires_at <= read_clock(connection)
    return Corrected(row["event_id"], row["account"], key, expired=expired)


def _about(row: sa.RowMapping, typed: Event, lead: str) -> dict[str, str]:
    """What the corrected event is about: an invalid envelope had nothing, and another may name another cart now.

    Rules that only the shop's process knows are in the row already, and stay.
    """
    subject = subject_of(typed, lead)
    named = dict(subject._asdict(), subject=subject.name) if subject else {}
    return {
        name: named[name]
        for name in ("subject", "moots", "lead_moots")
        if named.get(name) is not None and (name == "subject" or row[name] is None)
    }


def check(
    connection: sa.Connection, row: sa.RowMapping, content: Mapping[str, Any], *, quarantined: bool
) -> tuple[Event, str]:
    """The event that corrected content makes of a dead one, and its key; changes nothing.

    Raises:
        InvalidEvent: The content breaks RD Station's rules; carries every problem.
        OperationRefused: It is another event's, or of another type.
    """
    typed = _parsed(row, content, quarantined=quarantined)
    key = _key(row, typed)
    if fact_hash(key) != row["fact"] and recall(connection, row["account"], fact_hash(key)) is not None:
        raise OperationRefused(TAKEN)
    return typed, key


def _parsed(row: sa.RowMapping, content: Mapping[str, Any], *, quarantined: bool) -> Event:
    whole = "event_type" in content and "payload" in content
    if quarantined and not whole:
        raise OperationRefused(
            f"{row['key']!r} was filed because its envelope is invalid: give the whole corrected envelope, "
            '{"event_type": …, "event_family": "CDP", "payload": {…}}'
        )
    beside = _decoded(row["attached"]) if row["attached"] else None
    typed = corrected(
        content,
        event_type=row["event_type"],
        payload=_decoded(row["payload"]),
        attached=beside if isinstance(beside, dict) else None,
    )
    if typed.event_type != row["event_type"] and not quarantined:
        raise OperationRefused(f"{row['key']!r} is of type {row['event_type']}; a correction cannot change that")
    return typed


def _decoded(text: str) -> Any:
    """Stored JSON; what is none stays text, and is refused as such."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _key(row: sa.RowMapping, typed: Event) -> str:
    kept: str = row["key"]
    by_rule = typed.key()
    if by_rule is None:
        return kept
    if kept.startswith(_QUARANTINE_KEY):
        return by_rule
    if fact_of(by_rule) != fact_of(kept) and _key_of_old(row) == kept:
        raise OperationRefused(f"the corrected content is {by_rule!r}, and the event is {kept!r}: one of them is wrong")
    return kept


def _key_of_old(row: sa.RowMapping) -> str | None:
    """The key that the type's rule gives the payload before the correction; None if it gives none."""
    try:
        payload = json.loads(row["payload"])
        return parse_event({"event_type": row["event_type"], "event_family": "CDP", "payload": payload}).key()
    except (ValueError, InvalidEvent):
        return None


def _open_reason(connection: sa.Connection, event: int) -> str | None:
    query = sa.select(letters.c.reason).where(letters.c.open_event == event)
    return connection.execute(query).scalar_one_or_none()
