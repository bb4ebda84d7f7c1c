"""The rows with these ids, for statements that are made once and run all the time.

A list of `IN` has a text of its own for each length, which SQLAlchemy renders, the driver parses and PostgreSQL plans
again each time. There the ids travel as one array instead; the other drivers put values into the text anyway.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def among(dialect: str, column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """True for rows whose column is in the list that is bound as `ids`."""
    if dialect != "postgresql":
        return column.in_(sa.bindparam("ids", expanding=True))
    array: sa.BindParameter[Any] = sa.bindparam("ids", type_=sa.ARRAY(column.type))
    return column == sa.any_(array)
