"""Forgetting a person: what the outbox holds of an e-mail address goes, its facts stay recognised (docs/privacy.md).

One walk over all events, by the primary key, in short transactions. It takes the lead's own events, found by the keyed
hash, and whatever else mentions the address: payloads of others, texts of attempts, dead letters and operations. A walk
that was killed is begun again; running it twice is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dispatcher.errors import OperationRefused
from dispatcher.events import lead_hash
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import dead_letters, operation_rows, transitions
from dispatcher.outbox.at_rest import sealer
from dispatcher.outbox.installed import lead_secret
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.sealing import SEALED, SealedText, is_sealed
from dispatcher.outbox.tables import attempts, events, metadata
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.outbox.wake import owe, wake

STEP = 1000
"""Events looked at in one transaction."""

REMOVED = "removed-on-request"
"""Stands where the address stood in what stays."""

_WALKED = {"outbox_events", "outbox_attempts", "outbox_dead_letters"}


@dataclass(slots=True)
class Forgotten:
    """What was found. The operation is the receipt: who, why and when, the keyed hash, these counts.

    Attributes:
        operation: The receipt's number.
        ended: Waiting and dead events that were cancelled.
        emptied: The lead's events whose content is gone, those among them.
        in_flight: Being sent at this moment: that attempt may arrive, no other follows.
        mentions: Events of others, and texts, in which the address was replaced.
        unreadable: Of others, sealed with a key that is not at hand: whether they mention the address is not known.
    """

    operation: int
    ended: int = 0
    emptied: int = 0
    in_flight: int = 0
    mentions: int = 0
    unreadable: int = 0

    def counts(self) -> dict[str, int]:
        """For the receipt."""
        return {
            "ended": self.ended,
            "emptied": self.emptied,
            "in_flight": self.in_flight,
            "mentions": self.mentions,
            "unreadable": self.unreadable,
        }


def forget(
    engine: sa.Engine, email: str, signature: Signature, *, progress: Callable[[int], None] = lambda _: None
) -> Forgotten:
    """Remove a person from every table; commits step by step, and answers what was found.

    What is enqueued after the walk has passed, or by a transaction that is open meanwhile, is not met.

    Raises:
        OperationRefused: This is no e-mail address; nothing was changed.
    """
    person = _Person.of(email, reading(engine, lead_secret))
    signed = Signature(person.scrub(signature.by) or "", person.scrub(signature.note))
    number = in_transaction(
        engine, lambda connection: operation_rows.begin(connection, Kind.FORGET, signed, subject=person.lead)
    )
    found, after = Forgotten(number), 0
    while True:
        last, counted = in_transaction(engine, lambda connection, after=after: _step(connection, person, after))  # type: ignore[misc]  # mypy cannot type a lambda's default
        if last is None:
            break
        after = last
        for name, number_of in counted.counts().items():
            setattr(found, name, getattr(found, name) + number_of)
        progress(after)
    rest = in_transaction(engine, lambda connection: _scrub_the_rest(connection, person))
    found.mentions += rest.mentions
    found.unreadable += rest.unreadable

    def receipt(connection: sa.Connection) -> None:
        operation_rows.advance(connection, number, seen=found.emptied, place=after, counts=found.counts())
        operation_rows.end(connection, number)

    in_transaction(engine, receipt)
    return found


@dataclass(frozen=True, slots=True)
class _Person:
    email: str
    lead: str

    @classmethod
    def of(cls, email: str, secret: bytes) -> _Person:
        plain = email.strip().lower()
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", plain):
            raise OperationRefused("this is no e-mail address: give the whole address of the person")
        return cls(plain, lead_hash(plain, secret))

    def scrub(self, text: str | None) -> str | None:
        """The text without the address."""
        return None if text is None else re.sub(re.escape(self.email), REMOVED, text, flags=re.IGNORECASE)

    def mentioned_in(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """True if the column's text holds the address, in whatever case, or may hold it, because it is sealed."""
        raw = sa.type_coerce(column, sa.Text())
        mentions = sa.func.lower(raw).contains(self.email, autoescape=True)
        return sa.or_(mentions, raw.startswith(SEALED)) if isinstance(column.type, SealedText) else mentions


