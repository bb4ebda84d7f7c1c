"""A process is frozen within a transaction, with rows that it holds: a paused virtual machine, a Ctrl-Z."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction
from tests.contract.outbox_under_test import OutboxUnderTest

_HELD = sa.select(accounts.c.account).where(accounts.c.account == "default").with_for_update()


@pytest.fixture
def frozen(two_writers: None, outbox: OutboxUnderTest) -> Iterator[sa.Engine]:
    """The engine of a process that will do nothing for a second or longer."""
    engine = create_engine(outbox.engine.url.render_as_string(hide_password=False), idle_seconds=1)
    yield engine
    engine.dispose()


def test_what_it_holds_comes_free_and_it_begins_again_when_it_thaws(outbox: OutboxUnderTest, frozen: sa.Engine) -> None:
    tries = list[int]()

    def freezes_once(connection: sa.Connection) -> str | None:
        tries.append(len(tries))
        connection.execute(_HELD)
        if len(tries) == 1:
            assert outbox.claim_ids() == [], "nobody can take a turn of an account that is held"
            in_transaction(outbox.engine, lambda other: other.execute(_HELD).one())  # waits until the server ends it
            assert outbox.claim_ids() == [event]
        return connection.scalar(_HELD)

    event = outbox.add()
    assert in_transaction(frozen, freezes_once) == "default"
    assert tries == [0, 1]


def test_a_transaction_may_do_nothing_for_ten_seconds(two_writers: None, outbox: OutboxUnderTest) -> None:
    told = {
        "postgresql": "SELECT extract(epoch FROM current_setting('idle_in_transaction_session_timeout')::interval)",
        "mysql": "SELECT @@idle_transaction_timeout",
    }
    with outbox.engine.connect() as connection:
        assert connection.scalar(sa.text(told[outbox.backend])) == 10
