"""What `enqueue` asks of the other databases, as far as SQLite can answer it or their dialects write it.

The tests of `tests/contract/enqueue` ask it of the databases themselves. Nothing of ours is doubled; the two functions
of MySQL that SQLite has not are noted instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dispatcher.outbox import insertion
from dispatcher.outbox import ledger as remembering
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import events, ledger
from tests.contract.outbox_under_test import insert

EXPIRES_LATER = insertion._Shape(delayed=True, expires=True, dead=False)


def fact(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def written(statement: Any, url: str) -> str:
    """The statement's text for such a database; nothing is connected to."""
    return " ".join(str(statement.compile(dialect=make_url(url).get_dialect()())).split())


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(sqlite_url)
    yield engine
    engine.dispose()


def test_the_facts_that_are_known_are_those_of_the_account_in_the_outbox_and_in_the_ledger(engine: sa.Engine) -> None:
    asked = [{"account": "shop", "fact": fact(name)} for name in ("waiting", "pruned", "new")]
    with engine.begin() as connection:
        now = read_clock(connection)
        there = [("shop", "waiting"), ("shop", "not asked for"), ("branch", "new")]
        insert(connection, [{"account": account, "fact": fact(name)} for account, name in there])
        entry = {"event_type": "SALE", "state": "delivered", "first_seen": now, "event_id": UUID(int=1)}
        gone = [("shop", "pruned"), ("shop", "pruned too"), ("branch", "new")]
        connection.execute(sa.insert(ledger), [{"account": at, "fact": fact(name), **entry} for at, name in gone])

        found = list(connection.scalars(insertion._known_facts(asked)))
        of_one = list(connection.scalars(insertion._known_facts(asked[:1])))
        row = connection.execute(sa.select(events).where(events.c.fact == fact("waiting"))).one()
        written_now = list(connection.scalars(insertion._facts(asked).with_only_columns(events.c.event_id)))

    assert sorted(found) == sorted([fact("waiting"), fact("pruned")])
    assert (of_one, written_now) == ([fact("waiting")], [row.event_id])


def test_whoever_inserts_a_fact_on_innodb_holds_its_name_for_so_long_and_lets_go_of_it_in_any_case(
    engine: sa.Engine,
) -> None:
    told: list[tuple[str, ...]] = []

    @sa.event.listens_for(engine, "connect")
    def _note(raw: Any, _record: Any) -> None:
        raw.create_function("GET_LOCK", 2, lambda name, seconds: told.append(("get", name, str(seconds))))
        raw.create_function("RELEASE_LOCK", 1, lambda name: told.append(("release", name)))

    rows = [{"account": "shop", "fact": "f1"}, {"account": "shop", "fact": "f2"}, {"account": "branch", "fact": "f1"}]
    with engine.begin() as connection:
        for row in rows:
            with contextlib.suppress(ZeroDivisionError), insertion._one_at_a_time(connection, row):
                told.append(("insert", row["fact"]))
                raise ZeroDivisionError

    assert [verb for verb, *_ in told] == ["get", "insert", "release"] * len(rows)
    names = [name for verb, name, *_ in told if verb != "insert"]
    assert names[::2] == names[1::2]
    assert len(set(names)) == len(rows)
    assert all(re.fullmatch("dispatcher:[0-9a-f]{40}", name) for name in names), "MySQL takes 64 characters"


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"], ids=["my", "maria"])
def test_a_duplicate_leaves_the_row_that_is_there_as_it_is(dialect: str) -> None:
    inserted = written(insertion._statement(dialect, EXPIRES_LATER, placed=True), "mysql+pymysql://")
    columns = re.findall(r"\w+", inserted.partition("(")[2].partition(")")[0])
    assert set(columns) == {"available_at", "ready_at", "budget_from", "expires_at"}, "the rest comes with the rows"
    assert inserted.endswith("ON DUPLICATE KEY UPDATE event_id = outbox_events.event_id")

    remembered = written(remembering._insert(dialect, ["fact"], sa.select(events.c.fact)), "mysql+pymysql://")
    assert remembered.endswith("ON DUPLICATE KEY UPDATE fact = outbox_ledger.fact")


def test_all_at_once_writes_the_rows_whose_facts_nobody_knows_and_guesses_for_each() -> None:
    names = ("event_id", "account", "fact", "lead", "line_at", "e_crowded", "e_delay", "e_end")

    types = tuple((name, insertion._TYPES[name]) for name in names)
    text = written(insertion._all_at_once(EXPIRES_LATER, types), "postgresql+psycopg://")

    (given,) = re.findall(r"FROM unnest\(.*?\) AS (\w+)\(", text)
    text = text.replace(f"{given}.", "given.")
    columns = re.findall(r"\w+", text.partition("(")[2].partition(")")[0])
    computed = ["available_at", "ready_at", "budget_from", "expires_at", "behind"]
    assert columns == ["event_id", "account", "fact", "lead", "line_at", *computed]
    assert re.findall(r"secs => CAST\((\S+) AS FLOAT\)\)\)", text) == ["given.e_delay"] * 3 + ["given.e_end"]
    assert "WHERE outbox_ledger.account = given.account AND outbox_ledger.fact = given.fact LIMIT 1) IS NULL" in text
    assert "WHERE other.account = given.account AND other.lead = given.lead" in text
    assert "CASE WHEN (CAST(given.e_crowded AS INTEGER) = 1) THEN 1 WHEN" in text
    assert text.endswith("ON CONFLICT (account, fact) DO NOTHING"), "the row count says whether all were new"


def test_an_event_alone_binds_its_own_values_and_returns_no_row() -> None:
    dialect = make_url("postgresql+psycopg://").get_dialect()()
    shape = insertion._Shape(delayed=False, expires=False, dead=False)
    compiled = insertion._single(dialect.name, shape, ("account", "fact", "lead")).compile(dialect=dialect)
    assert sorted(compiled.params) == ["v_account", "v_fact", "v_lead"]
    assert "RETURNING" not in str(compiled)
