"""What our engines ask of a driver, and a SQLite engine that is prepared twice. Nothing is connected to but SQLite."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.engine import create_engine, prepare_sqlite
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.transaction import reading


class _Asked(Exception):
    """Instead of a connection."""


def _asked(url: str) -> dict[str, Any]:
    """What the driver is asked for."""
    engine, told = create_engine(url), dict[str, Any]()

    @event.listens_for(engine, "do_connect")
    def _refuse(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        told.update(parameters)
        raise _Asked

    with pytest.raises(_Asked):
        engine.connect()
    return told


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_does_not_answer_holds_nobody_for_minutes(driver: str) -> None:
    assert _asked(f"{driver}://shop@db.example/outbox")["connect_timeout"] == 5


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_on_a_server_no_customer_s_data_is_in_the_text_of_an_error(driver: str) -> None:
    assert create_engine(f"{driver}://shop@db.example/outbox").hide_parameters


def test_a_connection_is_not_kept_longer_than_a_firewall_between_would() -> None:
    pool: Any = create_engine("postgresql+psycopg://shop@db.example/outbox").pool
    assert pool._recycle == 1800


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("postgresql+psycopg://db.example/outbox", "postgres"),
        ("mysql+pymysql://db.example/outbox", "mysql"),
        ("mariadb+pymysql://db.example/outbox", "mysql"),
    ],
)
def test_a_driver_that_is_missing_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, url: str, extra: str
) -> None:
    driver = make_url(url).get_driver_name()
    monkeypatch.setitem(sys.modules, driver, None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=rf"'{driver}'.*\[{extra}\]"):
        create_engine(url)


def test_a_sqlite_engine_may_be_prepared_twice(tmp_path: Any) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    prepare_sqlite(engine)  # as a shop does that was given the engine
    with engine.begin() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    engine.dispose()


def test_on_sqlite_a_look_does_not_wait_for_whoever_is_writing_and_a_writer_does(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 0").close())
    with engine.begin() as writer:
        begun = read_clock(writer)
        assert reading(engine, read_clock) >= begun
        with pytest.raises(sa.exc.OperationalError, match="locked"), engine.begin():
            pass
    engine.dispose()
