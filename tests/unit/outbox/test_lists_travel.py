"""Lists of rows in statements that are made once: one text for any length on PostgreSQL, which keeps its plan. Pure.

Doubled: the connection, by SQLAlchemy's own engine that sends nothing; no database is asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Compiled, Dialect

from dispatcher.outbox.among import among, bind, named, not_named
from dispatcher.outbox.each import Each, _inserting, given
from dispatcher.outbox.tables import accounts, events, permits

URLS = {"postgresql": "postgresql+psycopg://", "sqlite": "sqlite://"}
DIALECTS: dict[str, Dialect] = {name: sa.make_url(url).get_dialect()() for name, url in URLS.items()}


def sent(statement: sa.ClauseElement, dialect: str = "postgresql") -> str:
    """Its text, without the types that SQLAlchemy writes behind parameters for psycopg."""
    compiled: Compiled = statement.compile(dialect=DIALECTS[dialect])
    return " ".join(str(compiled).replace("::VARCHAR(64)[]", "").replace("::VARCHAR", "").split())


def test_ids_travel_as_one_array_that_postgresql_reads() -> None:
    condition = among("postgresql", events.c.id)
    assert sent(condition) == "outbox_events.id = ANY (CAST(%(ids)s AS BIGINT[]))"
    written = condition.compile(dialect=DIALECTS["postgresql"]).binds["ids"].type.bind_processor(DIALECTS["postgresql"])
    assert written
    assert [written(ids) for ids in ([31, 4], [7], (), None)] == ["{31,4}", "{7}", "{}", "{}"]


def test_names_travel_as_one_array_and_one_name_as_itself() -> None:
    name = accounts.c.account
    assert sent(named("postgresql", name)) == "outbox_accounts.account = ANY (%(names)s)"
    assert sent(named("postgresql", name, one=True)) == "outbox_accounts.account = %(name)s"
    assert sent(not_named("postgresql", name)) == "outbox_accounts.account != ALL (%(others)s)"
    assert (bind(["a"]), bind(["a", "b"]), bind([])) == ({"name": "a"}, {"names": ["a", "b"]}, {"names": []})


def test_the_other_databases_get_a_list() -> None:
    dialect, name = "sqlite", accounts.c.account
    assert sent(among(dialect, events.c.id), dialect) == "outbox_events.id IN (__[POSTCOMPILE_ids])"
    assert sent(named(dialect, name), dialect) == "outbox_accounts.account IN (__[POSTCOMPILE_names])"
    assert sent(named(dialect, name, one=True), dialect) == "outbox_accounts.account = ?"
    assert sent(not_named(dialect, name), dialect) == "(outbox_accounts.account NOT IN (__[POSTCOMPILE_others]))"


def test_rows_travel_as_one_text_that_becomes_a_table_with_the_types_of_its_columns() -> None:
    rows = given((("at", events.c.ready_at.type), ("n", sa.Integer())))
    text = sent(sa.select(rows.c.at, rows.c.n))
    assert "FROM json_to_recordset(CAST(%(rows)s AS JSON)) AS " in text
    assert text.endswith("(at TIMESTAMP WITH TIME ZONE, n INTEGER)")


def test_what_all_rows_have_alike_is_bound_once() -> None:
    types = (("event", permits.c.event.type), ("lead", permits.c.lead.type))
    text = sent(_inserting(permits, types, ("account", "counts_until")))
    assert text.startswith("INSERT INTO outbox_permits (event, lead, account, counts_until) SELECT ")
    assert "%(account)s" in text
    assert "%(counts_until)s::TIMESTAMP WITH TIME ZONE" in text
    assert text.endswith("(event BIGINT, lead VARCHAR(64))")


def executed(url: str, act: Callable[[sa.Connection], object]) -> tuple[object, sa.ClauseElement, Any]:
    """What comes of it, the one statement and its parameters, on an engine of SQLAlchemy's that sends nothing."""
    asked: list[tuple[sa.ClauseElement, Any]] = []

    def note(statement: sa.ClauseElement, parameters: Any) -> object:
        asked.append((statement, parameters))
        return SimpleNamespace(rowcount=2)

    answer = act(cast("sa.Connection", sa.create_mock_engine(url, note)))
    ((statement, parameters),) = asked
    return answer, statement, parameters


ROWS = [{"a_name": "one", "a_turn": None}, {"a_name": "two", "a_turn": None}]


def change(connection: sa.Connection) -> int:
    each = Each(connection, ROWS, {"a_name": accounts.c.account.type, "a_turn": accounts.c.turn_at.type})
    statement = sa.update(accounts).where(accounts.c.account == each["a_name"])
    return each.change(statement.values(turn_at=each["a_turn"]))


def insert(connection: sa.Connection) -> None:
    Each(connection, [{"event": 7}, {"event": 8}], {"event": permits.c.event.type}).insert(permits, account="shop")


def test_a_change_of_many_rows_is_one_run_on_postgresql_and_is_repeated_elsewhere() -> None:
    changed, statement, bound = executed(URLS["postgresql"], change)
    assert (changed, {name: json.loads(text) for name, text in bound.items()}) == (
        2,
        {"rows": [{"a_name": "one"}, {"a_name": "two"}]},
    )
    text = sent(statement)
    assert text.startswith("UPDATE outbox_accounts SET turn_at=anon_1.a_turn FROM json_to_recordset(")
    assert text.endswith("WHERE outbox_accounts.account = anon_1.a_name")
    changed, statement, bound = executed(URLS["sqlite"], change)
    assert (changed, bound) == (2, ROWS)
    assert sent(statement, "sqlite") == "UPDATE outbox_accounts SET turn_at=? WHERE outbox_accounts.account = ?"


def test_rows_are_written_with_what_all_have_alike() -> None:
    _, statement, bound = executed(URLS["postgresql"], insert)
    assert sent(statement).startswith("INSERT INTO outbox_permits (event, account) SELECT anon_1.event, %(account)s")
    assert (json.loads(bound.pop("rows")), bound) == ([{"event": 7}, {"event": 8}], {"account": "shop"})
    _, _, bound = executed(URLS["sqlite"], insert)
    assert bound == [{"event": 7, "account": "shop"}, {"event": 8, "account": "shop"}]
