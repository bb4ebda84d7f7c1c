"""Rows that travel to PostgreSQL as one text for each column: what is written, and what is refused. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dispatcher.outbox.columns import joined, taken_apart
from dispatcher.outbox.tables import events

NOON = datetime(2026, 11, 26, 12, 0, 0, 7, tzinfo=UTC)


def column(name: str, *values: Any) -> str:
    (text,) = joined([{name: value} for value in values], ((name, events.c[name].type),)).values()
    return text


def test_the_values_of_a_column_stand_in_order_and_what_is_absent_is_marked() -> None:
    rows: list[dict[str, Any]] = [{"key": "a", "reason": None, "attempt": 1}, {"key": "b", "reason": "x", "attempt": 2}]
    types = tuple((name, events.c[name].type) for name in rows[0])
    assert joined(rows, types) == {"c_key": "a\x1eb", "c_reason": "\x1f\x1ex", "c_attempt": "1\x1e2"}


def test_moments_and_names_are_written_as_postgresql_reads_them() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-3)))
    assert column("line_at", there, None) == f"{NOON.isoformat()}\x1e\x1f"
    assert column("event_id", UUID(int=1)) == str(UUID(int=1))


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        column("line_at", NOON.replace(tzinfo=None))


@pytest.mark.parametrize("value", ["a\x1eb", "\x1f", "a\x1f", ""])
def test_a_text_that_would_not_arrive_as_it_is_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        column("key", value)


def test_each_column_comes_out_in_its_own_type() -> None:
    types = tuple((name, events.c[name].type) for name in ("event_id", "payload", "line_at", "attempt"))
    select = sa.select(*taken_apart(types).values())
    text = " ".join(str(select.compile(dialect=make_url("postgresql+psycopg://").get_dialect()())).split())
    assert text.count(", chr(30), chr(31))") == len(types)
    for name, of in (("event_id", "UUID"), ("line_at", "TIMESTAMP WITH TIME ZONE"), ("attempt", "INTEGER")):
        assert f".{name} AS {of})" in text
    assert ".payload AS" not in text
