"""The indexes of the tables, and what MySQL is told about them: for whoever creates or compares the schema.

Apart from the tables because options of a dialect load it, with all its drivers, and `import dispatcher` needs none.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from dispatcher.outbox.dialect_insert import MYSQL
from dispatcher.outbox.tables import (
    accounts,
    attempts,
    dead_letters,
    events,
    ledger,
    metadata,
    notices,
    operations,
    permits,
)


def _on_mysql(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name in MYSQL


def _on_others(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return dialect.name not in MYSQL


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
# The lines of a retired order or cart, and those that its request carries.
_partial("ix_outbox_events_whole", _e.account, _e.whole, where="whole IS NOT NULL")
_plain("ix_outbox_events_whole", _e.account, _e.whole)
_partial("ix_outbox_events_sent_with", _e.sent_with, where="sent_with IS NOT NULL")
_plain("ix_outbox_events_sent_with", _e.sent_with)
_partial("ix_outbox_events_lead_moots", _e.account, _e.lead, where="lead_moots IS NOT NULL")
_plain("ix_outbox_events_lead_moots", _e.account, _e.lead, _e.lead_moots)
# The sweep: leases that have ended, events past their business expiry, events that sleep.
# Its condition is never the state: a planner could take it for "is one of this lead in flight" (docs/adr/0027).
_partial("ix_outbox_events_leased", _e.lease_until, _e.id, where="lease_until IS NOT NULL")
_plain("ix_outbox_events_lease", _e.lease_until, _e.id)
_partial("ix_outbox_events_expiry", _e.expires_at, _e.id, where="state = 'pending' AND expires_at IS NOT NULL")
_plain("ix_outbox_events_expiry", _e.state, _e.expires_at, _e.id)
_partial("ix_outbox_events_asleep", _e.id, where="state = 'pending' AND ready_at IS NULL")
_plain("ix_outbox_events_asleep", _e.state, _e.ready_at, _e.id)

sa.Index("ix_outbox_attempts_verdict", attempts.c.verdict, attempts.c.ended_at)
sa.Index("ix_outbox_dead_letters_event", dead_letters.c.event)
sa.Index("ix_outbox_dead_letters_created_at", dead_letters.c.created_at)
sa.Index("ix_outbox_ledger_event_id", ledger.c.event_id)
sa.Index("ix_outbox_operations_subject", operations.c.subject)
sa.Index("ix_outbox_accounts_turn_at", accounts.c.turn_at)
sa.Index("ix_outbox_accounts_probe_at", accounts.c.probe_at)
sa.Index("ix_outbox_permits_account", permits.c.account, permits.c.counts_until)
sa.Index("ix_outbox_permits_lead", permits.c.account, permits.c.lead, permits.c.lead_counts_until)
sa.Index("ix_outbox_permits_over", permits.c.lead_counts_until)
sa.Index("ix_outbox_notices_tell_at", notices.c.tell_at)

__all__ = ["metadata"]

_OPTIONS = {"charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB"}
for _table in metadata.tables.values():
    for _dialect in sorted(MYSQL):  # each has options of its own
        _table.dialect_kwargs.update({f"{_dialect}_{option}": value for option, value in _OPTIONS.items()})
