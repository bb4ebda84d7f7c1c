"""Rows that no operation under test may change: accounts that are rightly left alone, with something in every table.

A query that lost a condition reaches them. At the end of a test they are compared with what was planted, column by
column. So a test need not say what else stays as it was: that is asked after each one.

Three accounts: one that a person has paused, with events that would be claimed, woken, swept or probed if it were not
for that; one that is suspended; one whose work is due tomorrow. The paused one also buys what `default` buys: each
event a test adds there has a twin here, of the same lead, fact, key and subject, and each lead has one in flight.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from dispatcher import OrderPlaced
from dispatcher.events.lead import lead_hash
from dispatcher.lifecycle import State
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.tables import (
    accounts,
    attempts,
    counters,
    dead_letters,
    events,
    installation,
    ledger,
    notices,
    operations,
    permits,
    workers,
)

PAUSED, SUSPENDED, LATER = "bystander", "bystander-suspended", "bystander-later"
NAME = "bystander"
"""How all that is theirs begins."""

_DAY, _LONG = timedelta(days=1), timedelta(days=3650)
_TWINS_AT_MOST = 8
_TYPE, _PARKED_TYPE = "ORDER_PLACED", "CART_ABANDONED"
_KEY = f"{_TYPE}:{OrderPlaced.EXAMPLE['cf_order_id']}"
_FACT = fact_hash(_KEY)

_Key = tuple[Any, ...]
_Rows = dict[str, dict[_Key, dict[str, Any]]]


@dataclass(slots=True)
class Bystanders:
    """What was planted in one outbox. `changed` says what became of it."""

    events: list[int] = field(default_factory=list, repr=False)
    _planted: _Rows = field(default_factory=dict, repr=False)
    _facts: set[str] = field(default_factory=lambda: {_FACT}, repr=False)
    _flying: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def planted(cls, connection: sa.Connection, now: datetime) -> Bystanders:
        """Write them in the caller's transaction; `now` is the database's time."""
        bystanders = cls()
        connection.execute(sa.insert(accounts), list(_accounts(now)))
        secret = connection.execute(sa.select(installation.c.lead_secret)).scalar_one()
        lead = lead_hash(str(OrderPlaced.EXAMPLE["email"]), bytes.fromhex(secret))
        bystanders.events = _insert_events(connection, [_event(now, **given) for given in _events(now, lead)])
        _insert_around(connection, bystanders.events, lead, now)
        connection.execute(sa.insert(ledger), [_remembered(_FACT, now)])
        connection.execute(sa.insert(operations), _operations(now))
        connection.execute(sa.insert(workers), _worker(now))
        connection.execute(sa.insert(notices), _notices(now))
        connection.execute(sa.insert(counters), {"name": NAME, "labels": "", "value": 7.0})
        bystanders._planted = bystanders._read(connection)
        return bystanders

    def twin(self, connection: sa.Connection, rows: Iterable[Mapping[str, Any]], now: datetime) -> None:
        """For the first of these events of `default`, whole rows: the same at the paused account."""
        same = [row for row in rows if row["account"] == "default" and row["fact"] not in self._facts][:_TWINS_AT_MOST]
        if not same:
            return
        twins = [_twin(row, now) for row in same]
        self._facts |= {row["fact"] for row in twins}
        self._flying |= {row["lead"] for row in twins if row["state"] == State.IN_FLIGHT}
        for lead in dict.fromkeys(row["lead"] for row in twins):
            if lead not in self._flying:
                self._flying.add(lead)
                twins.append(_event(now - _DAY, state="in_flight", lead=lead, until=now + _DAY))
        added = _insert_events(connection, twins)
        connection.execute(
            sa.insert(permits), [_permit(event, row["lead"], now) for event, row in zip(added, twins, strict=True)]
        )
        self.events += added
        connection.execute(sa.insert(ledger), [_remembered(row["fact"], now) for row in twins])
        found = self._read(connection, added)
        for table in _OF_TWINS:
            self._planted[table.name] |= found[table.name]

    def changed(self, connection: sa.Connection) -> list[str]:
        """Each column that is not as it was planted, and each row that has come or gone."""
        found = self._read(connection)
        return [
            f"{table}, row {key}: {difference}"
            for table, planted in self._planted.items()
            for key in sorted(planted.keys() | found[table].keys(), key=repr)
            for difference in _differences(planted.get(key), found[table].get(key))
        ]

    def others(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """True for the rows that are not theirs."""
        return sa.not_(self._theirs(table, self.events)) if table.name in self._planted else sa.true()

    def _theirs(self, table: sa.Table, of: Sequence[int]) -> sa.ColumnElement[bool]:
        if table is events:
            return table.c.id.in_(of)
        if table in (attempts, permits, dead_letters):
            return table.c.event.in_(of)
        column = {workers: table.c.get("worker"), counters: table.c.get("name")}.get(table, table.c.get("account"))
        assert column is not None
        return sa.func.coalesce(column, "").startswith(NAME)

    def _read(self, connection: sa.Connection, of: Sequence[int] | None = None) -> _Rows:
        found: _Rows = {}
        tables = _PLANTED if of is None else _OF_TWINS
        for table in tables:
            rows = connection.execute(_raw(table).where(self._theirs(table, self.events if of is None else of)))
            found[table.name] = {
                tuple(row[column.name] for column in table.primary_key): dict(row) for row in rows.mappings()
            }
        return found


def unchanged(engine: sa.Engine, bystanders: Bystanders) -> None:
    """For the end of a test."""
    with engine.connect() as connection:
        changed = bystanders.changed(connection)
    assert not changed, "rows of others were changed:\n" + "\n".join(changed)


_PLANTED = (accounts, events, attempts, permits, dead_letters, ledger, operations, workers, notices, counters)
_OF_TWINS = (events, permits, ledger)


@cache
def _raw(table: sa.Table) -> sa.Select[Any]:
    """All columns; sealed ones as they are stored."""
    return sa.select(
        *(sa.type_coerce(c, sa.Text()).label(c.name) if "Sealed" in type(c.type).__name__ else c for c in table.c)
    )


def _differences(planted: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> list[str]:
    if planted is None:
        return [f"has come: {found}"]
    if found is None:
        return ["is gone"]
    return [f"{name} was {planted[name]!r}, is {found[name]!r}" for name in planted if planted[name] != found[name]]


def _accounts(now: datetime) -> Iterable[dict[str, Any]]:
    columns = dict.fromkeys(column.name for column in accounts.c) | {"token_version": 3, "created_at": now - _DAY}
    parked = {"reason": "refused", "detail": "403", "probe_at": (now + _DAY).isoformat()}
    hold = [(now - 3 * _DAY).isoformat(), (now - 2 * _DAY).isoformat()]
    yield columns | {
        "account": PAUSED,
        "paused_at": now - timedelta(hours=1),
        "paused_by": NAME,
        "pause_note": "as it was",
        "probe_at": now + _DAY,
        "throttled_until": now - timedelta(minutes=1),
        "proven_until": now + _DAY,
        "suspended_types": json.dumps({_PARKED_TYPE: parked}),
        "retired_types": json.dumps({"SALE": (now - _DAY).isoformat()}),
        "currency": "USD",
        "checkout_url_template": "https://bystander.example/{cart_id}",
        "streaks": json.dumps({"uuid": 2}),
        "breaker": json.dumps({"failures": 2, "openings": 0, "since": None, "open_until": None}),
        "holds": json.dumps([hold]),
        "credentials": "sealed-credentials",
        "token_expires_at": now + _DAY,
        "refresh_owner": f"{NAME}:1",
        "refresh_until": now + _DAY,
        "refresh_not_before": now + _DAY,
        "seed": "5" * 64,
        "api_key": "sealed-key",
        "api_key_seed": "6" * 64,
        "per_minute": 7,
        "lead_per_day": 3,
        "share": json.dumps({"ceiling": 5, "cut_at": now.isoformat(), "rise": 1}),
    }
    yield columns | {
        "account": SUSPENDED,
        "suspended_at": now - timedelta(hours=1),
        "suspend_reason": "refused",
        "suspend_detail": "401",
        "probe_at": now + _DAY,
    }
    yield columns | {"account": LATER, "turn_at": now + _DAY}


def _events(now: datetime, lead: str) -> Iterable[dict[str, Any]]:
    """In the order of `_insert_around`; `lead` is the customer of the examples, who buys here too."""
    yield {"state": "in_flight", "lead": lead, "until": now + _DAY}
    yield {"lead": lead, "ready_at": None}  # rightly asleep
    yield {"lead": "second", "key": _KEY, "fact": _FACT}  # would be claimed
    yield {"lead": "third", "event_type": _PARKED_TYPE, "reason": "type_suspended", "ready_at": None}
    yield {"lead": "fourth", "expires_at": now + _DAY}
    yield {"state": "delivered", "ended_at": now, "event_uuid": "uuid-of-rd", "attempt": 1}
    yield {"state": "dead", "ended_at": now, "reason": "rejected", "attempt": 1, "failures": 1}
    yield {"state": "cancelled", "ended_at": now, "reason": "discarded", "attempt": 1}
    yield {"state": "cancelled", "ended_at": now, "reason": "cancelled"}
    yield {"account": SUSPENDED, "lead": "fifth"}
    yield {"account": LATER, "lead": "sixth", "available_at": now + _DAY, "line_at": now + _DAY, "ready_at": now + _DAY}


def _event(now: datetime, *, until: datetime | None = None, **given: Any) -> dict[str, Any]:
    """A row with every column but the id, due a minute ago."""
    at = now - timedelta(minutes=1)
    columns = dict.fromkeys(column.name for column in events.c if not column.primary_key)
    event_id = uuid.uuid4()
    key = given.get("key", f"{_TYPE}:{NAME}-{event_id}")
    row: dict[str, Any] = {
        "event_id": event_id,
        "account": PAUSED,
        "event_type": _TYPE,
        "key": key,
        "fact": hashlib.sha256(key.encode()).hexdigest(),
        "lead": f"{NAME}-{event_id}",
        "ordering": "lead",
        "payload": "{}",
        "state": "pending",
        "available_at": at,
        "line_at": at,
        "budget_from": at,
        "created_at": now - _LONG,
        "ready_at": at if given.get("state", "pending") == "pending" else None,
        "behind": 0,
        "attempt": 0,
        "failures": 0,
        "postponed": 0,
    }
    if until is not None:
        row |= {"attempt": 1, "lease_until": until, "leased_by": f"{NAME}:1"}
    return columns | row | given


def _twin(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The same event of another account: what time or a worker would rightly do with it is a day away."""
    twin = _event(now) | dict(row) | {"event_id": uuid.uuid4(), "account": PAUSED, "sent_with": None}
    twin.pop("id", None)
    state = twin["state"]
    if twin["expires_at"] is not None:
        twin["expires_at"] = now + _DAY
    if state == State.IN_FLIGHT:
        twin |= {"lease_until": now + _DAY, "leased_by": f"{NAME}:1"}
    elif state == State.PENDING:
        awake = twin["ready_at"] is not None or twin["ordering"] == "none"
        twin |= {"ready_at": twin["ready_at"] or twin["available_at"] if awake else None, "reason": None}
    else:
        twin["ended_at"] = now
    return twin


