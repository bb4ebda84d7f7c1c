"""`enqueue`: an event becomes a row in the caller's own transaction. Never commits, never uses the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session
from uuid6 import uuid7

from dispatcher import telemetry, tracing
from dispatcher.errors import DispatcherError, IdempotencyConflict, InvalidEvent, Problem
from dispatcher.events import Event
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import insertion, ringing, transitions
from dispatcher.outbox.at_rest import sealer
from dispatcher.outbox.installed import lead_secret
from dispatcher.outbox.intake import Entry, OnConflict, OnInvalid, Options, Ordering, prepare
from dispatcher.outbox.wake import wake_lead

if TYPE_CHECKING:  # the async half of SQLAlchemy is loaded only by shops that use it
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `enqueue` answers.

    Attributes:
        event_id: The event's public name; of the one already known if `created` is False.
        key: Its idempotency key.
        created: False if the fact was known, and nothing is sent for this call.
        conflict: True if the fact was known with other content and the first was kept.
        dead_letter: True if the envelope was invalid and was filed as a dead letter.
    """

    event_id: UUID
    key: str
    created: bool
    conflict: bool = False
    dead_letter: bool = False
    account: str = field(default="default", repr=False)

    def ring(self) -> None:
        """Ring the bell now. For callers that commit a `Connection` themselves; sessions ring after their commit."""
        ringing.ring([self.account])


def enqueue(
    session: Session | sa.Connection,
    event: Event | Mapping[str, Any],
    *,
    account: str = "default",
    key: str | None = None,
    delay: timedelta | None = None,
    expires_in: timedelta | None = None,
    ordering: Ordering = "lead",
    on_conflict: OnConflict = "keep",
    on_invalid: OnInvalid = "raise",
) -> Receipt:
    """Write an event into the outbox, in the transaction of `session`, which the caller commits.

    The same fact enqueued twice is one event, also from two sessions at once. A refusal or a duplicate leaves the
    caller's transaction usable.

    Args:
        session: A SQLAlchemy `Session` or `Connection`.
        event: A typed event, or RD Station's own envelope as a dictionary.
        account: The RD Station account.
        key: The idempotency key; the type's own rule if None.
        delay: Not sent before so long from now.
        expires_in: Not sent later than so long after it is due; the type's default if None.
        ordering: "lead" keeps the order of enqueue among the lead's events; "none" does not wait for them.
        on_conflict: What to do if the key is known with other content: "keep" the first, "raise", or "replace" it
            while it is pending.
        on_invalid: "dead_letter" files an invalid raw envelope as a dead letter instead of raising.

    Raises:
        InvalidEvent: Every problem at once; nothing was written.
        IdempotencyConflict: Only with `on_conflict="raise"`; nothing was written.
        NotMigrated: The outbox tables are missing; the transaction is still usable.
        ConfigurationError: Payloads are encrypted and this process has not the key; nothing was written.
    """
    with tracing.enqueueing(account) as traceparent:
        options = Options(account, key, delay, expires_in, ordering, on_conflict, on_invalid, traceparent)
        connection = session if isinstance(session, sa.Connection) else session.connection()
        entry = prepare(event, options, lead_secret(connection), uuid7, sealer(connection))
        created = insertion.insert(connection, [entry])[0]
        receipt = _created(connection, [entry])[0] if created else _known(connection, entry, on_conflict)
    if receipt.created and not receipt.dead_letter and isinstance(session, Session):
        ringing.after_commit(session, account)
    return receipt


def enqueue_many(
    session: Session | sa.Connection,
    events: Iterable[Event | Mapping[str, Any]],
    *,
    account: str = "default",
    delay: timedelta | None = None,
    expires_in: timedelta | None = None,
    ordering: Ordering = "lead",
    on_conflict: OnConflict = "keep",
    on_invalid: OnInvalid = "raise",
) -> list[Receipt]:
    """`enqueue` for many events at once: all or nothing on invalid input, receipts in the order given.

    Raises:
        InvalidEvent: With every problem of every event, paths beginning with the event's index; nothing was written.
        IdempotencyConflict: Only with `on_conflict="raise"`; nothing was written.
    """
    with tracing.enqueueing(account) as traceparent:
        options = Options(account, None, delay, expires_in, ordering, on_conflict, on_invalid, traceparent)
        answers = _enqueue_all(session, events, options)
    if isinstance(session, Session) and any(answer.created and not answer.dead_letter for answer in answers):
        ringing.after_commit(session, account)
    return answers


