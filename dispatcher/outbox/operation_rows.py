"""The rows of `outbox_operations`: what a person did, why, how far it came, and what came of it.

A long operation keeps its place here, in the transaction of each batch, so that a killed command can be taken up where
it was, and the counts are those of what was committed. A short one writes its row as it ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.at_rest import sealer
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.sealing import is_sealed
from dispatcher.outbox.tables import operations


class Kind(StrEnum):
    """What was done."""

    REPLAY = "replay"
    DISCARD = "discard"
    CONFIRM = "confirm"
    CORRECT = "correct"
    IMPORT = "import"
    PAUSE = "pause"
    RESUME = "resume"
    FORGET = "forget"
    PRUNE = "prune"
    SEAL = "seal"
    UNSEAL = "unseal"


class Standing(StrEnum):
    """Where an operation stands. A running one whose command was killed stays so until it is resumed or cancelled."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who does it, and why. Both are stored as they are."""

    by: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class OperationView:
    """One operation.

    Attributes:
        chosen: The criteria, or how many events were named.
        corrections: What is set in each payload; pairs of path and value. None: sealed with a key that is not at hand.
        total: Events meant at the start.
        seen: Events it has been through.
        counts: What came of them.
        per_minute: At most so many events in a minute; None: no limit.
        progress_at: The last batch.
    """

    id: int
    kind: str
    state: str
    account: str | None
    signed_by: str
    note: str | None
    total: int
    place: int
    last: int
    seen: int
    per_minute: int | None
    cancelled_by: str | None
    created_at: datetime
    progress_at: datetime
    ended_at: datetime | None
    chosen: dict[str, Any]
    corrections: list[list[Any]] | None
    counts: dict[str, int]


_THIS = sa.select(operations).where(operations.c.id == sa.bindparam("number"))
_ENDED = sa.update(operations).where(
    operations.c.id == sa.bindparam("number"), operations.c.state == Standing.RUNNING.value
)


def begin(
    connection: sa.Connection,
    kind: Kind,
    signature: Signature,
    *,
    account: str | None = None,
    chosen: Mapping[str, Any] | None = None,
    corrections: Sequence[Sequence[Any]] = (),
    subject: str | None = None,
    total: int = 0,
    last: int = 0,
    per_minute: int | None = None,
) -> int:
    """Write the row of an operation that runs; answers its number. The caller commits."""
    row = {
        "kind": kind.value,
        "state": Standing.RUNNING.value,
        "account": account,
        "signed_by": signature.by[:128],
        "note": signature.note,
        "chosen": json.dumps(chosen) if chosen else None,
        "corrections": sealer(connection)(json.dumps(corrections)) if corrections else None,
        "subject": subject,
        "total": total,
        "last": last,
        "per_minute": per_minute,
    }
    written = connection.execute(sa.insert(operations), row).inserted_primary_key
    return int(written[0]) if written is not None else 0


def record(
    connection: sa.Connection,
    kind: Kind,
    signature: Signature,
    *,
    account: str | None = None,
    chosen: Mapping[str, Any] | None = None,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Write the row of an operation that is done with this transaction."""
    number = begin(connection, kind, signature, account=account, chosen=chosen, total=1)
    advance(connection, number, seen=1, place=0, counts=counts or {})
    end(connection, number)


def lock(connection: sa.Connection, number: int) -> OperationView | None:
    """The operation, locked: of two commands that run it, one goes on at a time. None: there is none."""
    row = connection.execute(_THIS.with_for_update(), {"number": number}).first()
    return None if row is None else _view(row)


def advance(connection: sa.Connection, number: int, *, seen: int, place: int, counts: Mapping[str, int]) -> None:
    """It has come so far, and so much has come of it altogether. Locked by the caller."""
    statement = sa.update(operations).where(operations.c.id == number)
    values = {"seen": seen, "place": place, "counts": json.dumps(counts), "progress_at": statement_now()}
    connection.execute(statement.values(values))


def end(connection: sa.Connection, number: int) -> None:
    """It has come to its end, unless it was cancelled before."""
    values = {"number": number, "state": Standing.DONE.value, "ended_at": read_clock(connection)}
    connection.execute(_ENDED, values)


def cancel(connection: sa.Connection, number: int, *, by: str) -> bool:
    """Let it stop after the batch it is at; answers False if it had ended. What is done stays done."""
    values = {"number": number, "state": Standing.CANCELLED.value, "cancelled_by": by[:128]}
    return connection.execute(_ENDED, values | {"ended_at": read_clock(connection)}).rowcount > 0


def read(connection: sa.Connection, number: int) -> OperationView | None:
    """One operation."""
    row = connection.execute(_THIS, {"number": number}).first()
    return None if row is None else _view(row)


def newest(connection: sa.Connection, *, limit: int | None = None, kind: Kind | None = None) -> list[OperationView]:
    """The newest operations."""
    query = sa.select(operations).order_by(operations.c.id.desc())
    if kind is not None:
        query = query.where(operations.c.kind == kind.value)
    return [_view(row) for row in connection.execute(query if limit is None else query.limit(limit))]


def _view(row: sa.Row[Any]) -> OperationView:
    values = {name: row._mapping[name] for name in OperationView.__dataclass_fields__}  # noqa: SLF001 - SQLAlchemy's name
    for name, empty in (("chosen", {}), ("corrections", []), ("counts", {})):
        if is_sealed(values[name]):
            values[name] = None
        else:
            values[name] = json.loads(values[name]) if values[name] else empty
    return OperationView(**values)