def _step(connection: sa.Connection, person: _Person, after: int) -> tuple[int | None, Forgotten]:
    """The next events, with all that belongs to them; answers the last of them, None at the end."""
    window = sa.select(events.c.id).where(events.c.id > after).order_by(events.c.id).limit(STEP)
    ids = list(connection.scalars(window))
    if not ids:
        return None, Forgotten(0)
    here = (after, ids[-1])
    found = Forgotten(0)
    rows = connection.execute(_matching(person, here)).all()
    own = [row for row in rows if row.lead == person.lead]
    _forget_own(connection, own, found)
    for row in rows:
        if row.lead != person.lead:
            _scrub_row(connection, events, row, person, found, fingerprint=None)
    for table in (attempts, letters):
        _scrub_table(connection, table, person, found, table.c.event > here[0], table.c.event <= here[1])
    return ids[-1], found


def _matching(person: _Person, here: tuple[int, int]) -> sa.Select[Any]:
    columns = (events.c.id, events.c.state, events.c.lead, events.c.key, events.c.payload, events.c.attached)
    mentions = sa.or_(*(person.mentioned_in(events.c[name]) for name in ("payload", "attached", "key")))
    return (
        sa.select(*columns)
        .where(events.c.id > here[0], events.c.id <= here[1], sa.or_(events.c.lead == person.lead, mentions))
        .order_by(events.c.id)
        .with_for_update(key_share=True)
    )


def _forget_own(connection: sa.Connection, own: Sequence[sa.Row[Any]], found: Forgotten) -> None:
    """End what waits, empty everything. The lead's hash goes last: waking its line needs it."""
    if not own:
        return
    ids = [row.id for row in own]
    waiting = [row.id for row in own if row.state in {State.PENDING, State.DEAD}]
    found.ended = transitions.forget(connection, waiting)
    found.in_flight = transitions.mark_cancelled(connection, ids, Reason.FORGOTTEN)  # those that are leased
    dead_letters.resolve(connection, waiting, resolution="forgotten", by="forget", note=None)
    owe(connection, wake(connection, waiting).owed)
    emptied = {"payload": "{}", "attached": None, "fingerprint": None, "event_uuid": None}
    nobody = sa.literal("forgotten:").concat(sa.cast(events.c.id, sa.String(20)))
    statement = sa.update(events).where(events.c.id.in_(ids))
    found.emptied = connection.execute(statement.values(**emptied, lead=nobody)).rowcount
    texts = {"detail": None, "errors": None, "excerpt": None}
    connection.execute(sa.update(attempts).where(attempts.c.event.in_(ids)).values(texts))
    told = {"detail": Reason.FORGOTTEN.value, "errors": None, "note": None, "payload_before": None}
    connection.execute(sa.update(letters).where(letters.c.event.in_(ids)).values(told))


def _scrub_the_rest(connection: sa.Connection, person: _Person) -> Forgotten:
    """The tables that are not walked with the events: small ones, which hold notes and details."""
    found = Forgotten(0)
    for table in metadata.sorted_tables:
        if table.name not in _WALKED:
            _scrub_table(connection, table, person, found)
    return found


def _scrub_table(
    connection: sa.Connection, table: sa.Table, person: _Person, found: Forgotten, *where: sa.ColumnElement[bool]
) -> None:
    texts = [column for column in table.c if isinstance(column.type, sa.String) or _is_text(column)]
    texts = [column for column in texts if not column.primary_key]
    if not texts:
        return
    mentions = sa.or_(*(person.mentioned_in(column) for column in texts))
    query = sa.select(*table.primary_key.columns, *texts).where(*where, mentions)
    for row in connection.execute(query).all():
        _scrub_row(connection, table, row, person, found)


def _is_text(column: sa.Column[Any]) -> bool:
    impl = getattr(column.type, "impl", None)
    return isinstance(impl, sa.Text)


def _scrub_row(
    connection: sa.Connection, table: sa.Table, row: sa.Row[Any], person: _Person, found: Forgotten, **further: Any
) -> None:
    """Replace the address in each text of one row."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    texts = {
        name: text for name, text in values.items() if isinstance(text, str) and name not in table.primary_key.columns
    }
    found.unreadable += any(is_sealed(text) for text in texts.values())
    changed = {name: clean for name, text in texts.items() if (clean := person.scrub(text)) != text}
    if not changed:
        return
    seal = sealer(connection)
    for name, clean in changed.items():
        changed[name] = seal(clean or "") if isinstance(table.c[name].type, SealedText) else clean
    mine = [column == values[column.name] for column in table.primary_key.columns]
    connection.execute(sa.update(table).where(*mine).values(**changed, **further))
    found.mentions += 1
