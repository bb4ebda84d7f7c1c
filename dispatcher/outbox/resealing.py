"""Turning the sealing of payloads on and off, changing its key, and counting what each key holds (docs/adr/0022)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from dispatcher.errors import ConfigurationError
from dispatcher.lifecycle import State
from dispatcher.outbox import operation_rows
from dispatcher.outbox.installed import forget_installed
from dispatcher.outbox.operation_rows import Kind, Signature
from dispatcher.outbox.sealing import NAME_LENGTH, SEALED, SealedText, is_sealed, keys
from dispatcher.outbox.tables import events, installation, metadata
from dispatcher.outbox.transaction import in_transaction

STEP = 500
"""Rows looked at in one transaction."""

PLAIN = ""
"""Stands for plain text where a key's name stands else."""


@dataclass(slots=True)
class Sealed:
    """What a walk came to.

    Attributes:
        operation: Its record.
        seen: Rows it has looked at.
        changed: Rows that are sealed with the right key now, or plain after `open_all`.
        unreadable: Rows left as they are: no key at hand opens them.
    """

    operation: int
    seen: int = 0
    changed: int = 0
    unreadable: int = 0

    def counts(self) -> dict[str, int]:
        """For the record."""
        return {"changed": self.changed, "unreadable": self.unreadable}


def seal_all(engine: sa.Engine, signature: Signature, *, progress: Callable[[int], None] = lambda _: None) -> Sealed:
    """Seal with the first key from now on, and seal anew what is plain or held by another key; in short transactions.

    Safe beside everything else; one that was killed is run again and finds done what is done. Processes that have been
    running since before the switch was turned on go on in plain text until they are restarted: run it again then.

    Raises:
        ConfigurationError: This process has no key. Nothing was changed.
    """
    first = keys().first
    if first is None:
        raise ConfigurationError(
            "there is no key to encrypt with: set DISPATCHER_ENCRYPTION_KEYS, for the shop's processes too "
            "(`dispatcher check` prints a fresh one)"
        )
    return _walk(engine, Kind.SEAL, first, signature, progress)


def open_all(engine: sa.Engine, signature: Signature, *, progress: Callable[[int], None] = lambda _: None) -> Sealed:
    """Seal no more, and open what a key at hand opens; as `seal_all` else."""
    return _walk(engine, Kind.UNSEAL, None, signature, progress)


@dataclass(frozen=True, slots=True)
class Held:
    """How many events each key holds, by name; those in plain text under the empty name.

    Attributes:
        key: What the outbox seals with; None: it does not.
        events: Counts.
    """

    key: str | None
    events: dict[str, int] = field(default_factory=dict)

    @property
    def plain(self) -> int:
        """Events in plain text."""
        return self.events.get(PLAIN, 0)

    @property
    def unreadable(self) -> int:
        """Events that no key at hand opens."""
        return sum(count for name, count in self.events.items() if name != PLAIN and name not in keys())

    @property
    def older(self) -> int:
        """Events that a key at hand opens which is not the one to seal with."""
        return sum(count for name, count in self.events.items() if name in keys() and name != self.key)


def held(connection: sa.Connection, *, open_only: bool = False) -> Held:
    """Count the events by the key that holds them. Reads every event; `open_only`: those that wait, fly or are dead."""
    raw = sa.type_coerce(events.c.payload, sa.Text())
    name = sa.case((raw.startswith(SEALED), sa.func.substr(raw, len(SEALED) + 1, NAME_LENGTH)), else_=sa.literal(PLAIN))
    query = sa.select(name.label("name"), sa.func.count().label("number")).group_by(sa.text("1"))
    if open_only:
        query = query.where(events.c.state.in_([State.PENDING.value, State.IN_FLIGHT.value, State.DEAD.value]))
    counts: Counter[str] = Counter()
    for row in connection.execute(query):
        counts[row.name] += row.number
    key = connection.execute(sa.select(installation.c.payload_key)).scalar_one()
    return Held(key, dict(counts))


def _walk(
    engine: sa.Engine, kind: Kind, key: str | None, signature: Signature, progress: Callable[[int], None]
) -> Sealed:
    def switch(connection: sa.Connection) -> int:
        connection.execute(sa.update(installation).values(payload_key=key))
        return operation_rows.begin(connection, kind, signature)

    found = Sealed(in_transaction(engine, switch))
    forget_installed(engine)
    for table in metadata.sorted_tables:
        columns = [column for column in table.c if isinstance(column.type, SealedText)]
        after: int | None = 0 if columns else None
        while after is not None:

            def step(connection: sa.Connection, start: int = after) -> tuple[int | None, Sealed]:
                return _step(connection, table, columns, key, start)  # noqa: B023 - called before the loop goes on

            after, counted = in_transaction(engine, step)
            found.seen += counted.seen
            found.changed += counted.changed
            found.unreadable += counted.unreadable
            progress(found.seen)

    def done(connection: sa.Connection) -> None:
        operation_rows.advance(connection, found.operation, seen=found.seen, place=0, counts=found.counts())
        operation_rows.end(connection, found.operation)

    in_transaction(engine, done)
    return found


def _step(
    connection: sa.Connection, table: sa.Table, columns: list[sa.Column[str]], key: str | None, after: int
) -> tuple[int | None, Sealed]:
    """The next rows; answers the last of them, None at the end."""
    identity = table.c.id
    ids = list(connection.scalars(sa.select(identity).where(identity > after).order_by(identity).limit(STEP)))
    counted = Sealed(0, seen=len(ids))
    if not ids:
        return None, counted
    raw = [sa.type_coerce(column, sa.Text()).label(column.name) for column in columns]
    other = sa.or_(*(_needs_work(column, key) for column in columns))
    query = sa.select(identity, *raw).where(identity > after, identity <= ids[-1], other).order_by(identity)
    for row in connection.execute(query.with_for_update(key_share=True)).mappings().all():
        texts = {column.name: row[column.name] for column in columns if row[column.name] is not None}
        plain = {name: keys().opened(text) for name, text in texts.items()}
        if any(is_sealed(text) for text in plain.values()):
            counted.unreadable += 1
            continue
        fresh = plain if key is None else {name: keys().seal(key, text) for name, text in plain.items()}
        connection.execute(sa.update(table).where(identity == row["id"]).values(fresh))
        counted.changed += 1
    return ids[-1], counted


def _needs_work(column: sa.Column[str], key: str | None) -> sa.ColumnElement[bool]:
    raw = sa.type_coerce(column, sa.Text())
    return raw.startswith(SEALED) if key is None else sa.not_(raw.startswith(f"{SEALED}{key}:"))
