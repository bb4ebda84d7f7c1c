"""All checks in turn. What one of them needs and another has found missing is left out, not guessed."""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.admin.checks import broker, configuration, database
from dispatcher.admin.checks.finding import Finding, error, ok
from dispatcher.admin.root import opened
from dispatcher.errors import ConfigurationError, DispatcherError, NotMigrated
from dispatcher.settings import load_settings


def examine() -> Iterator[Finding]:
    """Look at the settings, the database, the schema, the broker, the credentials and the limits."""
    try:
        settings = load_settings()
    except ConfigurationError as refused:
        for line in str(refused).splitlines():
            yield error("settings.invalid", line, "correct it in the environment or in .env")
        return
    yield ok("settings.read", "the settings are valid")
    yield from configuration.examine(settings)
    yield from broker.examine(settings)
    try:
        with opened(settings) as root:
            yield from database.examine(root)
    except NotMigrated as missing:
        yield error("schema.missing", str(missing), "run `dispatcher migrate`")
    except ConfigurationError as refused:
        yield error("database.driver", str(refused), "install the extra that the message names")
    except DispatcherError as failed:
        yield error("database.unreachable", str(failed), "start the database, or correct DISPATCHER_DATABASE_URL")
