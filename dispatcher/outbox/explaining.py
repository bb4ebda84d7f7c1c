"""What the database raises, in words that say what to do and hold no data: its own texts quote rows and passwords."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from dispatcher.errors import DispatcherError, NotMigrated
from dispatcher.outbox.schema import require_current


@contextmanager
def explained(engine: sa.Engine) -> Iterator[None]:
    """Turn SQLAlchemy's errors into ours: not migrated, not reachable, or refused.

    Raises:
        NotMigrated: The tables are missing or of another version.
        DispatcherError: The database cannot be reached, or refused a statement.
    """
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise _explanation(engine, error) from None


def reachable(engine: sa.Engine) -> bool:
    """True if a connection can be opened and answers."""
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError:
        return False
    return True


def where(engine: sa.Engine) -> str:
    """Host, port and database, or the file; never the user, the password or the query of the URL."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return str(Path(url.database or "").absolute())
    return f"{url.host or 'localhost'}{f':{url.port}' if url.port else ''}/{url.database}"


def _explanation(engine: sa.Engine, error: sa.exc.SQLAlchemyError) -> DispatcherError:
    if not reachable(engine):
        return DispatcherError(
            f"the database at {where(engine)} cannot be reached ({_kind(error)}): "
            "check that it runs, and the host, user and password in DISPATCHER_DATABASE_URL"
        )
    try:
        require_current(engine)
    except NotMigrated as missing:
        return missing
    except sa.exc.SQLAlchemyError as second:
        error = second
    return DispatcherError(
        f"the database at {where(engine)} refused a statement ({_kind(error)}): nothing was changed by it; "
        "its own log has the details, and trying again is safe"
    )


def _kind(error: sa.exc.SQLAlchemyError) -> str:
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None)
    return type(original or error).__name__ + (f", SQLSTATE {state}" if state else "")
