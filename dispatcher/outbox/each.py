"""One statement for many rows, each with values of its own.

On PostgreSQL the values travel together, as one JSON text, and the statement runs once, not once for each row as the
driver would have it. The other drivers repeat it. (Arrays would do too; psycopg writes one value by value, in Python.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from dispatcher.outbox.moment import in_utc

_ROWS = "rows"


class Each:
    """The rows that one statement is about.

    Args:
        connection: Where the statement will run.
        rows: At least one; all with the names of `types`.
        types: Of the values, by name.
    """

    def __init__(
        self, connection: sa.Connection, rows: Sequence[dict[str, Any]], types: dict[str, TypeEngine[Any]]
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._types = types
        self._table = given(tuple(types.items())) if connection.dialect.name == "postgresql" else None

    def __getitem__(self, name: str) -> sa.ColumnElement[Any]:
        """A row's value, as a part of the statement."""
        if self._table is not None:
            return self._table.c[name]
        return sa.bindparam(name, type_=self._types[name])

    def change(self, statement: sa.Update | sa.Delete) -> int:
        """Run a statement that uses the values in its WHERE; answers how many rows it changed."""
        return self._connection.execute(statement, self._parameters()).rowcount

    def insert(self, table: sa.Table, **alike: Any) -> None:
        """Write the rows into a table, with the values that all have alike; the names are its columns."""
        if self._table is None:
            self._connection.execute(sa.insert(table), [{**row, **alike} for row in self._rows])
        else:
            statement = _inserting(table, tuple(self._types.items()), tuple(alike))
            self._connection.execute(statement, {**self._parameters(), **alike})

    def _parameters(self) -> Any:
        return list(self._rows) if self._table is None else together(self._rows)


def together(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What `given` is bound to; what a row does not state is NULL there.

    The columns' types do not see the values: what they would refuse is refused here.

    Raises:
        ValueError: A moment is naive.
        TypeError: A value is nothing that PostgreSQL reads in JSON as Python writes it.
    """
    stated = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return {_ROWS: json.dumps(stated, default=_written)}


def _written(value: object) -> str:
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot travel in JSON: give it a form in {__name__}")


@cache
def given(types: tuple[tuple[str, TypeEngine[Any]], ...]) -> sa.TableValuedAlias:
    """PostgreSQL: what is bound by `together`, as a table with a row for each."""
    columns = [sa.column(name, of) for name, of in types]
    rows = sa.func.json_to_recordset(sa.cast(sa.bindparam(_ROWS, type_=sa.Text()), sa.JSON()))
    return rows.table_valued(*columns, name="given").render_derived(with_types=True)


@cache
def _inserting(table: sa.Table, types: tuple[tuple[str, TypeEngine[Any]], ...], alike: tuple[str, ...]) -> sa.Insert:
    bound = [sa.bindparam(name, type_=table.c[name].type) for name in alike]
    rows = sa.select(*given(types).c, *bound)
    return sa.insert(table).from_select([*(name for name, _ in types), *alike], rows, include_defaults=False)
