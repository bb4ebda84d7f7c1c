"""The tables; their indexes are in `indexes.py`. Migrations create both, and a test compares them on every database.

A producer in another language may insert into `outbox_events`; `docs/producers.md` lists the columns it fills, and
the CHECK constraints below refuse what could not be.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from dispatcher.lifecycle import CANCEL_REASONS, State
from dispatcher.outbox.moment import Moment, statement_now
from dispatcher.outbox.sealing import MediumText, SealedText

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

VERSION_TABLE = "outbox_alembic_version"
"""Alembic's own table, under our prefix so that it lives beside a shop's own migrations."""

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers only INTEGER PRIMARY KEY by itself


def _long_text() -> TypeEngine[str]:
    return sa.Text().with_variant(MediumText(), "mysql", "mariadb")  # MySQL's TEXT ends at 64 KiB


def _words(words: frozenset[str] | type[State]) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


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
    sa.Column("whole", sa.String(64), comment="retired types: the fact of the order or cart that it is, or is part of"),
    sa.Column("sent_with", sa.BigInteger(), comment="row of the order or cart whose request carries it as a line"),
    sa.Column("lead_moots", sa.String(255), comment="types whose earlier events of the same lead it makes moot"),
    sa.Column("payload", SealedText(), nullable=False, comment="JSON, exactly as it is sent"),
    sa.Column("attached", SealedText(), comment="JSON that is not sent"),
    sa.Column("state", sa.String(16), nullable=False, server_default=State.PENDING.value),
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
    sa.Column("traceparent", sa.String(55), comment="W3C trace context of the request that enqueued it"),
    sa.CheckConstraint(f"state IN ({_words(State)})", name="state"),
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
        f"state <> 'cancelled' OR (reason IS NOT NULL AND reason IN ({_words(CANCEL_REASONS)}))", name="cancelled"
    ),
    sa.CheckConstraint("state <> 'dead' OR reason IS NOT NULL", name="dead"),
)

attempts = sa.Table(
    "outbox_attempts",
    metadata,
    sa.Column("event", _ROW_ID, sa.ForeignKey(events.c.id, ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("verdict", sa.String(24), nullable=False),
    sa.Column("sent_as", sa.String(64), comment="the event type of the request, if it was the successor's"),
    sa.Column("stage", sa.String(16), comment="how far the request got; NULL: unknown"),
    sa.Column("status", sa.SmallInteger(), comment="HTTP status"),
    sa.Column("detail", sa.Text(), comment="redacted"),
    sa.Column("errors", sa.Text(), comment="RD Station's field errors, JSON, redacted"),
    sa.Column("excerpt", sa.Text(), comment="start of the answer, redacted"),
    sa.Column("worker", sa.String(96)),
    sa.Column("seconds", sa.Float(), comment="duration of the request"),
    sa.Column("ended_at", Moment(), nullable=False),
    sa.CheckConstraint("attempt > 0", name="attempt"),
)

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
    sa.Column("payload_before", SealedText(), comment="what a correction replaced"),
    sa.CheckConstraint("open_event IS NULL OR open_event = event", name="open_event"),
    sa.CheckConstraint(
        "(resolution IS NULL) = (open_event IS NOT NULL) AND (resolution IS NULL) = (resolved_at IS NULL) "
        "AND (resolution IS NULL OR resolution IN ('replayed', 'discarded', 'forgotten', 'arrived')) "
        "AND (resolution IS NULL OR resolved_by IS NOT NULL)",
        name="resolution",
    ),
    sa.UniqueConstraint("open_event"),
)

ledger = sa.Table(
    "outbox_ledger",
    metadata,
    sa.Column("account", sa.String(64), primary_key=True),
    sa.Column("fact", sa.String(64), primary_key=True, comment="as in outbox_events"),
    sa.Column("event_id", sa.Uuid(), nullable=False),
    sa.Column("event_type", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.String(80), comment="versioned hash of the content"),
    sa.Column("state", sa.String(16), nullable=False, comment="how the event ended"),
    sa.Column("reason", sa.String(32)),
    sa.Column("first_seen", Moment(), nullable=False),
    sa.Column("ended_at", Moment()),
)

operations = sa.Table(
    "outbox_operations",
    metadata,
    sa.Column("id", _ROW_ID, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("account", sa.String(64)),
    sa.Column("signed_by", sa.String(128), nullable=False, comment="who"),
    sa.Column("note", sa.Text(), comment="why"),
    sa.Column("chosen", _long_text(), comment="JSON: criteria, or rows of events"),
    sa.Column("corrections", SealedText(long=False), comment="JSON: what is set in each payload"),
    sa.Column("subject", sa.String(64), comment="keyed hash of a forgotten lead"),
    sa.Column("total", sa.Integer(), nullable=False, server_default="0", comment="events meant at the start"),
    sa.Column("place", _ROW_ID, nullable=False, server_default="0", comment="it has come so far"),
    sa.Column("last", _ROW_ID, nullable=False, server_default="0", comment="and goes up to here"),
    sa.Column("seen", sa.Integer(), nullable=False, server_default="0", comment="events it has been through"),
    sa.Column("counts", sa.Text(), comment="JSON: what came of them"),
    sa.Column("per_minute", sa.Integer(), comment="at most so many events; NULL: no limit"),
    sa.Column("cancelled_by", sa.String(128)),
    sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
    sa.Column("progress_at", Moment(), nullable=False, server_default=statement_now()),
    sa.Column("ended_at", Moment()),
    sa.CheckConstraint("state IN ('running', 'done', 'cancelled')", name="state"),
    sa.CheckConstraint("(state = 'running') = (ended_at IS NULL)", name="ended"),
    sa.CheckConstraint("(state = 'cancelled') = (cancelled_by IS NOT NULL)", name="cancelled"),
)

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
    sa.Column("retired_types", sa.Text(), comment="JSON: types that RD Station no longer takes -> since when"),
    sa.Column("currency", sa.String(3), comment="of translated events; NULL: the default"),
    sa.Column("checkout_url_template", sa.Text(), comment="of translated carts; {cart_id} stands for the cart"),
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
    sa.Column("api_key", sa.Text(), comment="encrypted: for conversions"),
    sa.Column("api_key_seed", sa.String(64), comment="hash of the environment's API key when last read"),
    sa.Column("per_minute", sa.Integer(), comment="events in 60 s, 0 = no limit; NULL: as the settings say"),
    sa.Column("lead_per_day", sa.Integer(), comment="events for a lead in 24 h; else as per_minute"),
    sa.Column("share", sa.Text(), comment="JSON: what a 429 has shown to be ours of the account's window"),
    sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
    sa.CheckConstraint("account <> ''", name="named"),
    sa.CheckConstraint("(suspended_at IS NULL) = (suspend_reason IS NULL)", name="suspended"),
    sa.CheckConstraint("paused_at IS NULL OR paused_by IS NOT NULL", name="paused"),
)

permits = sa.Table(
    "outbox_permits",
    metadata,
    sa.Column("event", _ROW_ID, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("account", sa.String(64), nullable=False),
    sa.Column("lead", sa.String(64), nullable=False),
    sa.Column("counts_until", Moment(), nullable=False, comment="in the account's window until then"),
    sa.Column("lead_counts_until", Moment(), nullable=False, comment="in the lead's window until then"),
    sa.Column("refused", sa.SmallInteger(), nullable=False, server_default="0", comment="RD Station answered 429"),
)

fleet = sa.Table(
    "outbox_fleet",
    metadata,
    sa.Column("id", sa.SmallInteger(), primary_key=True, autoincrement=False),
    sa.Column("breaker", sa.Text(), comment="JSON: the breaker before RD Station as a whole"),
    sa.Column("failing", sa.Text(), comment="JSON: accounts that have failed since the last success of any"),
    sa.Column("probe_event", _ROW_ID, comment="the one event that asks for all while the breaker is half-open"),
    sa.Column("probe_attempt", sa.Integer()),
    sa.Column("probe_until", Moment(), comment="the end of its lease"),
    sa.Column("holds", sa.Text(), comment="JSON: intervals in which no account's age counted"),
    sa.Column("paused_at", Moment(), comment="a person has paused all: new accounts begin paused"),
    sa.Column("paused_by", sa.String(128)),
    sa.Column("pause_note", sa.Text()),
    sa.CheckConstraint("id = 1", name="one"),
    sa.CheckConstraint("(probe_event IS NULL) = (probe_until IS NULL)", name="probe"),
    sa.CheckConstraint("paused_at IS NULL OR paused_by IS NOT NULL", name="paused"),
)

owed_wakes = sa.Table(
    "outbox_owed_wakes",
    metadata,
    sa.Column("id", _ROW_ID, sa.Identity(), primary_key=True),
    sa.Column("event", _ROW_ID, nullable=False, comment="has left its lead's line; the next one is to be woken"),
)

workers = sa.Table(
    "outbox_workers",
    metadata,
    sa.Column("worker", sa.String(96), primary_key=True),
    sa.Column("started_at", Moment(), nullable=False, server_default=statement_now()),
    sa.Column("progress_at", Moment(), nullable=False, server_default=statement_now(), comment="last claimed or idle"),
    sa.Column("claimed", sa.BigInteger(), nullable=False, server_default="0"),
    sa.Column("heard_at", Moment(), comment="its pool last took a bell or claimed"),
    sa.Column("stalled_at", Moment(), comment="its watchdog has ended it: it made no progress with work due"),
)

counters = sa.Table(
    "outbox_counters",
    metadata,
    sa.Column("name", sa.String(48), primary_key=True),
    sa.Column("labels", sa.String(96), primary_key=True, comment="name=value, of a bounded set; empty: none"),
    sa.Column("value", sa.Double(), nullable=False, server_default="0", comment="only rises"),
)

notices = sa.Table(
    "outbox_notices",
    metadata,
    sa.Column("kind", sa.String(24), primary_key=True),
    sa.Column("account", sa.String(64), primary_key=True, comment="empty: the whole outbox"),
    sa.Column("subject", sa.String(64), primary_key=True, comment="such as the event type; empty: none"),
    sa.Column("detail", sa.Text(), nullable=False, comment="redacted"),
    sa.Column("raised_at", Moment(), nullable=False),
    sa.Column("seen_at", Moment(), nullable=False, comment="still so at the last look"),
    sa.Column("resolved_at", Moment()),
    sa.Column("to_tell", sa.String(8), comment="raised or resolved; NULL: the webhook knows"),
    sa.Column("tell_at", Moment(), comment="the next try to tell it"),
    sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
    sa.CheckConstraint("to_tell IS NULL OR to_tell IN ('raised', 'resolved')", name="to_tell"),
    sa.CheckConstraint("(to_tell IS NULL) = (tell_at IS NULL)", name="tell_at"),
)

installation = sa.Table(
    "outbox_installation",
    metadata,
    sa.Column("id", sa.SmallInteger(), primary_key=True, autoincrement=False),
    sa.Column("lead_secret", sa.String(64), nullable=False, comment="hex key of the lead hashes"),
    sa.Column("payload_key", sa.String(8), comment="name of the key that payloads are sealed with; NULL: they are not"),
    sa.Column("created_at", Moment(), nullable=False, server_default=statement_now()),
    sa.CheckConstraint("id = 1", name="one"),
)
