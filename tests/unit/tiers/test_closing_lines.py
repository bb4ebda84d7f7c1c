"""What a run of the suite says at its end, seen by running pytest in pytest: nothing is doubled, no service asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.canaries import CANARY_EMAIL, CANARY_TOKEN, Canaries, marks_in_database

CONFTEST = """
from tests.conftest import *
from tests.conftest import _mysql, _sqlite
"""

FOUR_LEAKS = """
import logging, subprocess, sys

def test_message(canaries):
    logging.getLogger("dispatcher.x").debug("hello %s", canaries.token)

def test_traceback(canaries):
    try:
        raise ValueError(canaries.email)
    except ValueError:
        logging.getLogger("shop").exception("refused")

def test_child(canaries):
    subprocess.run([sys.executable, "-c", f"print({canaries.email.upper()!r})"])

def test_file(canaries, tmp_path):
    canaries.watch(tmp_path)
    (tmp_path / "worker.log").write_text(canaries.token)
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("DISPATCHER_TEST_CLOSED", "1")
    monkeypatch.delenv("DISPATCHER_TEST_REQUIRE", raising=False)
    pytester.makeconftest(CONFTEST)
    return pytester


def outcome_of(inner: pytest.Pytester, body: str) -> tuple[int, list[str]]:
    """Always in a process of its own: its leaks are not ours, and modules are not loaded twice into ours."""
    inner.makepyfile(test_it=body)
    result = inner.runpytest_subprocess("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestUnknownMarkWarning")
    return int(result.ret), result.outlines


def test_a_canary_that_shows_fails_a_run_whose_tests_pass(inner: pytest.Pytester) -> None:
    code, lines = outcome_of(inner, FOUR_LEAKS)

    assert code == pytest.ExitCode.TESTS_FAILED
    assert any("4 passed" in line for line in lines)
    assert sorted(line for line in lines if line.startswith("LEAK")) == [
        "LEAK of a canary: Captured log call of test_it.py::test_message: token",
        "LEAK of a canary: Captured log call of test_it.py::test_traceback: e-mail",
        "LEAK of a canary: Captured stdout call of test_it.py::test_child: e-mail",
        "LEAK of a canary: file worker.log: token",
        "LEAK of a canary: log record of dispatcher.x: token",
        "LEAK of a canary: log record of shop: e-mail",
    ]
    assert not [line for line in lines if line.startswith("TIERS")], "no test asked for a tier"


def test_a_missing_tier_is_named_in_the_last_line(inner: pytest.Pytester) -> None:
    code, lines = outcome_of(inner, "def test_a(sqlite_url): pass\ndef test_b(mysql_url): pass")

    assert code == pytest.ExitCode.OK
    assert lines[-2:] == ["TIERS: sqlite", "TIERS MISSING: mysql"]


def test_a_missing_tier_that_is_required_fails_a_run_that_never_asked_for_it(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHER_TEST_REQUIRE", "sqlite,rabbitmq")

    code, lines = outcome_of(inner, "def test_a(): pass")

    assert code == pytest.ExitCode.TESTS_FAILED
    assert lines[-1] == "TIERS MISSING: rabbitmq (required: rabbitmq)"


def test_a_canary_in_a_database_is_found_in_every_column_but_the_payload(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'some.db'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE events (payload TEXT, detail TEXT, body BLOB, at DATETIME, empty TEXT)"
        )
        row = {
            "payload": f"{CANARY_EMAIL} {CANARY_TOKEN}",
            "detail": f"to {CANARY_EMAIL}",
            "body": CANARY_TOKEN.encode(),
        }
        connection.execute(sa.text("INSERT INTO events VALUES (:payload, :detail, :body, 'never', NULL)"), row)

    assert marks_in_database(url) == ["events.body: token", "events.detail: e-mail", "events.payload: token"]


def test_text_that_no_handler_sees_can_be_checked_by_hand() -> None:
    canaries = Canaries()

    canaries.check("all is well", "an answer")
    canaries.check(f"Bearer {CANARY_TOKEN}", "an answer")

    assert canaries.leaks == ["an answer: token"]
