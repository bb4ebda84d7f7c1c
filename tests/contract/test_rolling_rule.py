"""The rule of migrations/script.py.mako: an upgrade only expands. What each migration does is read from the databases.

Real databases; nothing is doubled. What no inspection shows (what a value means to the previous release) is for
tests/acceptance/test_upgrade_under_load.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from dispatcher.outbox import schema
from tests.conftest import DATABASES
from tests.contract.test_migrations import REVISIONS

VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"


@dataclass(frozen=True)
class Column:
    """What a column asks of who writes it, and how much it holds."""

    kind: str
    length: int | None
    may_be_left_out: bool


Shape = dict[tuple[str, str], Column]


def shape(engine: sa.Engine) -> Shape:
    """Every column of the schema, by table and name."""
    look = sa.inspect(engine)
    found: Shape = {}
    for table in look.get_table_names():
        keys = look.get_pk_constraint(table)["constrained_columns"]
        for column in look.get_columns(table):
            by_itself = column["nullable"] or column["default"] is not None or bool(column.get("identity"))
            numbered = bool(column.get("autoincrement")) and column["name"] in keys
            kind = column["type"]
            length = getattr(kind, "length", None)
            found[table, column["name"]] = Column(type(kind).__name__, length, by_itself or numbered)
    return found


def breaches(before: Shape, after: Shape) -> list[str]:
    """What the previous release would stumble over."""
    found = []
    for (table, name), old in before.items():
        new, where = after.get((table, name)), f"{table}.{name}"
        if new is None:
            found.append(f"{where} is gone")
            continue
        if old.may_be_left_out and not new.may_be_left_out:
            found.append(f"{where} must be given now")
        if new.kind != old.kind or (new.length is not None and (old.length is None or new.length < old.length)):
            found.append(f"{where} was {old.kind}({old.length}) and is {new.kind}({new.length})")
    tables = {table for table, _ in before}
    for (table, name), new in after.items():
        if table in tables and (table, name) not in before and not new.may_be_left_out:
            found.append(f"{table}.{name} is new, and must be given")
    return found


def indexes(engine: sa.Engine) -> set[str]:
    """Every index of the schema, by its name."""
    look = sa.inspect(engine)
    return {str(index["name"]) for table in look.get_table_names() for index in look.get_indexes(table)}


def contracts(revision: str) -> bool:
    """Whether the file says that what it takes away was out of use before."""
    (file,) = VERSIONS.glob(f"{revision}_*.py")
    said = re.search(r'^contracts = "(\d{4})"$', file.read_text(), re.MULTILINE)
    assert said is None or said[1] < revision, f"{file.name}: an earlier revision, not {said[1]}"
    return said is not None


def test_every_upgrade_leaves_the_previous_release_what_it_knows(empty: sa.Engine) -> None:
    schema.upgrade(empty, REVISIONS[0])
    before, known = shape(empty), indexes(empty)
    for revision in REVISIONS[1:]:
        schema.upgrade(empty, revision)
        after, kept = shape(empty), indexes(empty)
        found = [*breaches(before, after), *(f"{index} is gone" for index in known - kept)]
        assert not found or contracts(revision), f"{revision}: {found}; see migrations/script.py.mako"
        before, known = after, kept


@pytest.mark.parametrize("empty_database_url", DATABASES[1:2], indirect=True)
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE outbox_workers DROP COLUMN heard_at", "outbox_workers.heard_at is gone"),
        ("ALTER TABLE outbox_workers RENAME COLUMN heard_at TO heard", "outbox_workers.heard_at is gone"),
        (
            "ALTER TABLE outbox_workers ADD COLUMN extra INTEGER NOT NULL",
            "outbox_workers.extra is new, and must be given",
        ),
        ("ALTER TABLE outbox_workers ALTER COLUMN heard_at SET NOT NULL", "outbox_workers.heard_at must be given now"),
        (
            "ALTER TABLE outbox_accounts ALTER COLUMN currency TYPE VARCHAR(2)",
            "outbox_accounts.currency was VARCHAR(3) and is VARCHAR(2)",
        ),
    ],
)
def test_what_the_rule_forbids_is_seen(to_spoil: sa.Engine, statement: str, said: str) -> None:
    before = shape(to_spoil)
    with to_spoil.begin() as connection:
        connection.exec_driver_sql(statement)
    assert breaches(before, shape(to_spoil)) == [said]


@pytest.fixture
def to_spoil(empty: sa.Engine) -> sa.Engine:
    """The newest schema, on one database: the words of ALTER TABLE are different ones on others."""
    schema.upgrade(empty)
    return empty
