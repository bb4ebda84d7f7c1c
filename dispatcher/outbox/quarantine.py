"""Envelopes that break RD Station's rules and are kept all the same: as dead letters, in the shop's transaction.

Loaded at the first of them: most shops' processes never meet one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import sqlalchemy as sa

from dispatcher.errors import Problem
from dispatcher.events import lead_hash
from dispatcher.events.salvage import salvage
from dispatcher.lifecycle import Reason
from dispatcher.outbox.dead_letters import Letter, open_letters
from dispatcher.outbox.intake import Entry, Options, fact_hash
from dispatcher.outbox.tables import events
from dispatcher.policy.outcome import ProviderError


def quarantined(
    event: object,
    problems: tuple[Problem, ...],
    options: Options,
    secret: bytes,
    new_id: Callable[[], UUID],
    seal: Callable[[str], str],
) -> Entry:
    """The row of what could be kept of an envelope with these problems."""
    remains = salvage(event)
    key = options.key or remains.key
    return Entry(
        event_id=new_id(),
        account=options.account,
        key=key,
        fact=fact_hash(key),
        fingerprint=None,
        event_type=remains.event_type,
        lead=lead_hash(remains.email or remains.key, secret),
        ordering=options.ordering,
        subject=None,
        payload=seal(remains.text),
        attached=None,
        whole=None,
        delay=0.0,
        life=None,
        problems=problems,
        traceparent=options.traceparent,
    )


def file_letters(connection: sa.Connection, entries: Sequence[Entry]) -> None:
    """Open a letter for each of these, which have just been written. The caller commits."""
    bad: Mapping[UUID, Entry] = {entry.event_id: entry for entry in entries}
    query = sa.select(events.c.id, events.c.event_id).where(events.c.event_id.in_(list(bad)))
    open_letters(
        connection,
        [
            Letter(
                event=row.id,
                account=bad[row.event_id].account,
                event_type=bad[row.event_id].event_type,
                reason=Reason.INVALID,
                detail="the envelope breaks RD Station's rules; correct it and replay, or discard it",
                attempt=0,
                errors=tuple(ProviderError("INVALID", p.message, p.path) for p in bad[row.event_id].problems),
            )
            for row in connection.execute(query)
        ],
    )