def _insert_events(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    connection.execute(sa.insert(events), list(rows))
    query = sa.select(events.c.event_id, events.c.id).where(events.c.event_id.in_([row["event_id"] for row in rows]))
    ids = {row.event_id: row.id for row in connection.execute(query)}
    return [ids[row["event_id"]] for row in rows]


def _insert_around(connection: sa.Connection, ids: Sequence[int], lead: str, now: datetime) -> None:
    """Attempts, permits and letters of `_events`."""
    flying, delivered, dead, discarded = ids[0], ids[5], ids[6], ids[7]
    tried: list[dict[str, Any]] = [{"event": delivered, "verdict": "delivered"}, {"event": dead, "verdict": "rejected"}]
    tried += [{"event": flying, "verdict": "abandoned"}]
    stated: dict[str, Any] = {"attempt": 1, "stage": "answered", "status": 400, "detail": "as it was", "errors": "[]"}
    stated |= {"excerpt": "as it was", "worker": f"{NAME}:1", "seconds": 0.5, "ended_at": now}
    connection.execute(sa.insert(attempts), [stated | row for row in tried])
    connection.execute(sa.insert(permits), [_permit(event, lead, now) for event in (flying, delivered, dead)])
    letter: dict[str, Any] = {
        "account": PAUSED,
        "event_type": _TYPE,
        "reason": "rejected",
        "detail": "400",
        "attempt": 1,
    }
    letter |= {"errors": "[]", "created_at": now - _LONG, "payload_before": "{}"}
    opened: dict[str, Any] = {
        "open_event": dead,
        "resolved_at": None,
        "resolution": None,
        "resolved_by": None,
        "note": None,
    }
    closed: dict[str, Any] = {
        "open_event": None,
        "resolved_at": now,
        "resolution": "discarded",
        "resolved_by": NAME,
        "note": "so",
    }
    connection.execute(
        sa.insert(dead_letters), [letter | {"event": dead} | opened, letter | {"event": discarded} | closed]
    )


def _permit(event: int, lead: str, now: datetime) -> dict[str, Any]:
    until: dict[str, Any] = {"counts_until": now + _DAY, "lead_counts_until": now + _DAY}
    return {"event": event, "attempt": 1, "account": PAUSED, "lead": lead, **until, "refused": 0}


def _remembered(fact: str, now: datetime) -> dict[str, Any]:
    seen = {"first_seen": now - _DAY, "ended_at": now, "state": "delivered", "reason": None, "fingerprint": None}
    return {"account": PAUSED, "fact": fact, "event_id": uuid.uuid4(), "event_type": _TYPE, **seen}


def _operations(now: datetime) -> list[dict[str, Any]]:
    done: dict[str, Any] = {
        "kind": "replay",
        "state": "done",
        "account": PAUSED,
        "signed_by": NAME,
        "note": "so",
        "chosen": "{}",
    }
    done |= {"total": 2, "place": 2, "last": 2, "seen": 2, "counts": "{}", "cancelled_by": None}
    done |= {"created_at": now, "progress_at": now, "ended_at": now}
    return [done, done | {"state": "cancelled", "cancelled_by": NAME}]


def _worker(now: datetime) -> dict[str, Any]:
    return {"worker": f"{NAME}:1", "started_at": now, "progress_at": now, "claimed": 5, "heard_at": now}


def _notices(now: datetime) -> list[dict[str, Any]]:
    told: dict[str, Any] = {
        "kind": "type_suspended",
        "account": PAUSED,
        "detail": "403",
        "raised_at": now,
        "seen_at": now,
    }
    waits: dict[str, Any] = {
        "subject": _PARKED_TYPE,
        "resolved_at": None,
        "to_tell": "raised",
        "tell_at": now + _DAY,
        "tries": 1,
    }
    over: dict[str, Any] = {"subject": _TYPE, "resolved_at": now, "to_tell": None, "tell_at": None, "tries": 0}
    return [told | waits, told | over]
