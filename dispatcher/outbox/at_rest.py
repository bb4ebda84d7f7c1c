"""Whether this outbox seals what it stores of people, and with which key.

The switch is in the database, so that a forgotten process does not go on in plain text: it lacks the key, and says so.
It holds a key's name. Every process seals with the key of that name, wherever it stands among its own, so keys can be
handed out in any order before the switch is moved to a new one.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.installed import payload_key
from dispatcher.outbox.sealing import NO_KEY, keys
from dispatcher.outbox.tables import installation

Seal = Callable[[str], str]


def sealer(connection: sa.Connection) -> Seal:
    """What seals a text before it is written; leaves it as it is where the outbox does not seal.

    Raises:
        ConfigurationError: The outbox seals, and this process has not its key. Nothing was written.
    """
    name = payload_key(connection)
    if name is None:
        return str
    if name not in keys():
        raise ConfigurationError(NO_KEY.format(name=name))
    return lambda text: keys().seal(name, text)


def require_key(connection: sa.Connection) -> None:
    """See that this process can read what is sealed now; asked only when it has met a text that it cannot open.

    Raises:
        ConfigurationError: It cannot.
    """
    name = connection.execute(sa.select(installation.c.payload_key)).scalar_one()  # not from memory: it may have moved
    if name is not None and name not in keys():
        raise ConfigurationError(NO_KEY.format(name=name))
    if not keys().names:
        raise ConfigurationError("stored payloads need a key: set DISPATCHER_ENCRYPTION_KEYS")
