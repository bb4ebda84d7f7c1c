"""Importing an edited file of dead letters: all lines are looked at before any is done, and then in batches.

The operation keeps the file's digest and how many lines it has been through, not their content: the same file goes on
where a killed import was, and nothing personal stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from dispatcher.errors import InvalidEvent, OperationRefused, Problem
from dispatcher.outbox import edits, operation_rows
from dispatcher.outbox.edits import Action, Edit, Met, Standing
from dispatcher.outbox.operation_rows import Kind, OperationView, Signature
from dispatcher.outbox.operations import BATCH, Step, known
from dispatcher.outbox.queries import PAGE
from dispatcher.outbox.resolutions import Done
from dispatcher.outbox.tables import operations
from dispatcher.outbox.transaction import in_transaction, reading


@dataclass(slots=True)
class Examined:
    """What a file would do.

    Attributes:
        replays: Rows of events that would be replayed.
        corrected: How many of them with other content.
        discards: How many letters would be discarded.
        left: Lines that ask for nothing.
        done: Lines that were imported before.
        problems: By line: why nothing of the file is done.
    """

    replays: list[int] = field(default_factory=list)
    corrected: int = 0
    discards: int = 0
    left: int = 0
    done: int = 0
    problems: list[tuple[int, Problem]] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """Letters that would be closed."""
        return len(self.replays) + self.discards


def examine(engine: sa.Engine, lines: Sequence[Edit], *, account: str) -> Examined:
    """Look at every line; changes nothing."""
    found = Examined()
    for start in range(0, len(lines), PAGE):
        chunk = lines[start : start + PAGE]
        for edit, met in reading(engine, _meeting(chunk, account)):
            _count(found, edit, met)
    return found


def _meeting(
    lines: Sequence[Edit], account: str
) -> Callable[[sa.Connection], list[tuple[Edit, Met | tuple[Problem, ...]]]]:
    def look(connection: sa.Connection) -> Iterator[tuple[Edit, Met | tuple[Problem, ...]]]:
        for edit in lines:
            try:
                met = edits.meet(connection, edit)
            except InvalidEvent as invalid:
                yield edit, invalid.problems
            except OperationRefused as refused:
                yield edit, (Problem("$", str(refused)),)
            else:
                elsewhere = Problem("$.account", f"is {met.account!r}: import it with --account {met.account}")
                yield edit, met if met.account == account else (elsewhere,)

    return lambda connection: list(look(connection))


def _count(found: Examined, edit: Edit, met: Met | tuple[Problem, ...]) -> None:
    if not isinstance(met, Met):
        found.problems += [(edit.line, problem) for problem in met]
    elif met.standing is Standing.DONE:
        found.done += 1
    elif edit.action is Action.LEAVE:
        found.left += 1
    elif edit.action is Action.DISCARD:
        found.discards += 1
    else:
        found.replays.append(met.event)
        found.corrected += met.changed


def start(
    engine: sa.Engine, digest: str, lines: int, signature: Signature, *, account: str, per_minute: int | None
) -> OperationView:
    """The operation of this file: the one whose command was ended, or a new one."""

    def write(connection: sa.Connection) -> int:
        running = sa.select(operations.c.id, operations.c.chosen).where(
            operations.c.kind == Kind.IMPORT.value, operations.c.state == operation_rows.Standing.RUNNING.value
        )
        for row in connection.execute(running.order_by(operations.c.id).with_for_update()):
            if row.chosen is not None and digest in row.chosen:
                return int(row.id)
        chosen = {"file": digest}
        return operation_rows.begin(
            connection, Kind.IMPORT, signature, account=account, chosen=chosen, total=lines, per_minute=per_minute
        )

    number = in_transaction(engine, write)
    return reading(engine, lambda connection: known(connection, number))


def step(engine: sa.Engine, number: int, lines: Sequence[Edit], *, size: int | None = None) -> Step:
    """Do the next lines, in one transaction; `lines` are those of the operation's file."""
    return in_transaction(engine, lambda connection: _step(connection, number, lines, size or BATCH))


def _step(connection: sa.Connection, number: int, lines: Sequence[Edit], size: int) -> Step:
    operation = operation_rows.lock(connection, number)
    if operation is None:
        raise OperationRefused(f"there is no operation {number}")
    if operation.state != operation_rows.Standing.RUNNING:
        return Step(operation)
    batch = lines[operation.place : operation.place + size]
    done = edits.apply(connection, batch, Signature(operation.signed_by, operation.note)) if batch else Done()
    counts = {name: operation.counts.get(name, 0) + count for name, count in done.counts().items()}
    place = operation.place + len(batch)
    operation_rows.advance(connection, number, seen=place, place=place, counts=counts)
    if place >= len(lines):
        operation_rows.end(connection, number)
    return Step(known(connection, number), done)
