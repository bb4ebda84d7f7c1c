"""A schema as the database itself describes it, one line for each column, constraint and index."""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa

_POSTGRESQL = """
SELECT concat_ws(' ', 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                 pg_get_expr(d.adbin, d.adrelid), a.attidentity, col_description(c.oid, a.attnum))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


def schema_of(connection: sa.Connection, *, without: str) -> set[str]:
    """Everything that tells two schemas apart, except the order of columns and the table named `without`."""
    read: Callable[[sa.Connection], set[str]] = {
        "postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mysql, "mariadb": _mysql
    }[connection.dialect.name]  # fmt: skip
    return {line for line in read(connection) if without not in line}


def _postgresql(connection: sa.Connection) -> set[str]:
    return set(connection.exec_driver_sql(_POSTGRESQL).scalars())


def _mysql(connection: sa.Connection) -> set[str]:
    return {
        line
        for table in sa.inspect(connection).get_table_names()
        for line in _lines(table, connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one()[1])
    }


def _sqlite(connection: sa.Connection) -> set[str]:
    found = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {line for name, sql in found for line in _lines(name, _one_part_a_line(_plain(sql)))}


def _plain(ddl: str) -> str:
    return ddl.replace('"', "")  # the name of a table that was copied to change it comes back quoted


def _one_part_a_line(ddl: str) -> str:
    """SQLite keeps the text of CREATE TABLE, and ADD COLUMN writes into its middle: break it at its own commas."""
    parts, depth = [""], 0
    for char in ddl:
        depth += {"(": 1, ")": -1}.get(char, 0)
        outermost = char in "()" and depth == (char == "(")  # what stands inside is a list of parts
        if outermost or (char == "," and depth == 1):
            parts += [""]
        else:
            parts[-1] += char
    return "\n".join(part for part in map(str.strip, parts) if part)


def _lines(table: str, ddl: str) -> list[str]:
    ddl = re.sub(r"AUTO_INCREMENT=\d+ ", "", ddl)
    return [f"{table}: {' '.join(line.split()).rstrip(',')}" for line in ddl.splitlines()]
