"""Which rows a work would lock on PostgreSQL, and how, in the order in which it asks for them.

SQLite has one writer and leaves the locks out of its statements: there nothing else shows that one is missing. Nothing
is doubled: the work is done, and each SELECT that is executed is written once more for PostgreSQL. A claim cannot be
read so: it locks within subqueries, and on MySQL its hints mean nothing to PostgreSQL. Claim before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import make_url

WAITS, PASSES = "FOR NO KEY UPDATE", "FOR NO KEY UPDATE SKIP LOCKED"
"""For what others hold, or over it; rows that refer to the locked one come in meanwhile."""

WAITS_WHOLE, PASSES_WHOLE = "FOR UPDATE", "FOR UPDATE SKIP LOCKED"
"""The same, of rows that nothing refers to, or that go."""

_POSTGRESQL = make_url("postgresql+psycopg://").get_dialect()()
_WORDS = re.compile(r"\bFOR (?:NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)\b")
_FLAT = r"(?:[^()]|\([^()]*\))"
"""What belongs to the statement itself: an ORDER BY within a subquery has the bracket that closes it behind it."""
_END = re.compile(rf"(?: ORDER BY (?P<order>{_FLAT}+?))?(?: LIMIT {_FLAT}+?)? (?P<words>{_WORDS.pattern}[^()]*)$")


class Lock(NamedTuple):
    """What one SELECT locks; where it joins tables, the first of them."""

    table: str
    words: str
    order: str = ""
    """Of the rows: two who lock the same ones in one order do not wait for each other."""


def lock_of(statement: sa.Select[Any]) -> Lock | None:
    """The lock as PostgreSQL reads it; None if the SELECT only looks."""
    text = " ".join(str(statement.compile(dialect=_POSTGRESQL)).split())
    words = _WORDS.findall(text)
    if not words:
        return None
    end = _END.search(text)
    assert end is not None, f"locks within a subquery, which is not read here: {text}"
    assert len(words) == 1, f"locks twice, and one would be read: {text}"
    first = statement.get_final_froms()[0]
    while isinstance(first, sa.Join):
        first = first.left
    assert isinstance(first, sa.Table), f"locks in what has no name of its own: {text}"
    return Lock(first.name, end["words"], end["order"] or "")


@contextmanager
def locks_asked(engine: sa.Engine) -> Iterator[list[Lock]]:
    """The locks of what is executed inside; the list grows while it is."""
    asked: list[Lock] = []

    def before(_connection: sa.Connection, statement: object, *_others: Any) -> None:
        if isinstance(statement, sa.Select) and (lock := lock_of(statement)) is not None:
            asked.append(lock)

    sa.event.listen(engine, "before_execute", before)
    try:
        yield asked
    finally:
        sa.event.remove(engine, "before_execute", before)


def locks_of(engine: sa.Engine, work: Callable[[], object]) -> list[tuple[str, str]]:
    """Table and words of each lock, in whatever order its rows are taken."""
    with locks_asked(engine) as asked:
        work()
    return [(lock.table, lock.words) for lock in asked]
