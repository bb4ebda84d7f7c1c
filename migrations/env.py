"""Alembic's environment. Run by `dispatcher migrate`, which passes the open connection in `attributes`.

All of it lives beside a shop's own tables and migrations: our version table has our prefix, and autogenerate sees our
tables only.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context

from dispatcher.outbox.indexes import metadata
from dispatcher.outbox.tables import VERSION_TABLE


def _ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compare_to: Any) -> bool:
    return kind != "table" or (name is not None and name.startswith("outbox_") and name != VERSION_TABLE)


def _run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        include_object=_ours,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run(context.config.attributes["connection"])
