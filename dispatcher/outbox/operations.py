"""What a person does to many events: in batches that keep their place, so that it can be killed, resumed and cancelled.

The events of a batch, the operation's place and its counts change in one transaction. So whatever was committed is
counted once, a command that was killed is taken up where it was, and two commands that run the same operation take
turns. Nothing waits here: `admin` paces it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.errors import OperationRefused
from dispatcher.outbox import correction, operation_rows, resolutions
from dispatcher.outbox.operation_rows import Kind, OperationView, Signature, Standing
from dispatcher.outbox.queries import Criteria, count_dead, open_letters_meeting
from dispatcher.outbox.resolutions import Done
from dispatcher.outbox.sealing import SEE
from dispatcher.outbox.tables import dead_letters as letters
from dispatcher.outbox.transaction import in_transaction, reading

BATCH = 500
"""Events changed in one transaction."""

_IN_BATCHES = {Kind.REPLAY, Kind.DISCARD, Kind.CONFIRM}

Corrections = Sequence[tuple[str, Any]]


@dataclass(slots=True)
class Step:
    """One batch.

    Attributes:
        operation: As it stands after the batch.
        done: What came of the batch.
        over: Nothing is left to do: it has come to its end, or was cancelled.
    """

    operation: OperationView
    done: Done = field(default_factory=Done)

    @property
    def over(self) -> bool:
        """True if there is nothing left to do."""
        return self.operation.state != Standing.RUNNING


def start(
    engine: sa.Engine,
    kind: Kind,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    account: str | None = None,
    corrections: Corrections = (),
    per_minute: int | None = None,
) -> OperationView:
    """Write down a replay or discard; `step` does it.

    Args:
        engine: Ours.
        kind: Replay or discard.
        chosen: Rows of events, or criteria for open dead letters; letters opened later are not met.
        signature: Kept with the operation, and in each letter.
        account: For the record; the criteria's own if there are any.
        corrections: Paths and values that are set in each payload; for a replay.
        per_minute: At most so many events in a minute; for the one who paces it.
    """

    def write(connection: sa.Connection) -> int:
        if isinstance(chosen, Criteria):
            newest = connection.execute(sa.select(sa.func.max(letters.c.id))).scalar_one() or 0
            said, total, last = _written(chosen), count_dead(connection, chosen), newest
        else:
            rows = list(dict.fromkeys(chosen))
            said, total, last = {"events": rows}, len(rows), len(rows)
        return operation_rows.begin(
            connection,
            kind,
            signature,
            account=chosen.account if isinstance(chosen, Criteria) else account,
            chosen=said,
            corrections=corrections,
            total=total,
            last=last,
            per_minute=per_minute,
        )

    number = in_transaction(engine, write)
    return reading(engine, lambda connection: known(connection, number))


def step(engine: sa.Engine, number: int, *, size: int | None = None) -> Step:
    """Do the next batch of an operation, in one transaction.

    Raises:
        OperationRefused: There is no such operation, or it is none that goes in batches.
    """
    return in_transaction(engine, lambda connection: _step(connection, number, size or BATCH))


def known(connection: sa.Connection, number: int) -> OperationView:
    """The operation of this number.

    Raises:
        OperationRefused: There is none.
    """
    found = operation_rows.read(connection, number)
    if found is None:
        raise OperationRefused(f"there is no operation {number}: see `dispatcher operations list`")
    return found


def replay(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    corrections: Corrections = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Done:
    """Give dead events another try, at once: same key, fresh budget, at the end of their leads' lines.

    `progress` is told after each commit how many events it has been through.
    """
    return _run(engine, start(engine, Kind.REPLAY, chosen, signature, corrections=corrections), progress)


def discard(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Done:
    """Give events up: they end `cancelled: discarded` and are never sent.

    Criteria mean dead events; by row, pending ones are taken too, and one in flight is marked so that nothing
    follows the attempt that is under way.
    """
    return _run(engine, start(engine, Kind.DISCARD, chosen, signature), progress)


def confirm(
    engine: sa.Engine,
    chosen: Criteria | Sequence[int],
    signature: Signature,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Done:
    """Say that dead events have arrived: they end `delivered`, reason `arrived`, without a receipt.

    Only those that may have: an attempt of theirs left without an answer, or its worker died. Arguments as for
    `replay`.
    """
    return _run(engine, start(engine, Kind.CONFIRM, chosen, signature), progress)


def _run(engine: sa.Engine, operation: OperationView, progress: Callable[[int], None]) -> Done:
    total = Done()
    while operation.state == Standing.RUNNING:
        did = step(engine, operation.id)
        total.add(did.done)
        if did.operation.seen > operation.seen:
            progress(did.operation.seen)
        operation = did.operation
    return total


def _step(connection: sa.Connection, number: int, size: int) -> Step:
    operation = operation_rows.lock(connection, number)
    if operation is None or operation.kind not in _IN_BATCHES:
        kind = f"a {operation.kind}" if operation else "none of ours"
        raise OperationRefused(f"operation {number} is {kind}: it does not go on in batches")
    if operation.state != Standing.RUNNING:
        return Step(operation)
    rows = _next(connection, operation, size)
    done = _change(connection, operation, [event for _, event in rows]) if rows else Done()
    if rows:
        counts = {name: operation.counts.get(name, 0) + number for name, number in done.counts().items()}
        seen = operation.seen + len(rows)
        operation_rows.advance(connection, operation.id, seen=seen, place=rows[-1][0], counts=counts)
    if len(rows) < size:
        operation_rows.end(connection, operation.id)
    return Step(known(connection, operation.id), done)


def _change(connection: sa.Connection, operation: OperationView, ids: list[int]) -> Done:
    signature = Signature(operation.signed_by, operation.note)
    if operation.kind == Kind.DISCARD:
        return resolutions.discard(connection, ids, signature)
    if operation.kind == Kind.CONFIRM:
        return resolutions.confirm(connection, ids, signature)
    if operation.corrections is None:
        raise OperationRefused(f"what operation {operation.id} sets is sealed with a key that is not at hand: {SEE}")
    if operation.corrections:
        corrections = [(path, value) for path, value in operation.corrections]
        return correction.replay_with(connection, ids, corrections, signature)
    return resolutions.replay(connection, ids, signature)


def _next(connection: sa.Connection, operation: OperationView, size: int) -> list[tuple[int, int]]:
    """The next events, each with the place that it takes the operation to."""
    if "events" in operation.chosen:
        rows = operation.chosen["events"][operation.place : operation.place + size]
        return [(operation.place + index, event) for index, event in enumerate(rows, start=1)]
    query = (
        sa.select(letters.c.id, letters.c.open_event)
        .where(*open_letters_meeting(_read(operation.chosen)))
        .where(letters.c.id > operation.place, letters.c.id <= operation.last)
        .order_by(letters.c.id)
        .limit(size)
    )
    return [(row.id, row.open_event) for row in connection.execute(query)]


def _written(criteria: Criteria) -> dict[str, Any]:
    values = {name: value for name, value in asdict(criteria).items() if value is not None}
    return values | ({"since": criteria.since.isoformat()} if criteria.since else {})


def _read(chosen: dict[str, Any]) -> Criteria:
    since = chosen.get("since")
    return Criteria(**{**chosen, "since": datetime.fromisoformat(since) if since else None})
