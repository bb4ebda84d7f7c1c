"""The rows with these ids or names, for statements that are made once and run all the time.

A list of `IN` has a text of its own for each length, which SQLAlchemy renders, the driver parses and PostgreSQL plans
again each time. There the ids travel as one array instead, written here: psycopg writes one element by element, in
Python, which takes five times as long. The other drivers put values into the text anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator


class _ArrayText(TypeDecorator[Any]):
    """Whole numbers as PostgreSQL reads an array of them."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[int] | None, dialect: Dialect) -> str:  # noqa: ARG002 - SQLAlchemy's form
        """What the driver is given."""
        return f"{{{','.join(map(str, value or ()))}}}"


def among(dialect: str, column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """True for rows whose column is in the list that is bound as `ids`."""
    if dialect != "postgresql":
        return column.in_(sa.bindparam("ids", expanding=True))
    array = sa.cast(sa.bindparam("ids", type_=_ArrayText()), sa.ARRAY(column.type))
    return column == sa.any_(array)


def named(dialect: str, column: sa.ColumnElement[str], *, one: bool = False) -> sa.ColumnElement[bool]:
    """True for rows whose column is in the list that is bound as `names`; with `one`, is what is bound as `name`.

    PostgreSQL guesses that a list of unknown length has ten entries. Where it has one, each run would seem worth
    a plan of its own, which takes longer than the run: so one name is asked for as one.
    """
    if one:
        return column == sa.bindparam("name", type_=column.type)
    if dialect != "postgresql":
        return column.in_(sa.bindparam("names", expanding=True))
    return column == sa.any_(sa.bindparam("names", type_=sa.ARRAY(column.type)))


def not_named(dialect: str, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """True for rows whose column is not in the list that is bound as `others`."""
    if dialect != "postgresql":
        return column.not_in(sa.bindparam("others", expanding=True))
    return column != sa.all_(sa.bindparam("others", type_=sa.ARRAY(column.type)))


def bind(names: Sequence[str]) -> dict[str, Any]:
    """What `named` is bound to: with `one`, if the list has one entry."""
    return {"name": names[0]} if len(names) == 1 else {"names": list(names)}
