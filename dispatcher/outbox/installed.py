"""What `dispatcher migrate` left in the database for every process to read once."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import sqlalchemy as sa

from dispatcher.errors import NotMigrated
from dispatcher.outbox.tables import installation

_SECRETS: WeakKeyDictionary[sa.Engine, bytes] = WeakKeyDictionary()


def lead_secret(connection: sa.Connection) -> bytes:
    """The key of the lead hashes, made by the first migration; read once for each engine.

    It lives in the database because every producer, in every language, must name a lead alike; a hash with a key that
    is not in a leaked file or log cannot be matched against lists of addresses.

    Raises:
        NotMigrated: The tables are missing; the transaction is still usable.
    """
    known = _SECRETS.get(connection.engine)
    if known is not None:
        return known
    try:
        with connection.begin_nested():  # on PostgreSQL a failed statement ends the transaction around it
            found = connection.execute(sa.select(installation.c.lead_secret)).scalar_one_or_none()
    except sa.exc.DatabaseError as error:
        raise NotMigrated("the outbox tables are missing from this database: run `dispatcher migrate`") from error
    if found is None:
        raise NotMigrated("outbox_installation is empty: run `dispatcher migrate`")
    _SECRETS[connection.engine] = bytes.fromhex(found)
    return _SECRETS[connection.engine]
