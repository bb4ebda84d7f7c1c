"""The composition root of the commands: settings are read once, the engine is made here and disposed of here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatcher import shop
from dispatcher.clock import Clock, SystemClock
from dispatcher.errors import NotMigrated
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.explaining import explained
from dispatcher.settings import Settings, load_settings

if TYPE_CHECKING:  # the commands hand the engine on; only the outbox knows what it is
    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class Root:
    """What a command is given."""

    settings: Settings
    engine: Engine
    clock: Clock


@contextmanager
def opened(settings: Settings | None = None, *, creates: bool = False) -> Iterator[Root]:
    """Everything a command needs, from the `DISPATCHER_` settings; nothing is connected before it is used.

    Args:
        settings: Those read already; the environment and `.env` if None.
        creates: True for the command that may create a SQLite file.

    Raises:
        ConfigurationError: A setting is refused, or the database's driver is not installed.
        NotMigrated: The database or its tables are not there.
        DispatcherError: The database cannot be reached, or refused a statement.
    """
    settings = settings or load_settings()
    path = settings.sqlite_path
    if path is not None and not creates and not path.exists():  # SQLite would create an empty one
        raise NotMigrated(f"there is no database at {path.absolute()} yet: run `dispatcher migrate`")
    if path is not None and creates:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(settings.database_url.get_secret_value())
    shop.connect(settings)
    try:
        with explained(engine):
            yield Root(settings, engine, SystemClock())
    finally:
        engine.dispose()
