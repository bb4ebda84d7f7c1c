"""What `dispatcher migrate` left in the database for every process to read once."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from dispatcher.errors import NotMigrated
from dispatcher.outbox.tables import installation


class _Installed(NamedTuple):
    lead_secret: bytes
    payload_key: str | None


_KNOWN: WeakKeyDictionary[sa.Engine, _Installed] = WeakKeyDictionary()


def lead_secret(connection: sa.Connection) -> bytes:
    """The key of the lead hashes, made by the first migration; read once for each engine.

    It lives in the database because every producer, in every language, must name a lead alike; a hash with a key that
    is not in a leaked file or log cannot be matched against lists of addresses.

    Raises:
        NotMigrated: The tables are missing; the transaction is still usable.
    """
    return _installed(connection).lead_secret


def payload_key(connection: sa.Connection) -> str | None:
    """The name of the key that payloads are sealed with, None where they are not; read once for each engine.

    Raises:
        NotMigrated: As above.
    """
    return _installed(connection).payload_key


def forget_installed(engine: sa.Engine) -> None:
    """Read it anew for this engine, because it was changed."""
    _KNOWN.pop(engine, None)


def _installed(connection: sa.Connection) -> _Installed:
    known = _KNOWN.get(connection.engine)
    if known is not None:
        return known
    query = sa.select(installation.c.lead_secret, installation.c.payload_key)
    try:
        with connection.begin_nested():  # on PostgreSQL a failed statement ends the transaction around it
            found = connection.execute(query).one_or_none()
    except sa.exc.DatabaseError as error:
        raise NotMigrated(
            "the outbox tables are missing from this database, or of an earlier release: run `dispatcher migrate`"
        ) from error
    if found is None:
        raise NotMigrated("outbox_installation is empty: run `dispatcher migrate`")
    _KNOWN[connection.engine] = _Installed(bytes.fromhex(found.lead_secret), found.payload_key)
    return _KNOWN[connection.engine]
