"""Many events from a file: a batch is one transaction, and an event that is refused never stops the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import sqlalchemy as sa

from dispatcher.events import Event
from dispatcher.outbox.enqueue import Receipt, enqueue_many
from dispatcher.outbox.transaction import in_transaction


class Became(Enum):
    """What became of one event of a batch."""

    ENQUEUED = auto()
    KNOWN = auto()
    """Its fact was in the outbox with the same content."""
    CONFLICT = auto()
    """Its fact was in the outbox with other content, which was kept."""
    REFUSED = auto()
    """The database would not take it."""


@dataclass(frozen=True, slots=True)
class Entered:
    """One event of a batch, after the commit."""

    became: Became
    key: str | None
    problem: str | None = None


def enter(engine: sa.Engine, batch: Sequence[Event], *, account: str) -> list[Entered]:
    """Enqueue a batch in one transaction of our own, and answer what became of each event, in order.

    If the database refuses the batch for its content, each event gets a transaction of its own.

    Raises:
        NotMigrated: The outbox tables are missing.
    """
    try:
        return [_entered(receipt) for receipt in _enqueue(engine, batch, account)]
    except (sa.exc.DataError, sa.exc.IntegrityError) as error:
        if len(batch) == 1:
            return [Entered(Became.REFUSED, batch[0].key(), f"the database does not take it ({type(error).__name__})")]
        return [entered for event in batch for entered in enter(engine, [event], account=account)]


def _enqueue(engine: sa.Engine, batch: Sequence[Event], account: str) -> list[Receipt]:
    return in_transaction(engine, lambda connection: enqueue_many(connection, batch, account=account))


def _entered(receipt: Receipt) -> Entered:
    if receipt.created:
        return Entered(Became.ENQUEUED, receipt.key)
    return Entered(Became.CONFLICT if receipt.conflict else Became.KNOWN, receipt.key)
