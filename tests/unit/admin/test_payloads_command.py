"""`payloads seal|unseal|status` and what `check` finds. Real command, real SQLite; the shop is this process."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from dispatcher import OrderPlaced, enqueue
from dispatcher.outbox.installed import forget_installed
from tests.unit.admin.conftest import Command

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
EMAIL = "maria.sealed@cliente.example"


def place_order(engine: sa.Engine, number: int) -> None:
    forget_installed(engine)  # a process that has just been started
    with engine.begin() as connection:
        enqueue(connection, OrderPlaced(**{**OrderPlaced.EXAMPLE, "email": EMAIL, "cf_order_id": str(number)}))


def findings(dispatcher: Command) -> dict[str, Any]:
    return {one["code"]: one["level"] for one in dispatcher("check", "--json").json if one["code"][:8] == "payloads"}


def keys_are(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    monkeypatch.setenv("DISPATCHER_ENCRYPTION_KEYS", ",".join(keys))


def test_from_plain_text_to_a_changed_key_and_back(
    migrated: Command, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys_are(monkeypatch, OLD)
    place_order(engine, 1)
    assert findings(migrated) == {}

    assert migrated("payloads", "seal", "--by", "ana", "--json").json["sealed"] == 1
    assert findings(migrated) == {"payloads.sealed": "ok"}
    place_order(engine, 2)
    assert EMAIL in migrated("show", "ORDER_PLACED:2", "--payload", "--json").out
    with engine.begin() as connection:  # a producer in another language, or a shop that runs since before
        connection.execute(sa.text("UPDATE outbox_events SET payload = '{}' WHERE \"key\" = 'ORDER_PLACED:1'"))
    assert findings(migrated) == {"payloads.plain": "warning"}

    keys_are(monkeypatch, NEW, OLD)
    assert findings(migrated) == {"payloads.plain": "warning"}, "the switch is not moved by a key alone"
    assert migrated("payloads", "seal").code == 0
    place_order(engine, 3)
    standing = migrated("payloads", "status", "--json").json
    assert [(key["events"], key["at_hand"]) for key in standing["keys"]] == [(3, True)]
    keys_are(monkeypatch, OLD)
    assert findings(migrated) == {"payloads.unreadable": "error"}
    assert migrated("explain", "ORDER_PLACED:2", "--json").json["cause"] == "unreadable"

    keys_are(monkeypatch, NEW)
    assert migrated("payloads", "unseal", "--yes").code == 0
    assert findings(migrated) == {}
    kinds = [one["kind"] for one in migrated("operations", "list", "--json").json]
    assert kinds == ["unseal", "seal", "seal"]


def test_a_walk_that_cannot_open_all_says_so_and_the_doctor_names_an_older_key(
    migrated: Command, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys_are(monkeypatch, OLD)
    assert migrated("payloads", "seal").code == 0
    place_order(engine, 1)
    keys_are(monkeypatch, NEW)

    ran = migrated("payloads", "seal")

    assert ran.code == 1
    assert "1 rows" in ran.err
    assert "which is not at hand" in migrated("payloads", "status").out
    keys_are(monkeypatch, NEW, OLD)
    assert findings(migrated) == {"payloads.older_key": "warning"}


def test_personal_data_is_not_stored_in_plain_text_without_a_yes(migrated: Command) -> None:
    assert migrated("payloads", "unseal").code != 0
    assert migrated("operations", "list", "--json").json == []
