"""The rows with these ids, for statements that run all the time.

A list of `IN` has a text of its own for each length, which SQLAlchemy renders, the driver parses and PostgreSQL plans
again each time. There the ids travel as one array instead; the other drivers put values into the text anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa


def among(connection: sa.Connection, column: sa.ColumnElement[int], ids: Collection[int]) -> sa.ColumnElement[bool]:
    """True for rows whose column is one of `ids`."""
    if connection.dialect.name != "postgresql":
        return column.in_(ids)
    array: sa.BindParameter[Any] = sa.bindparam(None, list(ids), type_=sa.ARRAY(column.type))
    return column == sa.any_(array)