async def enqueue_async(
    session: AsyncSession | AsyncConnection, event: Event | Mapping[str, Any], **options: Any
) -> Receipt:
    """`enqueue` for SQLAlchemy's async `AsyncSession` and `AsyncConnection`; same arguments, answer and errors."""
    return await session.run_sync(lambda sync: enqueue(sync, event, **options))


def _enqueue_all(
    session: Session | sa.Connection, events: Iterable[Event | Mapping[str, Any]], options: Options
) -> list[Receipt]:
    connection = session if isinstance(session, sa.Connection) else session.connection()
    entries = _prepare_all(connection, events, options)
    if not entries:
        return []
    if options.on_conflict == "raise":
        _refuse_conflicts(connection, entries)
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.fact, entry)
    made = insertion.insert(connection, list(first.values()))
    fresh = [entry for entry, created in zip(first.values(), made, strict=True) if created]
    receipts = {receipt.event_id: receipt for receipt in _created(connection, fresh)}
    return [receipts.get(entry.event_id) or _known(connection, entry, options.on_conflict) for entry in entries]


def _prepare_all(
    connection: sa.Connection, events: Iterable[Event | Mapping[str, Any]], options: Options
) -> list[Entry]:
    secret, seal = lead_secret(connection), sealer(connection)
    entries, found = [], []
    for index, event in enumerate(events):
        try:
            entries.append(prepare(event, options, secret, uuid7, seal))
        except InvalidEvent as invalid:
            found += [Problem(f"[{index}] {problem.path}", problem.message) for problem in invalid.problems]
    if found:
        raise InvalidEvent(found)
    return entries


def _created(connection: sa.Connection, entries: Sequence[Entry]) -> list[Receipt]:
    if bad := [entry for entry in entries if entry.problems]:
        from dispatcher.outbox.quarantine import file_letters  # see there

        file_letters(connection, bad)
    return [
        Receipt(entry.event_id, entry.key, created=True, dead_letter=bool(entry.problems), account=entry.account)
        for entry in entries
    ]


def _known(connection: sa.Connection, entry: Entry, on_conflict: OnConflict) -> Receipt:
    """The fact is in the outbox already: keep, refuse, replace, or bring back what was cancelled unsent."""
    known = insertion.find(connection, entry)
    if known is None and insertion.insert(connection, [entry])[0]:  # taken back unsent before, and pruned just now
        return _created(connection, [entry])[0]
    if known is None:
        raise DispatcherError(
            "the database refused the event without saying why; check the constraints of outbox_events"
        )
    taken_back = known.state == State.CANCELLED and known.reason == Reason.CANCELLED
    same = insertion.same_content(known.event_type, known.fingerprint, entry)
    if taken_back and entry.problems:
        same = False  # it may not be sent, and its key is taken: the shop is told, as with any other content
    receipt = Receipt(known.event_id, known.key, created=False, conflict=not same, account=entry.account)
    if taken_back and not entry.problems:
        if transitions.revive(connection, known.id, {**insertion.content(entry), **insertion.due(entry)}):
            return Receipt(known.event_id, entry.key, created=True, account=entry.account)
        return receipt
    if same:
        return receipt
    if on_conflict == "raise":
        raise IdempotencyConflict(account=entry.account, key=entry.key)
    if on_conflict == "replace" and not entry.problems:
        moved = {} if known.lead == entry.lead else insertion.due(entry)
        if transitions.replace(connection, known.id, {**insertion.content(entry), **moved}):
            if moved:
                wake_lead(connection, entry.account, known.lead)
            return Receipt(known.event_id, known.key, created=False, account=entry.account)
    telemetry.emit("enqueue.conflict", account=entry.account, key=entry.key, event_id=str(known.event_id))
    return receipt


def _refuse_conflicts(connection: sa.Connection, entries: Sequence[Entry]) -> None:
    first: dict[str, Entry] = {}
    for entry in entries:
        earlier = first.setdefault(entry.fact, entry)
        known = insertion.find(connection, entry)
        if not insertion.same_content(earlier.event_type, earlier.fingerprint, entry) or (
            known is not None and not insertion.same_content(known.event_type, known.fingerprint, entry)
        ):
            raise IdempotencyConflict(account=entry.account, key=entry.key)
