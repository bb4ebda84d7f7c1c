"""What `check` finds, one cause at a time. Real command, real SQLite, real sockets that refuse; nobody is doubled."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from dispatcher import OrderPlaced, enqueue
from tests.unit.admin.conftest import Command


def findings(dispatcher: Command) -> dict[str, dict[str, Any]]:
    ran = dispatcher("check", "--json")
    found: list[dict[str, Any]] = ran.json
    assert all(set(finding) == {"code", "level", "message", "fix"} for finding in found)
    assert all(finding["fix"] for finding in found if finding["level"] != "ok")
    assert ran.code == (1 if any(finding["level"] == "error" for finding in found) else 0)
    return {finding["code"]: finding for finding in found}


def test_a_working_installation_has_no_error(migrated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RD_CLIENT_ID": "c", "RD_CLIENT_SECRET": "s", "RD_REFRESH_TOKEN": "hunter2"}.items():
        monkeypatch.setenv(f"DISPATCHER_{name}", value)

    found = findings(migrated)

    assert [code for code, finding in found.items() if finding["level"] == "error"] == []
    assert found.keys() >= {
        "settings.read",
        "encryption.key_file",
        "schema.current",
        "broker.embedded",
        "lease.recovery",
    }


def test_a_database_that_was_never_migrated(dispatcher: Command, place: Path) -> None:
    assert findings(dispatcher)["schema.missing"]["level"] == "error"
    assert list(place.iterdir()) == []


def test_a_schema_of_another_release(migrated: Command, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE outbox_alembic_version SET version_num = '0000'"))

    assert "0000" in findings(migrated)["schema.missing"]["message"]


def test_every_refused_setting_is_a_finding(dispatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", "oracle://hunter2@x/y")
    monkeypatch.setenv("DISPATCHER_MAX_FAILURES", "0")

    ran = dispatcher("check", "--json")

    assert [finding["code"] for finding in ran.json] == ["settings.invalid", "settings.invalid"]
    assert "hunter2" not in ran.out


def test_a_misspelt_setting_is_a_warning(migrated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_ACCOUNT_PER_MINUT", "1")

    assert "ACCOUNT_PER_MINUTE" in findings(migrated)["settings.unknown"]["message"]


def test_a_missing_key_on_a_server_database_comes_with_a_fresh_one(
    dispatcher: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", "postgresql+psycopg://root:hunter2@127.0.0.1:1/x")
    keys = set()
    for _ in range(2):
        found = findings(dispatcher)
        key = re.search(r"DISPATCHER_ENCRYPTION_KEYS=(\S+)", found["encryption.missing"]["fix"])
        assert key is not None
        Fernet(key[1])
        keys.add(key[1])
    assert len(keys) == 2
    assert found["database.unreachable"]["level"] == "error"
    assert found["broker.missing"]["level"] == "error"
    assert "hunter2" not in str(found)


def test_a_broker_that_is_away_is_a_warning_because_sweeps_deliver(
    migrated: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = taken.getsockname()[1]
        for url in (f"redis://:hunter2@127.0.0.1:{port}/0", f"amqp://u:hunter2@127.0.0.1:{port}//"):
            monkeypatch.setenv("DISPATCHER_BROKER_URL", url)
            found = findings(migrated)
            assert found["broker.unreachable"]["level"] == "warning"
            assert "hunter2" not in str(found)


def test_credentials_that_are_missing(migrated: Command) -> None:
    assert findings(migrated)["credentials.missing"]["level"] == "error"


def test_a_refresh_token_without_its_app(migrated: Command) -> None:
    migrated("account", "add", "default", stdin=b"refresh\n")

    assert findings(migrated)["credentials.no_client"]["level"] == "error"


def test_an_access_token_alone(migrated: Command) -> None:
    migrated("account", "add", "default", "--access-token", stdin=b"access\n")

    assert findings(migrated)["credentials.no_refresh"]["level"] == "warning"


def test_credentials_that_no_key_opens(migrated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated("account", "add", "default", stdin=b"refresh\n")
    monkeypatch.setenv("DISPATCHER_ENCRYPTION_KEYS", Fernet.generate_key().decode())

    assert findings(migrated)["credentials.sealed"]["level"] == "error"


def test_limits_that_are_off_or_above_most_plans(migrated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_ACCOUNT_PER_MINUTE", "0")
    monkeypatch.setenv("DISPATCHER_LEAD_PER_DAY", "500")

    found = findings(migrated)

    assert [found[f"limits.{name}"]["level"] for name in ("account_per_minute", "lead_per_day")] == ["warning"] * 2


def test_a_paused_and_a_suspended_account(migrated: Command, engine: sa.Engine) -> None:
    migrated("pause", "--by", "ana")
    assert "ana" in findings(migrated)["account.paused"]["message"]

    migrated("resume")
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE outbox_accounts SET suspended_at = created_at, suspend_reason = 'refused', "
                "suspend_detail = '401', suspended_types = "
                '\'{"SALE": {"reason": "refused", "detail": "403", "probe_at": "2026-01-01T00:00:00+00:00"}}\''
            )
        )
    found = findings(migrated)
    assert (found["account.suspended"]["level"], found["account.type_suspended"]["level"]) == ("error", "error")


def test_deprecated_types_are_named_with_the_date(migrated: Command, engine: sa.Engine) -> None:
    assert "events.deprecated" not in findings(migrated)
    with engine.begin() as connection:
        enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE))

    finding = findings(migrated)["events.deprecated"]

    assert "31 December 2025" in finding["message"]
    assert "ECOMMERCE_ORDER_PLACED" in finding["fix"]


def test_nobody_at_work_is_told_with_what_waits(migrated: Command, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE))
    assert "1 events are due" in findings(migrated)["worker.none"]["message"]

    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO outbox_workers (worker) VALUES ('w1')"))
    assert findings(migrated)["worker.progress"]["level"] == "ok"


def test_people_get_one_line_for_each_finding_and_its_fix(migrated: Command) -> None:
    ran = migrated("check")

    assert ran.code == 1
    assert re.search(r"^error +credentials\.missing: ", ran.out, re.MULTILINE)
    assert "fix: run `dispatcher account add default`" in ran.out
