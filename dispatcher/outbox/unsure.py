"""Which events may have reached RD Station although no answer says so: what its attempts say about it."""

from __future__ import annotations

import sqlalchemy as sa

from dispatcher.outbox.tables import attempts, events
from dispatcher.policy.verdicts import Verdict

UNSURE = frozenset({Verdict.UNCERTAIN, Verdict.ABANDONED})
"""Verdicts after which another send may be a copy."""


def has_attempt(*verdicts: Verdict) -> sa.Exists:
    """True if an attempt of the row of `outbox_events` ended with one of these verdicts, as a correlated condition."""
    words = sorted(verdict.value for verdict in verdicts)
    return sa.exists().where(attempts.c.event == events.c.id, attempts.c.verdict.in_(words)).correlate(events)


def may_have_arrived() -> sa.Exists:
    """True if an attempt left without an answer or without a settlement."""
    return has_attempt(*UNSURE)


def cannot_have_arrived() -> sa.ColumnElement[bool]:
    """True if each attempt that was ever made is on record as refused or never sent. A missing record is no proof."""
    arrived = sorted(verdict.value for verdict in UNSURE | {Verdict.DELIVERED})
    harmless = (
        sa.select(sa.func.count())
        .where(attempts.c.event == events.c.id, attempts.c.verdict.not_in(arrived))
        .correlate(events)
        .scalar_subquery()
    )
    return harmless == events.c.attempt
