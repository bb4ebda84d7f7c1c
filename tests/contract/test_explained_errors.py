"""What an operator is told of an error of the database: its kind, never its text. Real databases; doubles nothing."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dispatcher.errors import DispatcherError
from dispatcher.outbox.explaining import explained
from tests.contract.outbox_under_test import OutboxUnderTest

KINDS = {
    "sqlite": "OperationalError",
    "postgresql": "UndefinedTable, SQLSTATE 42P01",
    "mysql": "ProgrammingError, SQLSTATE 42S02",
}


def test_a_refused_statement_is_told_by_its_kind_and_its_code_where_there_is_one(outbox: OutboxUnderTest) -> None:
    with pytest.raises(DispatcherError) as refused, explained(outbox.engine), outbox.engine.connect() as connection:
        connection.execute(sa.text("SELECT 'ana@cliente.example' FROM nowhere"))
    told = str(refused.value)
    assert f"refused a statement ({KINDS[outbox.backend]})" in told
    assert "ana@" not in told
