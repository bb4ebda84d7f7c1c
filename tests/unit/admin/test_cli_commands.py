"""The commands as an operator or a script meets them: exit codes, JSON fields, refusals, nothing that leaks.

The real command line on a real SQLite file; events die by real claims and settlements.
"""

from __future__ import annotations

import getpass
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher import OrderPlaced, enqueue
from dispatcher.admin.cli import main
from dispatcher.lifecycle import Reason
from dispatcher.outbox import ringing
from dispatcher.outbox.claim import claim
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.settle import settle
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.tables import accounts, attempts, events
from dispatcher.outbox.transaction import in_transaction
from dispatcher.policy.decision import Bury
from dispatcher.policy.outcome import Outcome, ProviderError, Stage
from dispatcher.policy.verdicts import Verdict
from tests.unit.admin.conftest import Command
from tests.unit.admin.malformed_lines import ENVELOPE

SHOWN = {"event_id", "account", "event_type", "key", "state", "attempt", "failures", "event_uuid", "reason"} | {
    "available_at",
    "attempts",
}
NO_LIMITS = Quota(0, 0)
MINUTE = timedelta(minutes=1)


def put(engine: sa.Engine, *numbers: int) -> None:
    with engine.begin() as connection:
        for number in numbers:
            payload = {**ENVELOPE["payload"], "cf_order_id": str(number), "email": f"secret{number}@lead.example"}
            enqueue(connection, OrderPlaced(**payload))


def kill(engine: sa.Engine) -> None:
    """Claim whatever is due, and bury it as RD Station rejects it."""
    rules = ClaimRules(lease=MINUTE, quota=NO_LIMITS, max_age=timedelta(days=7), probe_every=MINUTE)
    refusal = ProviderError("INVALID_OPTION", "must be one of the list", "$.payload.cf_order_status")

    def round_(connection: sa.Connection) -> int:
        events = claim(connection, rules, worker="w", room=100, hints=["default"]).events
        rejected = [
            Settlement(
                held=event.held,
                account=event.account,
                event_type=event.event_type,
                key=event.key,
                verdict=Verdict.REJECTED,
                decision=Bury(Reason.REJECTED, "RD Station refuses it"),
                outcome=Outcome(Stage.ANSWERED, status=400, errors=(refusal,)),
            )
            for event in events
        ]
        settle(connection, rejected, probe_every=MINUTE, worker="w", rng=Random(1))  # noqa: S311 - jitter
        return len(events)

    while in_transaction(engine, round_):
        pass


@pytest.fixture
def dead(migrated: Command, engine: sa.Engine) -> Command:
    """`dispatcher` with three dead orders: 1, 2 and 3."""
    put(engine, 1, 2, 3)
    kill(engine)
    return migrated


def test_without_a_database_a_command_says_to_migrate_and_creates_no_file(dispatcher: Command, place: Path) -> None:
    ran = dispatcher("status")

    assert (ran.code, ran.out) == (1, "")
    assert "run `dispatcher migrate`" in ran.err
    assert list(place.iterdir()) == []


def test_with_an_empty_database_a_command_says_to_migrate(dispatcher: Command, place: Path) -> None:
    (place / "dispatcher.db").touch()

    ran = dispatcher("list")

    assert ran.code == 1
    assert re.fullmatch(r"dispatcher: .*run `dispatcher migrate`\n", ran.err)


def test_migrate_says_what_it_did_and_is_safe_to_run_twice(dispatcher: Command) -> None:
    assert "applied 0001" in dispatcher("migrate").out
    assert dispatcher("migrate").out.endswith("is up to date\n")


