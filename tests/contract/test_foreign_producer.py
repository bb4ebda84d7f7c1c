"""docs/producers.md, run as it stands: the statements and the examples of hashes. Real databases, no Python API."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dispatcher.events.lead import lead_hash
from dispatcher.outbox.intake import fact_hash
from dispatcher.outbox.tables import events
from tests.contract.outbox_under_test import OutboxUnderTest

_DOCUMENT = (Path(__file__).parents[2] / "docs" / "producers.md").read_text()


def _statement(title: str) -> str:
    found = re.search(rf"^```sql {title}\n(.*?)\n```$", _DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/producers.md has no block for {title}"
    return found[1]


def _insert(outbox: OutboxUnderTest, number: int, statement: str | None = None) -> None:
    key, event_id = f"ORDER_PLACED:{number}", uuid.uuid4()
    row = {
        "event_id": event_id if outbox.backend == "postgresql" else event_id.hex,
        "key": key,
        "fact": hashlib.sha256(key.encode()).hexdigest(),
        "lead": "0123456789abcdef0123456789abcdef",
        "payload": '{"email": "ana@example.com", "cf_order_id": "1001"}',
    }
    with outbox.engine.begin() as connection:
        connection.execute(sa.text(statement or _statement(outbox.backend)), row)


def _delayed(outbox: OutboxUnderTest, *columns: str) -> str:
    """The documented statement with the documented moment in these columns."""
    later = _statement(f"{outbox.backend} delay").replace(":", r"\:")  # no parameter of `sa.text`
    statement = _statement(outbox.backend).replace("payload)", ", ".join(["payload", *columns]) + ")", 1)
    return statement.replace(":payload)", ", ".join([":payload", *[later] * len(columns)]) + ")")


def test_the_documented_insert_is_claimed_with_every_default_it_needs(outbox: OutboxUnderTest) -> None:
    _insert(outbox, 1001)
    (event,) = outbox.claim_all()
    assert (event.key, event.account, event.event_type) == ("ORDER_PLACED:1001", "default", "ORDER_PLACED")
    row = outbox.row(event.id)
    assert row.available_at == row.line_at == row.budget_from
    assert abs(row.created_at - outbox.now()) < timedelta(minutes=1)
    assert isinstance(row.event_id, uuid.UUID)


def test_the_same_fact_again_changes_nothing_and_raises_nothing(outbox: OutboxUnderTest) -> None:
    _insert(outbox, 1001)
    before = outbox.rows()
    _insert(outbox, 1001)
    assert outbox.rows() == before


def test_rows_of_one_lead_go_in_the_order_of_their_transactions(outbox: OutboxUnderTest) -> None:
    _insert(outbox, 1)
    _insert(outbox, 2)
    assert [event.key for event in outbox.claim_all()] == ["ORDER_PLACED:1"]


def test_the_documented_delay_holds_the_event_back_for_its_hour(outbox: OutboxUnderTest) -> None:
    later = _statement(f"{outbox.backend} delay")
    columns = ("available_at", "line_at", "ready_at", "budget_from")
    statement = _statement(outbox.backend).replace("payload)", f"payload, {', '.join(columns)})", 1)
    _insert(
        outbox, 1, statement.replace(":payload)", f":payload, {', '.join([later.replace(':', chr(92) + ':')] * 4)})")
    )
    assert outbox.claim_ids() == []
    (row,) = outbox.rows().values()
    assert timedelta(minutes=59) < row["available_at"] - outbox.now() < timedelta(minutes=61)
    assert row["ready_at"] == row["line_at"] == row["available_at"]


def test_a_delay_that_would_be_sent_at_once_is_refused(outbox: OutboxUnderTest) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="ck_outbox_events_ready"):
        _insert(outbox, 1, _delayed(outbox, "available_at"))


def test_the_documented_columns_are_all_that_have_no_default() -> None:
    needed = {
        column.name
        for column in events.columns
        if not column.nullable and column.server_default is None and not column.primary_key
    }
    documented = set(re.findall(r"^\| `(\w+)` \|", _DOCUMENT, re.MULTILINE))
    assert documented == needed


def test_the_documented_hashes_are_right() -> None:
    assert f"`{fact_hash('ORDER_PLACED:1001')}`" in _DOCUMENT
    assert f"`{lead_hash(' Ana@Example.COM', bytes(32))}`" in _DOCUMENT
    assert fact_hash("ECOMMERCE_CART_ABANDONED:7") == hashlib.sha256(b"CART_ABANDONED:7").hexdigest()
    assert fact_hash("ECOMMERCE_ORDER_PLACED:7") == hashlib.sha256(b"ORDER_PLACED:7").hexdigest()
