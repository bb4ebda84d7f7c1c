"""The outbox as it begins: events, attempts, dead letters, accounts, permits, workers, installation.

A snapshot of the tables of this release; later releases change them by later migrations, never here.
"""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from dispatcher.outbox.moment import Moment, statement_now

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_MYSQL: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}.items()
}
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers only INTEGER PRIMARY KEY by itself


def _long_text() -> TypeEngine[str]:
    return sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")  # MySQL's TEXT ends at 64 KiB


events = sa.Table(
    "outbox_events",
    metadata,
    sa.Column("id", _ROW_ID, sa.Identity(), primary_key=True, comment="enqueue order"),
    sa.Column("event_id", sa.Uuid(), nullable=False, comment="the public name of the event"),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("event_type", sa.String(64), nullable=False),
    sa.Column("key", sa.String(255), nullable=False, comment="idempotency key, as the shop wrote it"),
    sa.Column("fact", sa.String(64), nullable=False, comment="SHA-256 of the fact the key names; unique per account"),
    sa.Column("fingerprint", sa.String(80), comment="versioned hash of the content"),
    sa.Column("lead", sa.String(64), nullable=False, comment="keyed hash of the e-mail"),
    sa.Column("ordering", sa.String(8), nullable=False, server_default="lead", comment="lead, or none: no line"),
    sa.Column("subject", sa.String(64), comment="hash of what a supersede rule is about"),
    sa.Column("moots", sa.String(255), comment="types whose events on the same subject it makes moot"),
    sa.Column("payload", _long_text(), nullable=False, comment="JSON, exactly as it is sent"),
    sa.Column("attached", _long_text(), comment="JSON that is not sent"),
    sa.Column("state", sa.String(16), nullable=False, server_default="pending"),
    sa.Column("reason", sa.String(32)),
    sa.Column("available_at", Moment(), nullable=False, server_default=statement_now(), comment="due"),
    sa.Column("line_at", Moment(), nullable=False, server_default=statement_now(), comment="place in its lead's line"),
    sa.Column("ready_at", Moment(), server_default=statement_now(), comment="a candidate from then on; NULL: none"),
    sa.Column("behind", sa.SmallInteger(), nullable=False, server_default="0", comment="guess: its lead has others"),
    sa.Column("attempt", sa.Integer(), nullable=False, server_default="0", comment="numbers the tries, and fences"),
    sa.Column("failures", sa.Integer(), nullable=False, server_default="0", comment="what the budget counts"),
    sa.Column("postponed", sa.Integer(), nullable=False, server_default="0", comment="unreachable tries in a row"),
    sa.Column("lease_until", Moment()),
    sa.Column("leased_by", sa.String(96)),
    sa.Column("cancel_reason", sa.String(32), comment="in flight: end cancelled unless delivered"),
    sa.Column("expires_at", Moment(), comment="worthless from then on"),
    sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
    sa.Column("budget_from", Moment(), nullable=False, server_default=statement_now(), comment="age counts from here"),
    sa.Column("ended_at", Moment(), comment="delivered, dead or cancelled since"),
    sa.Column("event_uuid", sa.String(64), comment="RD Station's receipt"),
    sa.CheckConstraint("state IN ('cancelled', 'dead', 'delivered', 'in_flight', 'pending')", name="state"),
    sa.CheckConstraint("ordering IN ('lead', 'none')", name="ordering"),
    sa.CheckConstraint("behind IN (0, 1)", name="behind"),
    sa.CheckConstraint(
        sa.and_(*(sa.column(name) != "" for name in ("account", "event_type", "lead"))),  # quoted: MySQL 8 has LEAD()
        name="named",
    ),
    sa.CheckConstraint("length(fact) = 64", name="fact"),
    sa.CheckConstraint("failures >= 0 AND postponed >= 0 AND attempt >= failures", name="counts"),
    sa.CheckConstraint(
        "(state = 'in_flight') = (lease_until IS NOT NULL) AND (state <> 'in_flight' OR attempt > 0)", name="lease"
    ),
    sa.CheckConstraint("ready_at IS NULL OR (state = 'pending' AND ready_at >= available_at)", name="ready"),
    sa.CheckConstraint("cancel_reason IS NULL OR state = 'in_flight'", name="cancel_reason"),
    sa.CheckConstraint("(state IN ('pending', 'in_flight')) = (ended_at IS NULL)", name="ended"),
    sa.CheckConstraint(
        "state <> 'cancelled' OR (reason IS NOT NULL AND reason IN "
        "('cancelled', 'discarded', 'expired', 'forgotten', 'merged_late', 'superseded'))",
        name="cancelled",
    ),
    sa.CheckConstraint("state <> 'dead' OR reason IS NOT NULL", name="dead"),
    **_MYSQL,
)


