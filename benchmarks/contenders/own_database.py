"""A database of its own for a peer that keeps its queue in PostgreSQL: on the lab's server, anew for each drain.

The lab's own database would not do: cleaning it drops tables that were added, but not the types, functions and schemas.
"""

from __future__ import annotations

import sqlalchemy as sa

from benchmarks.lab import Lab


def create(lab: Lab, name: str) -> str:
    """Drop and create it; answers its URL, without SQLAlchemy's name of a driver."""
    with _autocommit(sa.make_url(lab.postgres.url)) as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return url(lab, name)


def url(lab: Lab, name: str) -> str:
    """Where it is."""
    found = sa.make_url(lab.postgres.url).set(drivername="postgresql", database=name)
    return found.render_as_string(hide_password=False)


def settle_down(lab: Lab, name: str) -> None:
    """What `Lab.settle_down` does for the lab's own: statistics, as autovacuum would have made them by then."""
    with _autocommit(sa.make_url(lab.postgres.url).set(database=name)) as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")


def _autocommit(where: sa.URL) -> sa.Connection:
    return sa.create_engine(where, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect()