def test_migrate_refuses_a_strangers_table_in_one_line(dispatcher: Command, place: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{place / 'dispatcher.db'}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE outbox_events (id INTEGER)"))

    ran = dispatcher("migrate")

    assert ran.code == 1
    assert "outbox_events" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_refused_setting_is_told_without_its_value(dispatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", "oracle://root:hunter2@db/x")

    ran = dispatcher("status")

    assert ran.code == 1
    assert "DISPATCHER_DATABASE_URL" in ran.err
    assert "hunter2" not in ran.err + ran.out


def test_a_database_that_is_away_is_told_without_the_password(
    dispatcher: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", "postgresql+psycopg://root:hunter2@127.0.0.1:1/x")

    ran = dispatcher("status")

    assert ran.code == 1
    assert "127.0.0.1:1/x cannot be reached" in ran.err
    assert "hunter2" not in ran.err + ran.out
    assert "Traceback" not in ran.err


def test_a_bug_is_told_by_its_place_and_quotes_nothing(migrated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("token hunter2")

    monkeypatch.setattr("dispatcher.admin.commands.looking.overview_document", broken)

    ran = migrated("status", "--json")

    assert ran.code == 1
    assert "ValueError" in ran.err
    assert "hunter2" not in ran.err + ran.out


@pytest.mark.parametrize("arguments", [("nonsense",), ("status", "--nonsense"), ("show",), ("list", "--state", "gone")])
def test_wrong_use_ends_with_2(migrated: Command, arguments: tuple[str, ...]) -> None:
    assert migrated(*arguments).code == 2


def test_every_command_explains_itself(dispatcher: Command) -> None:
    text = dispatcher("--help").out
    names = ["migrate", "worker", "sandbox", "enqueue", "status", "list", "show", "dead", "pause", "resume", "account"]
    assert [name for name in [*names, "schema", "check"] if name not in text] == []
    for group in (["dead"], ["account"]):
        assert dispatcher(*group, "--help").code == 0
    for name in ("migrate", "worker", "sandbox", "enqueue", "status", "list", "show", "pause", "resume", "check"):
        ran = dispatcher(name, "--help")
        assert (ran.code, len(ran.out) > 300) == (0, True)


def test_status_has_the_fixed_fields(dead: Command) -> None:
    document = dead("status", "--json").json

    assert document["states"] == {"pending": 0, "in_flight": 0, "delivered": 0, "dead": 3, "cancelled": 0}
    assert (document["oldest_due_seconds"], document["uncertain"], document["abandoned"]) == (0.0, 0, 0)
    assert [(account["account"], account["state"]) for account in document["accounts"]] == [("default", "open")]


def test_show_has_the_fixed_fields_and_hides_the_payload(dead: Command) -> None:
    ran = dead("show", "ORDER_PLACED:1", "--json")
    document = ran.json

    assert document.keys() >= SHOWN
    assert (document["state"], document["reason"], document["attempt"]) == ("dead", "rejected", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", document["available_at"])
    assert document["attempts"][0]["status"] == 400
    assert document["attempts"][0]["errors"][0]["path"] == "$.payload.cf_order_status"
    assert "payload" not in document
    assert "secret1@lead.example" not in ran.out
    assert dead("show", document["event_id"], "--json").json == document


def test_show_reveals_the_payload_when_it_is_asked_to(dead: Command) -> None:
    assert dead("show", "ORDER_PLACED:1", "--json", "--payload").json["payload"]["email"] == "secret1@lead.example"
    assert "secret1@lead.example" in dead("show", "ORDER_PLACED:1", "--payload").out
    assert "secret1@lead.example" not in dead("show", "ORDER_PLACED:1").out


def test_explain_names_the_cause_and_what_to_do_also_for_what_does_not_exist(dead: Command) -> None:
    one = dead("explain", "ORDER_PLACED:1", "--json").json
    assert {"key", "account", "event_type", "state", "cause", "until", "by", "says", "advice"} <= one.keys()
    assert (one["state"], one["cause"], one["until"]) == ("dead", "dead", None)

    told = dead("explain", "ORDER_PLACED:404")
    assert (told.code, "never_enqueued" in told.out, "do  " in told.out) == (0, True, True)


def test_a_dry_run_reports_and_changes_nothing_and_the_record_lists_what_was_done(dead: Command) -> None:
    report = dead("dead", "replay", "--reason", "rejected", "--dry-run", "--json").json
    assert (report["count"], report["sent"], report["uncertain"], report["expired"]) == (3, 3, 0, 0)
    assert dead("status", "--json").json["states"]["dead"] == 3

    assert dead("dead", "replay", "--reason", "rejected", "--yes", "--by", "ana", "--note", "fixed").code == 0
    assert dead("prune", "--by", "bia", "--json").json == {"pruned": 0, "discarded": 0, "operations": 0, "seen": 3}
    pruned, replayed = dead("operations", "list", "--json").json
    assert (pruned["kind"], pruned["signed_by"]) == ("prune", "bia")
    assert (replayed["kind"], replayed["state"], replayed["note"], replayed["seen"]) == ("replay", "done", "fixed", 3)
    assert dead("operations", "resume", str(replayed["id"])).code == 1
    assert dead("operations", "cancel", str(replayed["id"])).code == 1


def test_a_person_is_forgotten_only_with_a_yes_and_the_address_may_come_from_stdin(dead: Command) -> None:
    assert dead("forget", "secret1@lead.example").code == 2
    found = dead("forget", "-", "--yes", "--json", stdin=b"secret1@lead.example\n").json
    assert (found["emptied"], found["ended"]) == (1, 1)
    assert dead("explain", "ORDER_PLACED:1", "--json").json["cause"] == "forgotten"


def test_a_field_of_many_is_set_and_a_wrong_path_is_wrong_use(dead: Command) -> None:
    assert dead("dead", "replay", "--reason", "rejected", "--yes", "--set", "name=Ana").code == 2
    done = dead("dead", "replay", "--reason", "rejected", "--yes", "--set", "payload.name=Ana", "--json").json
    assert done["replayed"] == 3
    assert dead("show", "ORDER_PLACED:2", "--payload", "--json").json["payload"]["name"] == "Ana"


def test_what_does_not_exist_is_told_with_code_1(dead: Command) -> None:
    for arguments in (
        ("show", "ORDER_PLACED:9"),
        ("dead", "show", "ORDER_PLACED:9"),
        ("dead", "replay", "ORDER_PLACED:9"),
    ):
        ran = dead(*arguments)
        assert (ran.code, "ORDER_PLACED:9" in ran.err) == (1, True)


def test_items_of_lists_have_the_fields_of_show(dead: Command) -> None:
    shown = dead("show", "ORDER_PLACED:3", "--json").json

    assert dead("list", "--json").json[0] == shown
    assert dead("dead", "list", "--json").json[0] == shown
    assert len(dead("list", "--json", "--limit", "2").json) == 2
    assert dead("list", "--json", "--state", "pending").json == []
    assert len(dead("list", "--json", "--state", "dead", "--type", "ORDER_PLACED", "--since", "1h").json) == 3


def test_tables_for_people_carry_no_colour_codes_when_nobody_looks(dead: Command) -> None:
    for arguments in (("list",), ("dead", "list"), ("show", "ORDER_PLACED:1"), ("status",), ("account", "list")):
        ran = dead(*arguments)
        assert ran.code == 0
        assert "\x1b" not in ran.out
    assert "ORDER_PLACED:1" in dead("dead", "list").out
    assert "must be one of the list" in dead("dead", "show", "ORDER_PLACED:1").out


def test_a_reason_with_markup_or_control_characters_is_shown_as_text(migrated: Command, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.update(accounts).values(paused_at=sa.text("created_at"), paused_by="[red]x\x1b[2J", pause_note="[/]")
        )

    ran = migrated("account", "list")

    assert ran.code == 0
    assert "[red]x" in ran.out
    assert "\x1b" not in ran.out


def test_one_named_event_is_replayed_without_a_question(dead: Command) -> None:
    ran = dead("dead", "replay", "ORDER_PLACED:1", "--note", "fixed", "--by", "ana", "--json")

    assert ran.code == 0
    assert ran.json.items() >= {"replayed": 1, "expired": 0, "refused": [], "not_found": []}.items()
    letter = dead("dead", "show", "ORDER_PLACED:1", "--json").json["dead_letters"][0]
    assert (letter["resolution"], letter["resolved_by"], letter["note"]) == ("replayed", "ana", "fixed")


def test_a_held_event_that_a_person_found_ends_delivered_and_others_are_refused(
    dead: Command, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        event = connection.execute(sa.select(events.c.id).where(events.c.key == "ORDER_PLACED:1")).scalar_one()
        tried = {"event": event, "attempt": 7, "verdict": "uncertain"}
        connection.execute(sa.insert(attempts).values(ended_at=read_clock(connection)), tried)

    refused = dead("dead", "arrived", "ORDER_PLACED:2")
    assert (refused.code, "cannot have arrived" in refused.err) == (1, True)
    ran = dead("dead", "arrived", "ORDER_PLACED:1", "--note", "seen", "--by", "ana", "--json")

    assert ran.code == 0
    assert ran.json.items() >= {"confirmed": 1, "refused": [], "not_found": []}.items()
    shown = dead("show", "ORDER_PLACED:1", "--json").json
    assert (shown["state"], shown["reason"]) == ("delivered", "arrived")
    assert (shown["dead_letters"][0]["resolution"], shown["dead_letters"][0]["resolved_by"]) == ("arrived", "ana")


def test_who_is_the_user_unless_it_is_said(dead: Command) -> None:
    dead("dead", "discard", "ORDER_PLACED:1")

    letter = dead("dead", "show", "ORDER_PLACED:1", "--json").json["dead_letters"][0]
    assert (letter["resolution"], letter["resolved_by"]) == ("discarded", getpass.getuser())


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_an_empty_filter_is_refused(dead: Command, verb: str) -> None:
    for further in ((), ("--yes",)):
        ran = dead("dead", verb, *further)
        assert ran.code == 2
    assert dead("status", "--json").json["states"]["dead"] == 3


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_many_are_not_changed_without_yes_and_the_count_is_told(dead: Command, verb: str) -> None:
    ran = dead("dead", verb, "--type", "ORDER_PLACED")

    assert (ran.code, ran.out) == (2, "")
    assert f"{verb} 3 dead events" in " ".join(ran.err.split())
    assert dead("status", "--json").json["states"]["dead"] == 3


def test_a_filter_with_yes_changes_what_it_means(dead: Command) -> None:
    assert dead("dead", "replay", "--reason", "too_old", "--yes", "--json").json["replayed"] == 0
    assert dead("dead", "replay", "--reason", "rejected", "--since", "1h", "--yes", "--json").json["replayed"] == 3
    assert dead("status", "--json").json["states"]["pending"] == 3


def test_names_and_a_filter_together_are_refused(dead: Command) -> None:
    assert dead("dead", "replay", "ORDER_PLACED:1", "--type", "ORDER_PLACED").code == 2


def test_a_person_is_asked_and_no_means_no(dead: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.admin.resolving.may_ask", lambda: True)

    refused = dead("dead", "discard", "--type", "ORDER_PLACED", stdin=b"n\n")
    assert (refused.code, dead("status", "--json").json["states"]["dead"]) == (1, 3)

    assert dead("dead", "discard", "--type", "ORDER_PLACED", stdin=b"y\n").code == 0
    assert dead("status", "--json").json["states"]["cancelled"] == 3


def test_a_replay_rings_after_it_is_committed(
    dead: Command, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[tuple[list[str], int]] = []

    class Listener:
        def ring(self, accounts: Any) -> None:
            with engine.connect() as connection:
                waiting = connection.execute(sa.text("SELECT COUNT(*) FROM outbox_events WHERE state = 'pending'"))
                rung.append((list(accounts), waiting.scalar_one()))

    monkeypatch.setattr("dispatcher.shop.connect", lambda _settings: ringing.install(Listener()))

    dead("dead", "replay", "ORDER_PLACED:1", "ORDER_PLACED:2")

    assert rung == [(["default"], 2)]


def test_a_corrected_payload_is_checked_before_anything_changes(dead: Command, place: Path) -> None:
    good = {**ENVELOPE["payload"], "cf_order_id": "1"}
    (place / "bad.json").write_text(json.dumps({**good, "cf_order_payment_method": "Pix"}))
    (place / "good.json").write_text(json.dumps(good))

    refused = dead("dead", "replay", "ORDER_PLACED:1", "--payload", "bad.json")
    assert refused.code == 1
    assert "$.payload.cf_order_payment_method" in refused.err
    assert dead("show", "ORDER_PLACED:1", "--json").json["state"] == "dead"

    assert dead("dead", "replay", "ORDER_PLACED:1", "--payload", "good.json", "--json").json["replayed"] == 1
    shown = dead("show", "ORDER_PLACED:1", "--json", "--payload").json
    assert (shown["state"], shown["key"], shown["payload"]["email"]) == ("pending", "ORDER_PLACED:1", good["email"])
    assert shown["dead_letters"][0]["payload_before"]["email"] == "secret1@lead.example"


@pytest.mark.parametrize(
    ("correction", "code"),
    [(b"[1]", 2), (b"\xff", 2), (b"{", 1), (b'{"email": NaN}', 1), (b'{"email": "a", "email": "b"}', 1)],
)
def test_a_correction_that_is_no_json_object_is_refused(dead: Command, correction: bytes, code: int) -> None:
    ran = dead("dead", "replay", "ORDER_PLACED:1", "--payload", "-", stdin=correction)

    assert ran.code == code
    assert "Traceback" not in ran.err
    assert dead("show", "ORDER_PLACED:1", "--json").json["state"] == "dead"


def test_a_correction_is_for_one_named_event(dead: Command) -> None:
    for which in ((), ("--type", "ORDER_PLACED"), ("ORDER_PLACED:1", "ORDER_PLACED:2")):
        assert dead("dead", "replay", *which, "--payload", "-", "--yes", stdin=b"{}").code == 2


def test_pause_and_resume_change_the_state_and_say_who(migrated: Command) -> None:
    assert migrated("pause", "--note", "stock-taking", "--by", "ana", "--json").json == [
        {"account": "default", "changed": True}
    ]
    (account,) = migrated("status", "--json").json["accounts"]
    assert (account["state"], account["reason"], account["paused_by"]) == ("paused", "stock-taking", "ana")
    assert account["since"] is not None

    assert migrated("resume", "default", "--by", "bia").code == 0
    (account,) = migrated("status", "--json").json["accounts"]
    assert account["state"] == "open"
    assert account["resumed"].startswith("resumed by bia at ")
    assert migrated("resume", "default", "--json").json == [{"account": "default", "changed": False}]


def test_pausing_a_mistyped_account_is_refused(migrated: Command) -> None:
    ran = migrated("pause", "defualt")

    assert (ran.code, "known: default" in ran.err) == (1, True)
    assert migrated("pause", "default", "--all").code == 2


def test_account_add_reads_the_token_from_stdin_and_stores_it_sealed(migrated: Command, place: Path) -> None:
    ran = migrated("account", "add", "shop-2", stdin=b"refresh-hunter2\n")

    assert (ran.code, ran.out) == (0, "")
    listed = {account["account"]: account for account in migrated("account", "list", "--json").json}
    assert listed["shop-2"]["has_credentials"] is True
    stored = b"".join(path.read_bytes() for path in place.iterdir())
    assert b"refresh-hunter2" not in stored
    assert migrated("account", "add", "shop-2", stdin=b"\n").code == 2


def test_account_remove_wants_a_yes_and_says_if_there_was_nothing(migrated: Command) -> None:
    migrated("account", "add", "shop-2", stdin=b"refresh-hunter2\n")

    assert migrated("account", "remove", "shop-2").code == 2
    assert migrated("account", "remove", "shop-2", "--yes").code == 0
    assert migrated("account", "remove", "shop-2", "--yes").code == 1


def test_schema_prints_the_schema_of_a_type_and_suggests_one_for_a_typo(dispatcher: Command) -> None:
    assert dispatcher("schema", "ORDER_PLACED").json["title"] == "ORDER_PLACED"
    ran = dispatcher("schema", "ORDER_PLASED")
    assert (ran.code, "ORDER_PLACED" in ran.err) == (2, True)


def test_worker_becomes_celery_and_passes_options_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _path, arguments: ran.append(arguments))

    for arguments in (["worker"], ["worker", "--concurrency", "4", "--loglevel=DEBUG", "-P", "threads"]):
        with pytest.raises(SystemExit):
            main(arguments)

    celery = [sys.executable, "-m", "celery", "-A", "workers", "worker"]
    assert ran == [
        [*celery, "--loglevel=INFO"],
        [*celery, "--concurrency", "4", "--loglevel=DEBUG", "-P", "threads"],
    ]


def test_worker_tells_a_mistake_in_the_settings_itself(dispatcher: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_LEASE_SECONDS", "1")
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("started"))

    ran = dispatcher("worker")

    assert (ran.code, "DISPATCHER_" in ran.err) == (1, True)


def test_sandbox_refuses_a_switch_it_does_not_know(dispatcher: Command) -> None:
    for switch in ("speed=9", "enforce", "enforce=perhaps"):
        ran = dispatcher("sandbox", "--port", "0", "--set", switch)
        assert ran.code == 2


@pytest.mark.parametrize(
    ("option", "given", "told"),
    [
        ("--fault", "status", "NAME=VALUE"),
        ("--fault", "status=2", "accept_then_drop"),
        ("--fault", "nothing=0.1", "accept_then_drop"),
        ("--fault", "status=x", "accept_then_drop"),
        ("--set", "legacy=perhaps", "accept, reject"),
    ],
)
def test_the_sandbox_refuses_what_it_does_not_know_and_names_what_it_does(
    dispatcher: Command, option: str, given: str, told: str
) -> None:
    ran = dispatcher("sandbox", "--port", "0", option, given)
    assert (ran.code, option in ran.err, told in ran.err) == (2, True, True)
