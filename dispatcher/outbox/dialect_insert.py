"""INSERTs that know what to do with a row that is there already, in each database's own words.

SQLAlchemy's dialects take a seventh of the time of `import dispatcher`, and a shop has one of them: each is loaded when
it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from sqlalchemy.dialects import mysql, postgresql

MYSQL = frozenset({"mysql", "mariadb"})


def conflict_insert(dialect: str, table: sa.Table) -> postgresql.Insert:
    """`INSERT ... ON CONFLICT` of PostgreSQL or SQLite, which share its methods."""
    module: Any = import_module(f"sqlalchemy.dialects.{dialect}")
    made: postgresql.Insert = module.insert(table)
    return made


def duplicate_insert(table: sa.Table) -> mysql.Insert:
    """`INSERT ... ON DUPLICATE KEY UPDATE` of MySQL and MariaDB."""
    from sqlalchemy.dialects import mysql

    return mysql.insert(table)
