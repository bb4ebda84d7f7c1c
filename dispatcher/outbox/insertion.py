"""The INSERT of `enqueue` on each database, and the row that was there before.

One statement writes an event if its fact is new and nothing if it is known, without an error that would end the
caller's transaction. Due times come from the database's clock within that statement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from dispatcher.lifecycle import Reason, State
from dispatcher.outbox.columns import Types, joined, taken_apart
from dispatcher.outbox.dialect_insert import MYSQL, conflict_insert, duplicate_insert
from dispatcher.outbox.intake import Entry
from dispatcher.outbox.ledger import recall, remembered_facts
from dispatcher.outbox.moment import read_clock, statement_now
from dispatcher.outbox.tables import events, ledger
from dispatcher.outbox.transitions import PENDING

_BULK = 1000
_PRUNED = 0  # no row's id
_GONE = "pruned"  # no event's state
_TYPES: dict[str, TypeEngine[Any]] = {
    **{column.name: column.type for column in events.c},
    "e_account": sa.String(),
    "e_lead": sa.String(),
    "e_crowded": sa.Integer(),
    "e_delay": sa.Float(),
    "e_end": sa.Float(),
}
_COLUMNS = frozenset(events.c.keys())
_ONE: sa.ColumnElement[int] = sa.literal_column("1", sa.Integer)
_ZERO: sa.ColumnElement[int] = sa.literal_column("0", sa.Integer)
_GET_LOCK = sa.text("SELECT GET_LOCK(:name, 20)")
_RELEASE_LOCK = sa.text("SELECT RELEASE_LOCK(:name)")


class Known(NamedTuple):
    """The row that a fact has already; `id` 0 and the state `pruned` if only the ledger knows it."""

    id: int
    event_id: UUID
    event_type: str
    key: str
    fingerprint: str | None
    state: str
    reason: str | None
    lead: str


def insert(connection: sa.Connection, entries: Sequence[Entry]) -> list[bool]:
    """Write the entries whose facts are new; answers which were. No fact may be in `entries` twice.

    Rows go in by fact, so that two transactions with the same facts meet them in the same order and cannot deadlock;
    their place in a lead's line still follows `entries`.
    """
    if len(entries) == 1:
        return [bool(_insert(connection, _Shape.of(entries[0]), [_parameters(entries[0], crowded=False)]))]
    sqlite_ = connection.dialect.name == "sqlite"  # one writer: no deadlock, and rows keep the order of their ids
    begun = None if sqlite_ else read_clock(connection)
    rows: dict[_Shape, list[dict[str, Any]]] = {}
    crowded: set[tuple[str, str]] = set()
    for rank, entry in enumerate(entries):
        line = (entry.account, entry.lead)
        rows.setdefault(_Shape.of(entry), []).append(_parameters(entry, crowded=line in crowded))
        crowded.add(line)
        if begun is not None:
            rows[_Shape.of(entry)][-1]["line_at"] = begun + timedelta(seconds=entry.delay, microseconds=rank)
    created: set[UUID] = set()
    for shape, group in rows.items():
        if not sqlite_:
            group.sort(key=lambda row: (row["account"], row["fact"]))
        for start in range(0, len(group), _BULK):
            created |= _insert(connection, shape, group[start : start + _BULK])
    return [entry.event_id in created for entry in entries]


_KNOWN = sa.select(*(events.c[name] for name in Known._fields)).where(
    events.c.account == sa.bindparam("account"), events.c.fact == sa.bindparam("fact")
)


def find(connection: sa.Connection, entry: Entry) -> Known | None:
    """The row of the entry's fact, or what the ledger keeps of it; None if it was taken back unsent and pruned now.

    A transaction at REPEATABLE READ (MySQL's default) may not see a row that another one has just committed, although
    it collides with it; a locking read does.
    """
    fact = {"account": entry.account, "fact": entry.fact}
    row = connection.execute(_KNOWN, fact).one_or_none()
    if row is None:
        row = connection.execute(_KNOWN.with_for_update(read=True), fact).one_or_none()
    if row is not None:
        return Known(*row)
    kept = recall(connection, entry.account, entry.fact)
    if kept is None:
        return None
    return Known(_PRUNED, kept.event_id, kept.event_type, entry.key, kept.fingerprint, _GONE, kept.reason, entry.lead)


def same_content(event_type: str, fingerprint: str | None, entry: Entry) -> bool:
    """True unless the entry says something else than what has this type and fingerprint.

    What cannot be compared counts as the same: another version of the hash, a foreign producer's row without one, and
    a retired type beside its successor, which tell the same fact in other fields.
    """
    if fingerprint is None or entry.fingerprint is None or event_type != entry.event_type:
        return True
    return fingerprint == entry.fingerprint or fingerprint.partition(":")[0] != entry.fingerprint.partition(":")[0]


def content(entry: Entry) -> dict[str, Any]:
    """The columns that say what the event is, for `replace` and `revive`."""
    return {
        "event_type": entry.event_type,
        "key": entry.key,
        "payload": entry.payload,
        "attached": entry.attached,
        "whole": entry.whole,
        "fingerprint": entry.fingerprint,
        "lead": entry.lead,
        "subject": entry.subject.name if entry.subject else None,
        "moots": entry.subject.moots if entry.subject else None,
        "traceparent": entry.traceparent,
        "lead_moots": entry.subject.lead_moots if entry.subject else None,
    }


def due(entry: Entry) -> dict[str, Any]:
    """The columns that say when the event is due, counted from the statement that writes them."""
    at = statement_now(sa.literal(entry.delay)) if entry.delay else statement_now()
    ends = None if entry.life is None else statement_now(sa.literal(entry.delay + entry.life))
    return {"available_at": at, "line_at": at, "ready_at": at, "budget_from": at, "expires_at": ends}


class _Shape(NamedTuple):
    """Which columns an INSERT names; one statement is built for each shape and database."""

    delayed: bool
    expires: bool
    dead: bool

    @classmethod
    def of(cls, entry: Entry) -> _Shape:
        return cls(entry.delay > 0, entry.life is not None, bool(entry.problems))


def _insert(connection: sa.Connection, shape: _Shape, rows: list[dict[str, Any]]) -> set[UUID]:
    dialect = connection.dialect.name
    placed = "line_at" in rows[0]
    if dialect not in MYSQL:
        if len(rows) == 1 and not placed:
            return {rows[0]["event_id"]} if _insert_one(connection, shape, rows[0]) else set()
        if dialect == "postgresql":
            return _insert_many(connection, shape, rows)
        pruned = remembered_facts(connection, rows[0]["account"], [row["fact"] for row in rows])
        rows = [row for row in rows if row["fact"] not in pruned]
        return set(connection.scalars(_statement(dialect, shape, placed=placed), rows)) if rows else set()
    known = set(connection.execute(_known_facts(rows)).scalars())
    rows = [row for row in rows if row["fact"] not in known]
    if not rows:
        return set()
    with _one_at_a_time(connection, rows[0]):  # the row count of the INSERT tells no new row from a known
        connection.execute(_statement(dialect, shape, placed=placed), rows)
    written = _facts(rows).with_only_columns(events.c.event_id)
    return {row["event_id"] for row in rows} & set(connection.execute(written).scalars())


def _known_facts(rows: list[dict[str, Any]]) -> sa.CompoundSelect[Any]:
    """Those of the rows' facts that are in the outbox or in the ledger, as far as this transaction sees."""
    facts = [row["fact"] for row in rows]
    pruned = sa.select(ledger.c.fact).where(ledger.c.account == rows[0]["account"], ledger.c.fact.in_(facts))
    return sa.union_all(_facts(rows), pruned)


def _facts(rows: list[dict[str, Any]]) -> sa.Select[tuple[str]]:
    """Those of the rows' facts that are known, as far as this transaction sees."""
    facts = [row["fact"] for row in rows]
    return sa.select(events.c.fact).where(events.c.account == rows[0]["account"], events.c.fact.in_(facts))


@contextmanager
def _one_at_a_time(connection: sa.Connection, row: dict[str, Any]) -> Iterator[None]:
    """MySQL and MariaDB: let one transaction at a time wait for another that is inserting this fact.

    If two wait and the first rolls back, InnoDB leaves both with a lock on the gap where the row was, and neither may
    insert: one of them loses its whole transaction to the deadlock. So the others wait for this named lock, which is
    held for the INSERT only. Whoever gets no lock in time goes on without: no worse off than before.
    """
    place = f"{connection.engine.url.database}:{row['account']}:{row['fact']}"  # names are the whole server's
    name = {"name": f"dispatcher:{hashlib.sha256(place.encode()).hexdigest()[:40]}"}
    connection.execute(_GET_LOCK, name)
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(_RELEASE_LOCK, name)


def _bound(name: str) -> sa.ColumnElement[Any]:
    return sa.bindparam(name, type_=_TYPES[name])


def _computed(
    shape: _Shape, *, placed: bool, value_of: Callable[[str], sa.ColumnElement[Any]] = _bound
) -> dict[str, Any]:
    """The columns that the database computes, or that the shape decides, from the values under these names."""
    values: dict[str, Any] = {}
    at: Any = statement_now(value_of("e_delay")) if shape.delayed else statement_now()
    if shape.delayed:
        values |= {"available_at": at, "ready_at": at, "budget_from": at}
        if not placed:
            values["line_at"] = at
    if shape.expires:
        values["expires_at"] = statement_now(value_of("e_end"))
    if shape.dead:
        values |= {"state": State.DEAD.value, "reason": Reason.INVALID.value, "ready_at": None, "ended_at": at}
    return values


def _insert_one(connection: sa.Connection, shape: _Shape, row: dict[str, Any]) -> bool:
    """Most events come alone; each value bound and each row returned would add to what they cost a shop."""
    stated = [name for name, value in row.items() if value is not None and name in _COLUMNS]
    values = {f"v_{name}": row[name] for name in stated}
    if shape.delayed or shape.expires:
        values |= {"e_delay": row["e_delay"], "e_end": row["e_end"]}
    count = connection.execute(_single(connection.dialect.name, shape, tuple(stated)), values).rowcount
    if count >= 0:
        return count > 0
    written = sa.select(events.c.id).where(events.c.event_id == row["event_id"])  # a driver that does not count
    return connection.scalar(written) is not None


@cache
def _single(dialect: str, shape: _Shape, names: tuple[str, ...]) -> Any:
    """One row, unless its fact is in the ledger: asked within the same statement, which costs no round trip."""
    values: dict[str, Any] = {name: sa.bindparam(f"v_{name}", type_=events.c[name].type) for name in names}
    values |= _computed(shape, placed=False)
    values |= {"behind": _guess(values["account"], values["lead"])}
    pruned = sa.exists().where(ledger.c.account == values["account"], ledger.c.fact == values["fact"])
    return _selected(dialect, values, pruned)


@cache
def _statement(dialect: str, shape: _Shape, *, placed: bool) -> Any:
    values = _computed(shape, placed=placed)
    if dialect in MYSQL:
        # Not INSERT IGNORE: it would swallow other errors; its shared locks deadlock when the first writer rolls back.
        return duplicate_insert(events).values(**values).on_duplicate_key_update(event_id=events.c.event_id)
    behind = _guess(_bound("e_account"), _bound("e_lead"), _bound("e_crowded"))
    insert = conflict_insert(dialect, events).values(**values, behind=behind)
    return insert.on_conflict_do_nothing(index_elements=["account", "fact"]).returning(events.c.event_id)


def _insert_many(connection: sa.Connection, shape: _Shape, rows: list[dict[str, Any]]) -> set[UUID]:
    """PostgreSQL. Whose rows they were is asked only if some were known: the usual answer is all of them."""
    needed = {"e_crowded", *(("e_delay", "e_end") if shape.delayed or shape.expires else ())}
    types = tuple(
        (name, _TYPES[name])
        for name in rows[0]
        if name in needed or (name in _COLUMNS and any(row[name] is not None for row in rows))
    )
    count = connection.execute(_all_at_once(shape, types), joined(rows, types)).rowcount
    ids = {row["event_id"] for row in rows}
    if count == len(rows):
        return ids
    written = _facts(rows).with_only_columns(events.c.event_id)
    return ids & set(connection.execute(written).scalars()) if count else set()


@cache
def _all_at_once(shape: _Shape, types: Types) -> Any:
    """PostgreSQL: rows whose facts are not in the ledger, in one statement that is as long for a thousand as for two.

    The driver would take more time to find the placeholders of a VALUES for each row than the server takes to run it.
    """
    rows = taken_apart(types)
    values: dict[str, Any] = {name: value for name, value in rows.items() if name in events.c}
    values |= _computed(shape, placed=True, value_of=rows.__getitem__)
    values |= {"behind": _guess(rows["account"], rows["lead"], rows["e_crowded"])}
    pruned = _is_any(sa.and_(ledger.c.account == rows["account"], ledger.c.fact == rows["fact"]))
    return _selected("postgresql", values, pruned)


def _selected(dialect: str, values: dict[str, Any], pruned: sa.ColumnElement[bool]) -> Any:
    """An INSERT of these columns, but for the rows that are `pruned` and those whose fact is in the outbox."""
    chosen: list[Any] = [
        value if isinstance(value, sa.ClauseElement) else sa.literal(value, events.c[name].type)
        for name, value in values.items()
    ]
    insert = conflict_insert(dialect, events).from_select(list(values), sa.select(*chosen).where(sa.not_(pruned)))
    insert = insert.on_conflict_do_nothing(index_elements=["account", "fact"])
    return insert.execution_options(preserve_rowcount=True)


def _guess(
    account: sa.ColumnElement[str], lead: sa.ColumnElement[str], crowded: sa.ColumnElement[int] | None = None
) -> sa.ColumnElement[int]:
    """1 if the lead has pending events already. Only a guess; it decides in which order the claim looks."""
    waits = (_is_any(_line(account, lead)), _ONE)
    return sa.case(waits, else_=_ZERO) if crowded is None else sa.case((crowded == _ONE, _ONE), waits, else_=_ZERO)


def _line(account: sa.ColumnElement[str], lead: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    other = events.alias("other")
    return sa.and_(
        other.c.account == account,
        other.c.lead == lead,
        other.c.state == PENDING,
        other.c.ordering == sa.literal_column("'lead'", sa.String),
    )


def _is_any(found: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """EXISTS by one look for each row: PostgreSQL may answer an EXISTS of many rows by reading the whole table."""
    return sa.select(_ONE).where(found).limit(_ONE).scalar_subquery().is_not(None)


def _parameters(entry: Entry, *, crowded: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        **content(entry),
        "event_id": entry.event_id,
        "account": entry.account,
        "fact": entry.fact,
        "ordering": entry.ordering,
    }
    return row | {
        "e_account": entry.account,
        "e_lead": entry.lead,
        "e_crowded": int(crowded and entry.ordering == "lead"),
        "e_delay": entry.delay,
        "e_end": entry.delay + (entry.life or 0.0),
    }
