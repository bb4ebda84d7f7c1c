"""What concerns all accounts at once, supersede by lead, owed wakes, and dead letters that turned out to have arrived.

Rolling deploys: new tables, and a column that is NULL for whoever does not know it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from dispatcher.outbox.moment import Moment, statement_now

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}.items()
}
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers only INTEGER PRIMARY KEY by itself

_RESOLUTION = "ck_outbox_dead_letters_resolution"
_RESOLVED = (
    "(resolution IS NULL) = (open_event IS NOT NULL) AND (resolution IS NULL) = (resolved_at IS NULL) "
    "AND (resolution IS NULL OR resolution IN ('replayed', 'discarded', 'forgotten'{more})) "
    "AND (resolution IS NULL OR resolved_by IS NOT NULL)"
)
_BEFORE, _AFTER = _RESOLVED.format(more=""), _RESOLVED.format(more=", 'arrived'")


def upgrade() -> None:
    moots = "types whose earlier events of the same lead it makes moot"
    op.add_column("outbox_events", sa.Column("lead_moots", sa.String(255), comment=moots))
    if op.get_bind().dialect.name in {"mysql", "mariadb"}:
        op.create_index("ix_outbox_events_lead_moots", "outbox_events", ["account", "lead", "lead_moots"])
    else:
        some = sa.text("lead_moots IS NOT NULL")
        columns = ["account", "lead"]
        op.create_index(
            "ix_outbox_events_lead_moots", "outbox_events", columns, postgresql_where=some, sqlite_where=some
        )
    op.create_table(
        "outbox_fleet",
        sa.Column("id", sa.SmallInteger(), nullable=False, autoincrement=False),
        sa.Column("breaker", sa.Text(), comment="JSON: the breaker before RD Station as a whole"),
        sa.Column("failing", sa.Text(), comment="JSON: accounts that have failed since the last success of any"),
        sa.Column("probe_event", _ROW_ID, comment="the one event that asks for all while the breaker is half-open"),
        sa.Column("probe_attempt", sa.Integer()),
        sa.Column("probe_until", Moment(), comment="the end of its lease"),
        sa.Column("holds", sa.Text(), comment="JSON: intervals in which no account's age counted"),
        sa.Column("paused_at", Moment(), comment="a person has paused all: new accounts begin paused"),
        sa.Column("paused_by", sa.String(128)),
        sa.Column("pause_note", sa.Text()),
        sa.CheckConstraint("id = 1", name=op.f("ck_outbox_fleet_one")),
        sa.CheckConstraint("(probe_event IS NULL) = (probe_until IS NULL)", name=op.f("ck_outbox_fleet_probe")),
        sa.CheckConstraint("paused_at IS NULL OR paused_by IS NOT NULL", name=op.f("ck_outbox_fleet_paused")),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_fleet"),
        **_MYSQL,
    )
    op.get_bind().execute(sa.text("INSERT INTO outbox_fleet (id) VALUES (1)"))
    op.create_table(
        "outbox_owed_wakes",
        sa.Column("id", _ROW_ID, sa.Identity(), nullable=False),
        sa.Column("event", _ROW_ID, nullable=False, comment="has left its lead's line; the next one is to be woken"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_owed_wakes"),
        **_MYSQL,
    )
    _resolve(_BEFORE, _AFTER)


def downgrade() -> None:
    op.execute("UPDATE outbox_dead_letters SET resolution = 'discarded' WHERE resolution = 'arrived'")
    _resolve(_AFTER, _BEFORE)
    op.drop_table("outbox_owed_wakes")
    op.drop_table("outbox_fleet")
    op.drop_index("ix_outbox_events_lead_moots", "outbox_events")
    op.drop_column("outbox_events", "lead_moots")


def _resolve(before: str, after: str) -> None:
    """Change how a dead letter may be resolved. SQLite has no ALTER for it, and copies the table."""
    with op.batch_alter_table("outbox_dead_letters", copy_from=_dead_letters(before)) as letters:
        letters.drop_constraint(op.f(_RESOLUTION), type_="check")
        letters.create_check_constraint(op.f(_RESOLUTION), sa.text(after))


def _long_text() -> TypeEngine[str]:
    return sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # MySQL's TEXT ends at 64 KiB


def _dead_letters(resolution: str) -> sa.Table:
    table = sa.Table(
        "outbox_dead_letters",
        sa.MetaData(),
        sa.Column("id", _ROW_ID, sa.Identity(), nullable=False),
        sa.Column("event", _ROW_ID, nullable=False),
        sa.Column("open_event", _ROW_ID, comment="the event while the letter is open; unique"),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("errors", sa.Text(), comment="field errors, JSON"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
        sa.Column("resolved_at", Moment()),
        sa.Column("resolution", sa.String(16)),
        sa.Column("resolved_by", sa.String(128)),
        sa.Column("note", sa.Text()),
        sa.Column("payload_before", _long_text(), comment="what a correction replaced"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_dead_letters"),
        sa.ForeignKeyConstraint(
            ["event"], ["outbox_events.id"], name="fk_outbox_dead_letters_event", ondelete="CASCADE"
        ),
        sa.CheckConstraint("open_event IS NULL OR open_event = event", name=op.f("ck_outbox_dead_letters_open_event")),
        sa.CheckConstraint(resolution, name=op.f(_RESOLUTION)),
        sa.UniqueConstraint("open_event", name="uq_outbox_dead_letters_open_event"),
    )
    sa.Index("ix_outbox_dead_letters_event", table.c.event)
    sa.Index("ix_outbox_dead_letters_created_at", table.c.created_at)
    return table
