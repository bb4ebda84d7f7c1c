"""`dispatcher enqueue FILE` with everything that a file can hold (issue 2, acceptance 9). Real command, real SQLite."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from dispatcher.admin import entering
from dispatcher.admin.entering import Complaint, enter_file
from dispatcher.outbox import ringing
from dispatcher.outbox.tables import events
from tests.unit.admin.conftest import Command
from tests.unit.admin.malformed_lines import GOOD, malformed, order

BROKEN = list(malformed())
SAMPLES = (
    b'{"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"email": "contato@email.com", "cf_order_id": '
    b'"ID do pedido", "cf_order_total_items": 5, "cf_order_status": "Status do pedido", '
    b'"cf_order_payment_method": "Credit Card", "cf_order_payment_amount": 200.5}}\n'
    b'{"event_type": "CART_ABANDONED", "event_family": "CDP", "payload": {"email": "contato@email.com", "cf_cart_id": '
    b'"ID do carrinho", "cf_cart_total_items": "5", "cf_cart_status": "Status do carrinho"}}\n'
)


def keys(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(events.c.key).order_by(events.c.id)))


def test_two_hundred_malformed_lines_are_told_each_and_the_good_ones_between_are_in(
    migrated: Command, engine: sa.Engine, place: Path
) -> None:
    assert len({line for _, line, _ in BROKEN}) == len(BROKEN) >= 200
    lines = [part for number, (_, line, _) in enumerate(BROKEN) for part in (line, order(number))]
    (place / "events.jsonl").write_bytes(b"\n".join(lines))

    ran = migrated("enqueue", "events.jsonl", "--json")

    assert ran.code == 1
    told: dict[int, set[str]] = {}
    for complaint in ran.complaints:
        assert set(complaint) == {"line", "path", "problem"}
        told.setdefault(complaint["line"], set()).add(complaint["path"])
    missing = [name for number, (name, _, path) in enumerate(BROKEN) if path not in told.get(2 * number + 1, ())]
    assert missing == []
    assert len(told) == len(BROKEN)
    assert ran.json["enqueued"] == len(BROKEN)
    assert keys(engine) == [f"ORDER_PLACED:good-{number}" for number in range(len(BROKEN))]


def test_what_was_refused_is_not_quoted(migrated: Command, place: Path) -> None:
    secret = "segredo@cliente.example"
    lines = [line.replace(b"ana@cliente.example", secret.encode()) for _, line, _ in BROKEN]
    (place / "events.jsonl").write_bytes(b"\n".join(lines))

    ran = migrated("enqueue", "events.jsonl")

    assert "segredo" not in ran.out + ran.err
    assert "Traceback" not in ran.err


def test_the_samples_of_the_api_pages_go_in_and_are_known_when_they_come_again(migrated: Command) -> None:
    first = migrated("enqueue", "-", "--json", stdin=SAMPLES)
    second = migrated("enqueue", "-", "--json", stdin=SAMPLES)

    assert (first.code, first.json["enqueued"], first.json["known"]) == (0, 2, 0)
    assert (second.code, second.json["enqueued"], second.json["known"]) == (0, 0, 2)
    assert second.err == ""


def test_a_known_key_with_other_content_is_told_and_is_no_failure(migrated: Command, engine: sa.Engine) -> None:
    migrated("enqueue", "-", stdin=GOOD)

    ran = migrated("enqueue", "-", "--json", stdin=b"\n" + GOOD.replace(b'"Ana"', b'"Bia"'))

    assert (ran.code, ran.json["conflicts"], ran.json["enqueued"]) == (0, 1, 0)
    assert [(complaint["line"], complaint["path"]) for complaint in ran.complaints] == [(2, "$")]
    assert len(keys(engine)) == 1


def test_blank_lines_line_ends_and_a_byte_order_mark_are_no_problem(migrated: Command) -> None:
    content = b"\xef\xbb\xbf" + order(1) + b"\r\n\r\n   \n" + order(2) + b"\n\n"

    ran = migrated("enqueue", "-", "--json", stdin=content)

    assert (ran.code, ran.json["lines"], ran.json["enqueued"]) == (0, 2, 2)


def test_an_interrupted_file_goes_on_where_it_stopped(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entering, "BATCH", 4)
    content = b"\n".join(order(number) for number in range(10))

    class Torn(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() > len(content) * 0.7:
                raise KeyboardInterrupt
            return super().readline(size)

    def silent(_: Complaint) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        enter_file(engine, Torn(content), account="default", complain=silent)
    assert len(keys(engine)) == 4

    counts = enter_file(engine, io.BytesIO(content), account="default", complain=silent)
    assert (counts.known, counts.enqueued) == (4, 6)
    assert len(set(keys(engine))) == len(keys(engine)) == 10


def test_each_batch_rings_after_its_commit_and_only_if_it_brought_something(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "BATCH", 2)
    rung: list[tuple[list[str], int]] = []

    class Listener:
        def ring(self, accounts: object) -> None:
            rung.append((list(accounts), len(keys(engine))))  # type: ignore[call-overload]  # any iterable

    ringing.install(Listener())
    content = b"\n".join(order(number) for number in range(3))

    for _ in range(2):
        enter_file(engine, io.BytesIO(content), account="shop-2", complain=lambda _: None)

    assert rung == [(["shop-2"], 2), (["shop-2"], 3)]


def test_the_account_is_taken_from_the_option(migrated: Command) -> None:
    migrated("enqueue", "-", "--account", "shop-2", stdin=GOOD)

    assert migrated("show", "ORDER_PLACED:1001").code == 1
    assert migrated("show", "ORDER_PLACED:1001", "--account", "shop-2", "--json").json["account"] == "shop-2"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("enqueue", "nowhere.jsonl"), "nowhere.jsonl"),
        (("enqueue", "-", "--account", "a b"), "account"),
        (("enqueue",), "FILE"),
    ],
)
def test_a_wrong_use_is_told_with_code_2(migrated: Command, arguments: tuple[str, ...], word: str) -> None:
    ran = migrated(*arguments)

    assert ran.code == 2
    assert word in ran.err


def test_a_batch_that_the_database_refuses_costs_only_the_event_it_is_about(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TRIGGER moody BEFORE INSERT ON outbox_events WHEN NEW.key = 'ORDER_PLACED:good-1' "
                "BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
    told: list[Complaint] = []

    content = b"\n".join(order(number) for number in range(3))
    counts = enter_file(engine, io.BytesIO(content), account="default", complain=told.append)

    assert (counts.enqueued, counts.refused) == (2, 1)
    assert [complaint.line for complaint in told] == [2]


def test_stdout_is_one_json_document(migrated: Command) -> None:
    ran = migrated("enqueue", "-", "--json", stdin=GOOD + b"\nnope\n")

    assert json.loads(ran.out) == {"lines": 2, "enqueued": 1, "known": 0, "conflicts": 0, "refused": 1}
