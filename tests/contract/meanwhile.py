"""What others commit between two statements of a transaction under test, at a place that is the same each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from tests.contract.outbox_under_test import OutboxUnderTest

Step = tuple[str, Callable[[sa.Connection], object]]
"""How a statement begins, and what is committed by somebody just before it."""


@contextmanager
def meanwhile(outbox: OutboxUnderTest, *steps: Step) -> Iterator[None]:
    """Each step once, in this order. SQLite has one writer: there they are done within the transaction under test."""
    left = list(steps)

    def before(connection: sa.Connection, _cursor: object, statement: str, *_others: Any) -> None:
        if not left or not statement.startswith(left[0][0]):
            return
        act = left.pop(0)[1]
        if outbox.backend == "sqlite":
            act(connection)
        else:
            with outbox.engine.begin() as other:
                act(other)

    sa.event.listen(outbox.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(outbox.engine, "before_cursor_execute", before)
    assert not left, f"was not come to: {left[0][0]}"