def _on_mysql(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name in {"mysql", "mariadb"}


def _on_others(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name not in {"mysql", "mariadb"}


def _partial(name: str, *columns: sa.Column[Any], where: str, unique: bool = False) -> None:
    condition = sa.text(where)  # literals, not parameters: a generic plan cannot match a parameter
    sa.Index(name, *columns, unique=unique, postgresql_where=condition, sqlite_where=condition).ddl_if(
        callable_=_on_others
    )


def _plain(name: str, *columns: sa.Column[Any]) -> None:
    sa.Index(name, *columns).ddl_if(callable_=_on_mysql)


_e = events.c
sa.Index("uq_outbox_events_fact", _e.account, _e.fact, unique=True)
sa.Index("uq_outbox_events_event_id", _e.event_id, unique=True)
# The claim reads candidates in this order; blocked, leased and ended events are not in it.
_partial("ix_outbox_events_ready", _e.account, _e.behind, _e.ready_at, _e.id, where="ready_at IS NOT NULL")
_plain("ix_outbox_events_ready", _e.account, _e.behind, _e.ready_at, _e.id)
# "The oldest pending event of this lead", read beside each candidate and after each settlement.
_partial(
    "ix_outbox_events_line",
    _e.account, _e.lead, _e.line_at, _e.id,
    where="state = 'pending' AND ordering = 'lead'",
)  # fmt: skip
_plain("ix_outbox_events_line", _e.account, _e.lead, _e.ordering, _e.state, _e.line_at, _e.id)
# "Is one of this lead in flight", and the safety net against two.
_partial(
    "uq_outbox_events_in_flight",
    _e.account, _e.lead,
    where="state = 'in_flight' AND ordering = 'lead'",
    unique=True,
)  # fmt: skip
# "Is there an event that makes this one moot", read beside candidates that a supersede rule is about.
_partial("ix_outbox_events_moots", _e.account, _e.subject, where="moots IS NOT NULL")
_plain("ix_outbox_events_moots", _e.account, _e.subject)
# The sweep: leases that have ended, events past their business expiry, events that sleep.
_partial("ix_outbox_events_lease", _e.lease_until, _e.id, where="state = 'in_flight'")
_plain("ix_outbox_events_lease", _e.lease_until, _e.id)
_partial("ix_outbox_events_expiry", _e.expires_at, _e.id, where="state = 'pending' AND expires_at IS NOT NULL")
_plain("ix_outbox_events_expiry", _e.state, _e.expires_at, _e.id)
_partial("ix_outbox_events_asleep", _e.id, where="state = 'pending' AND ready_at IS NULL")
_plain("ix_outbox_events_asleep", _e.state, _e.ready_at, _e.id)

attempts = sa.Table(
    "outbox_attempts",
    metadata,
    sa.Column("event", _ROW_ID, sa.ForeignKey(events.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("verdict", sa.String(24), nullable=False),
    sa.Column("stage", sa.String(16), comment="how far the request got; NULL: unknown"),
    sa.Column("status", sa.SmallInteger(), comment="HTTP status"),
    sa.Column("detail", sa.Text(), comment="redacted"),
    sa.Column("errors", sa.Text(), comment="RD Station's field errors, JSON, redacted"),
    sa.Column("excerpt", sa.Text(), comment="start of the answer, redacted"),
    sa.Column("worker", sa.String(96)),
    sa.Column("seconds", sa.Float(), comment="duration of the request"),
    sa.Column("ended_at", Moment(), nullable=False),
    sa.CheckConstraint("attempt > 0", name="attempt"),
    **_MYSQL,
)
sa.Index("ix_outbox_attempts_verdict", attempts.c.verdict, attempts.c.ended_at)

dead_letters = sa.Table(
    "outbox_dead_letters",
    metadata,
    sa.Column("id", _ROW_ID, sa.Identity(), primary_key=True),
    sa.Column("event", _ROW_ID, sa.ForeignKey(events.c.id, ondelete="CASCADE"), nullable=False),
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
    sa.CheckConstraint("open_event IS NULL OR open_event = event", name="open_event"),
    sa.CheckConstraint(
        "(resolution IS NULL) = (open_event IS NOT NULL) AND (resolution IS NULL) = (resolved_at IS NULL) "
        "AND (resolution IS NULL OR resolution IN ('replayed', 'discarded', 'forgotten')) "
        "AND (resolution IS NULL OR resolved_by IS NOT NULL)",
        name="resolution",
    ),
    sa.UniqueConstraint("open_event"),
    **_MYSQL,
)
sa.Index("ix_outbox_dead_letters_event", dead_letters.c.event)
sa.Index("ix_outbox_dead_letters_created_at", dead_letters.c.created_at)

accounts = sa.Table(
    "outbox_accounts",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("turn_at", Moment(), comment="wants to be claimed from then on; NULL: no work known"),
    sa.Column("paused_at", Moment()),
    sa.Column("paused_by", sa.String(128)),
    sa.Column("pause_note", sa.Text()),
    sa.Column("suspended_at", Moment()),
    sa.Column("suspend_reason", sa.String(32)),
    sa.Column("suspend_detail", sa.Text()),
    sa.Column("probe_at", Moment(), comment="the next probe of a suspended account"),
    sa.Column("throttled_until", Moment()),
    sa.Column("proven_until", Moment(), comment="trusted with parallel sends until then; else one at a time"),
    sa.Column("suspended_types", sa.Text(), comment="JSON: event type -> reason, since, probe_at"),
    sa.Column("streaks", sa.Text(), comment="JSON: rejections alike and strange answers in a row"),
    sa.Column("breaker", sa.Text(), comment="JSON: failures in a row, open until"),
    sa.Column("holds", sa.Text(), comment="JSON: intervals in which age did not count"),
    sa.Column("credentials", sa.Text(), comment="encrypted: access and refresh tokens"),
    sa.Column("token_version", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("token_expires_at", Moment()),
    sa.Column("refresh_owner", sa.String(96)),
    sa.Column("refresh_until", Moment(), comment="lease of the one refresh in flight"),
    sa.Column("refresh_not_before", Moment(), comment="after a failed refresh"),
    sa.Column("seed", sa.String(64), comment="hash of the environment's credentials when last read"),
    sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
    sa.CheckConstraint("account <> ''", name="named"),
    sa.CheckConstraint("(suspended_at IS NULL) = (suspend_reason IS NULL)", name="suspended"),
    sa.CheckConstraint("paused_at IS NULL OR paused_by IS NOT NULL", name="paused"),
    **_MYSQL,
)
sa.Index("ix_outbox_accounts_turn_at", accounts.c.turn_at)
sa.Index("ix_outbox_accounts_probe_at", accounts.c.probe_at)

permits = sa.Table(
    "outbox_permits",
    metadata,
    sa.Column("event", _ROW_ID, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("lead", sa.String(64), nullable=False),
    sa.Column("counts_until", Moment(), nullable=False, comment="in the account's window until then"),
    sa.Column("lead_counts_until", Moment(), nullable=False, comment="in the lead's window until then"),
    **_MYSQL,
)
sa.Index("ix_outbox_permits_account", permits.c.account, permits.c.counts_until)
sa.Index("ix_outbox_permits_lead", permits.c.account, permits.c.lead, permits.c.lead_counts_until)
sa.Index("ix_outbox_permits_over", permits.c.lead_counts_until)

workers = sa.Table(
    "outbox_workers",
    metadata,
    sa.Column("worker", sa.String(96), primary_key=True),
    sa.Column("started_at", Moment(), nullable=False, server_default=statement_now()),
    sa.Column("progress_at", Moment(), nullable=False, server_default=statement_now(), comment="last claimed or idle"),
    sa.Column("claimed", sa.BigInteger(), nullable=False, server_default="0"),
    **_MYSQL,
)

installation = sa.Table(
    "outbox_installation",
    metadata,
    sa.Column("id", sa.SmallInteger(), primary_key=True, autoincrement=False),
    sa.Column("lead_secret", sa.String(64), nullable=False, comment="hex key of the lead hashes"),
    sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
    sa.CheckConstraint("id = 1", name="one"),
    **_MYSQL,
)


def upgrade() -> None:
    metadata.create_all(op.get_bind(), checkfirst=False)
    op.get_bind().execute(sa.insert(installation), {"id": 1, "lead_secret": secrets.token_hex(32)})
    op.get_bind().execute(sa.insert(accounts), {"account": "default"})


def downgrade() -> None:
    metadata.drop_all(op.get_bind(), checkfirst=False)
