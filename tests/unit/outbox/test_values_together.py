"""What travels to PostgreSQL as one JSON text is checked as a column's type would check it. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from dispatcher.outbox.each import together

NOON = datetime(2026, 11, 26, 12, 0, 0, 7, tzinfo=UTC)


def test_moments_and_names_are_written_as_postgresql_reads_them() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-3)))
    (text,) = together([{"at": there, "id": UUID(int=1), "n": 1, "none": None, "text": "Olá\\u0000"}]).values()
    assert json.loads(text) == [
        {"at": NOON.isoformat(), "id": str(UUID(int=1)), "n": 1, "text": "Olá\\u0000"}  # None is not stated: NULL
    ]


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        together([{"at": NOON.replace(tzinfo=None)}])


@pytest.mark.parametrize("value", [b"bytes", Decimal("1.5"), object()])
def test_what_has_no_form_in_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        together([{"value": value}])
