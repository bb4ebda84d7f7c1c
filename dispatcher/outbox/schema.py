"""The schema's version: bring a database up to date, or say what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dispatcher.errors import NotMigrated, OperationRefused
from dispatcher.outbox.tables import VERSION_TABLE, metadata

if TYPE_CHECKING:  # Alembic is loaded by migrating, not by enqueueing
    from alembic.config import Config

_LOCK = 7_210_455_119  # any number, the same in every process that migrates


def upgrade(engine: sa.Engine, revision: str = "head") -> list[str]:
    """Bring the outbox tables to a revision; several processes may do it at once.

    Returns:
        The revisions that were applied, oldest first; empty if there was nothing to do.

    Raises:
        OperationRefused: A table with one of our names exists and is not ours; nothing was changed.
    """
    from alembic import command  # heavy, and only this command needs it

    with _alone(engine) as connection:
        before = _applied(connection)
        if before is None:
            _refuse_strangers(connection)
        if connection.dialect.name == "postgresql":  # each migration has its own transaction, and may step out of it
            connection.commit()
        command.upgrade(_config(connection), revision)
        connection.commit()
        return _between(connection, before)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Take the outbox tables back to a revision; `base` drops them with all they hold."""
    from alembic import command  # see above

    with _alone(engine) as connection:
        command.downgrade(_config(connection), revision)
        connection.commit()


def require_current(engine: sa.Engine) -> None:
    """Make sure that this release's tables are there.

    Those of a later release serve as well: its migrations only expand (`migrations/script.py.mako`), and in a rolling
    deploy they come before its processes.

    Raises:
        NotMigrated: They are missing or of an earlier release; the message says which and what to do.
    """
    with engine.connect() as connection:
        applied, wanted = _applied(connection), _head(connection)
    if applied is None:
        raise NotMigrated("the outbox tables are missing from this database: run `dispatcher migrate`")
    if wanted is None or applied < wanted:  # revisions are numbers of one width, in their order
        raise NotMigrated(
            f"the outbox tables are at revision {applied}, this release needs {wanted}: run `dispatcher migrate`"
        )


def _applied(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()  # noqa: S608 - a constant
    return found


def _refuse_strangers(connection: sa.Connection) -> None:
    taken = sorted(metadata.tables.keys() & set(sa.inspect(connection).get_table_names()))
    if taken:
        raise OperationRefused(
            f"tables of our names exist, but not our {VERSION_TABLE}: {', '.join(taken)}. If an earlier migration "
            "broke off half-way, drop them and migrate again; if they are somebody else's, give us a database or "
            "schema of our own"
        )


def _between(connection: sa.Connection, before: str | None) -> list[str]:
    from alembic.script import ScriptDirectory  # see above

    scripts = ScriptDirectory.from_config(_config(connection))
    after = _applied(connection)
    steps = scripts.iterate_revisions(after, before or "base") if after != before else ()
    return [step.revision for step in steps][::-1]


def _head(connection: sa.Connection) -> str | None:
    from alembic.script import ScriptDirectory  # see above

    return ScriptDirectory.from_config(_config(connection)).get_current_head()


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config  # see above

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _scripts() -> Path:
    package = Path(__file__).resolve().parent.parent
    inside = package / "_migrations"  # in a wheel; in a checkout they stand beside the package
    return inside if inside.is_dir() else package.parent / "migrations"


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that holds the lock of migrations until it is closed."""
    with engine.connect() as connection:
        match connection.dialect.name:
            case "postgresql":
                _wait_for_lock(connection)
            case "mysql" | "mariadb":
                got = connection.execute(sa.text("SELECT GET_LOCK(:lock, 600)"), {"lock": f"dispatcher-{_LOCK}"})
                if got.scalar_one() != 1:
                    raise OperationRefused("another migration has been running for ten minutes: wait for it, or end it")
                connection.commit()
            case _:
                pass  # SQLite's BEGIN IMMEDIATE lets one writer in
        try:
            yield connection
        finally:
            connection.rollback()
            match connection.dialect.name:
                case "postgresql":
                    connection.execute(sa.text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
                case "mysql" | "mariadb":
                    connection.execute(sa.text("SELECT RELEASE_LOCK(:lock)"), {"lock": f"dispatcher-{_LOCK}"})
                case _:
                    pass
            connection.commit()


def _wait_for_lock(connection: sa.Connection) -> None:
    """PostgreSQL's, in short transactions: whoever builds an index concurrently waits for all that began before it."""
    got = sa.text("SELECT pg_try_advisory_lock(:lock)")
    while not connection.execute(got, {"lock": _LOCK}).scalar_one():
        connection.execute(sa.text("SELECT pg_sleep(:seconds)"), {"seconds": 0.1})
        connection.commit()
    connection.commit()
