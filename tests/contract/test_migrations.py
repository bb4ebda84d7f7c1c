"""Migrating: up, down and up again with data, beside a stranger's tables, and by two processes at once.

Real databases without a table at first, real processes; nothing is doubled.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dispatcher.errors import NotMigrated, OperationRefused
from dispatcher.outbox import schema
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import VERSION_TABLE, installation, metadata
from tests.contract.outbox_under_test import OutboxUnderTest

REVISIONS = sorted(
    path.name.partition("_")[0] for path in (Path(__file__).parents[2] / "migrations" / "versions").glob("[0-9]*.py")
)
"""All there are, in their order: the chain is linear, and files are named by their revision."""

_MIGRATE = """
import sys
from dispatcher.outbox import schema
from dispatcher.outbox.engine import create_engine
engine = create_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(schema.upgrade(engine))
engine.dispose()
"""


def _tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def _secret(engine: sa.Engine) -> str:
    with engine.connect() as connection:
        secret: str = connection.scalars(sa.select(installation.c.lead_secret)).one()
    return secret


def test_up_down_and_up_again_with_data(empty: sa.Engine) -> None:
    first = schema.upgrade(empty)
    assert first == REVISIONS
    assert _tables(empty) == {*metadata.tables, VERSION_TABLE}
    outbox, secret = OutboxUnderTest(empty), _secret(empty)
    outbox.add()
    outbox.add(state="dead")

    schema.downgrade(empty, "base")
    assert _tables(empty) <= {VERSION_TABLE}

    assert schema.upgrade(empty) == first
    assert outbox.rows() == {}
    assert _secret(empty) != secret, "each installation has its own"
    event = outbox.add()
    assert outbox.claim_ids() == [event], "the account `default` is there from the start"


def test_migrating_again_changes_nothing_and_keeps_the_installation_s_secret(empty: sa.Engine) -> None:
    schema.upgrade(empty)
    event = OutboxUnderTest(empty).add()
    secret = _secret(empty)
    assert len(bytes.fromhex(secret)) == 32
    assert schema.upgrade(empty) == []
    assert list(OutboxUnderTest(empty).rows()) == [event]
    assert _secret(empty) == secret


def test_a_stranger_s_table_with_one_of_our_names_is_left_alone_and_named(empty: sa.Engine) -> None:
    with empty.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE outbox_permits (theirs INTEGER)")
        connection.exec_driver_sql("INSERT INTO outbox_permits VALUES (7)")
    with pytest.raises(OperationRefused, match="outbox_permits"):
        schema.upgrade(empty)
    assert _tables(empty) == {"outbox_permits"}
    with empty.connect() as connection:
        assert connection.exec_driver_sql("SELECT theirs FROM outbox_permits").scalars().all() == [7]


def test_a_shop_s_other_tables_and_its_own_alembic_survive_up_and_down(empty: sa.Engine) -> None:
    with empty.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE orders (id INTEGER)")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    schema.upgrade(empty)
    schema.downgrade(empty, "base")
    assert {"orders", "alembic_version"} <= _tables(empty)
    with empty.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == ["theirs"]


def test_what_is_missing_is_said_with_the_command_that_helps(empty: sa.Engine) -> None:
    with pytest.raises(NotMigrated, match=r"missing.*dispatcher migrate"):
        schema.require_current(empty)
    schema.upgrade(empty)
    schema.require_current(empty)
    with empty.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0000'")  # noqa: S608 - a constant
    with pytest.raises(NotMigrated, match=rf"0000.*{REVISIONS[-1]}.*dispatcher migrate"):
        schema.require_current(empty)


def test_a_migration_that_broke_off_is_made_whole_by_the_next_try(empty: sa.Engine) -> None:
    if empty.dialect.name == "mysql":
        pytest.skip("a table may be called like an index there, and it takes no CREATE back")
    with empty.begin() as connection:  # the first migration gives an index that name, after its table
        connection.exec_driver_sql("CREATE TABLE uq_outbox_events_fact (theirs INTEGER)")
    with pytest.raises(sa.exc.DBAPIError, match="uq_outbox_events_fact"):
        schema.upgrade(empty)
    assert _tables(empty) - {VERSION_TABLE} == {"uq_outbox_events_fact"}, "nothing is left half-way"
    with empty.begin() as connection:
        connection.exec_driver_sql("DROP TABLE uq_outbox_events_fact")
    assert schema.upgrade(empty) == REVISIONS


def test_the_migrations_lie_in_the_package_or_in_a_checkout_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "dispatcher"
    (package / "outbox").mkdir(parents=True)
    monkeypatch.setattr(schema, "__file__", str(package / "outbox" / "schema.py"))
    assert schema._scripts() == tmp_path / "migrations"
    (package / "_migrations").mkdir()
    assert schema._scripts() == package / "_migrations", "as a wheel has them"


def test_the_migrations_may_lie_in_a_folder_with_a_percent_sign(
    empty: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "100%s"
    folder.mkdir()
    (folder / "migrations").symlink_to(schema._scripts())
    monkeypatch.setattr(schema, "_scripts", lambda: folder / "migrations")
    assert schema.upgrade(empty, REVISIONS[0]) == REVISIONS[:1]


def test_a_later_release_s_schema_is_no_trouble_in_a_rolling_deploy(empty: sa.Engine) -> None:
    schema.upgrade(empty)
    with empty.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")  # noqa: S608 - a constant
    schema.require_current(empty)
    assert all(re.fullmatch(r"\d{4}", revision) for revision in REVISIONS), "compared as text"


@pytest.mark.mysql
@pytest.mark.parametrize("drivername", ["mysql+pymysql", "mariadb+pymysql"])
def test_who_migrates_has_the_lock_of_migrations_whatever_the_url_calls_the_server(
    mysql_url: str, drivername: str
) -> None:
    engine = create_engine(make_url(mysql_url).set(drivername=drivername).render_as_string(hide_password=False))
    free = sa.text("SELECT IS_FREE_LOCK(:lock)")
    lock = {"lock": f"dispatcher-{schema._LOCK}"}
    with schema._alone(engine), engine.connect() as somebody_else:
        assert somebody_else.execute(free, lock).scalar_one() == 0
    with engine.connect() as connection:
        assert connection.execute(free, lock).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize("empty_database_url", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
@pytest.mark.parametrize("drivername", ["mysql+pymysql", "mariadb+pymysql"])
def test_accounts_and_keys_differ_by_case_whatever_the_url_calls_the_server(empty: sa.Engine, drivername: str) -> None:
    engine = create_engine(empty.url.set(drivername=drivername).render_as_string(hide_password=False))
    schema.upgrade(engine)
    found = sa.text(
        "SELECT table_collation, engine FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name <> :version"
    )
    with engine.connect() as connection:
        tables = connection.execute(found, {"version": VERSION_TABLE}).all()
    assert len(tables) > 10
    assert {tuple(table) for table in tables} == {("utf8mb4_bin", "InnoDB")}
    engine.dispose()


def test_of_two_processes_that_migrate_at_once_one_applies_and_neither_fails(empty_database_url: str) -> None:
    command = [sys.executable, "-c", _MIGRATE, empty_database_url]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert sorted(out.strip() for out, _ in answers) == sorted([str(REVISIONS), "[]"])
