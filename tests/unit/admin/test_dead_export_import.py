"""`dead export`, an editor, `dead import`. Real commands, real SQLite; the person with the editor is a function."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import OrderPlaced, enqueue
from dispatcher.admin.edited_lines import read_edits
from dispatcher.lifecycle import Reason
from dispatcher.outbox import importing
from dispatcher.outbox.dead_letters import Letter, open_letters
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.tables import dead_letters, events
from tests.unit.admin.conftest import Command

Line = dict[str, Any]


def bury(engine: sa.Engine, *numbers: int) -> None:
    """Orders that RD Station has refused."""
    with engine.begin() as connection:
        for number in numbers:
            order = OrderPlaced(**{**OrderPlaced.EXAMPLE, "cf_order_id": str(number)})
            receipt = enqueue(connection, order)
            here = events.c.event_id == receipt.event_id
            now = sa.select(events.c.created_at).where(here).scalar_subquery()
            connection.execute(
                sa.update(events).where(here).values(
                    state="dead", reason="rejected", attempt=1, ready_at=None, ended_at=now
                )
            )  # fmt: skip
            row = connection.execute(sa.select(events.c.id).where(here)).scalar_one()
            open_letters(connection, [Letter(row, "default", "ORDER_PLACED", Reason.REJECTED, "400", 1)])


def exported(dispatcher: Command, place: Path, name: str = "dead.jsonl") -> list[Line]:
    assert dispatcher("dead", "export", name).code == 0
    return [json.loads(line) for line in (place / name).read_text().splitlines()]


def edited(place: Path, lines: list[Line], change: Callable[[Line], None] = lambda _: None) -> str:
    for line in lines:
        change(line)
    (place / "edited.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "edited.jsonl"


def states(engine: sa.Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {row.key.partition(":")[2]: row.state for row in connection.execute(sa.select(events))}


def payload(engine: sa.Engine, number: int) -> Any:
    query = sa.select(events.c.payload).where(events.c.key == f"ORDER_PLACED:{number}")
    with engine.connect() as connection:
        return json.loads(connection.execute(query).scalar_one())


def test_export_edit_import(migrated: Command, engine: sa.Engine, place: Path) -> None:
    bury(engine, 1, 2, 3)
    lines = exported(migrated, place)
    assert stat.S_IMODE((place / "dead.jsonl").stat().st_mode) == 0o600
    assert [line["key"] for line in lines] == ["ORDER_PLACED:1", "ORDER_PLACED:2", "ORDER_PLACED:3"]
    assert {line["action"] for line in lines} == {"replay"}, "files that were exported before say so too"
    lines[0]["payload"]["cf_order_status"] = "pago"
    lines[0]["note"] = "the status was in English"
    lines[1]["action"] = "discard"
    lines[2]["action"] = "leave"
    file = edited(place, lines)

    before = states(engine)
    told = migrated("dead", "import", file, "--dry-run", "--json").json
    assert (told["replay"], told["corrected"], told["discard"], told["leave"]) == (1, 1, 1, 1)
    assert states(engine) == before, "a preview changes nothing"
    asked = migrated("dead", "import", file)
    assert (asked.code, states(engine)) == (2, before), "nobody is there to say yes"
    ran = migrated("dead", "import", file, "--by", "ana", "--note", "statuses", "--yes", "--json")

    assert (ran.code, ran.json["changed"], ran.json["refused"]) == (0, 2, [])
    assert states(engine) == {"1": "pending", "2": "cancelled", "3": "dead"}
    assert payload(engine, 1)["cf_order_status"] == "pago"
    with engine.connect() as connection:
        letters = connection.execute(sa.select(dead_letters).order_by(dead_letters.c.id)).all()
    assert [(one.resolution, one.resolved_by, one.note) for one in letters] == [
        ("replayed", "ana", "the status was in English"),
        ("discarded", "ana", "statuses"),
        (None, None, None),
    ]
    (record,) = migrated("operations", "list", "--json").json
    assert (record["kind"], record["state"], record["signed_by"], record["note"]) == (
        "import",
        "done",
        "ana",
        "statuses",
    )
    assert "contato" not in json.dumps(record), "the record holds no content"


def test_the_same_file_twice_does_nothing_twice(migrated: Command, engine: sa.Engine, place: Path) -> None:
    bury(engine, 1, 2)
    lines = exported(migrated, place)
    lines[0]["payload"]["cf_order_total_items"] = "7"  # stored in the type's own form, as a number
    file = edited(place, lines)
    assert migrated("dead", "import", file, "--yes").code == 0
    with engine.connect() as connection:
        after = connection.execute(sa.select(events)).all()

    again = migrated("dead", "import", file, "--yes", "--json")

    assert (again.code, again.json["changed"], again.json["done_before"]) == (0, 0, 2)
    with engine.connect() as connection:
        assert connection.execute(sa.select(events)).all() == after


def test_a_line_whose_event_was_changed_meanwhile_stops_the_whole_file(
    migrated: Command, engine: sa.Engine, place: Path
) -> None:
    bury(engine, 1, 2)
    file = edited(place, exported(migrated, place), lambda line: line["payload"].update(cf_order_status="pago"))
    assert migrated("dead", "replay", "ORDER_PLACED:2", "--set", "payload.cf_order_status=outro").code == 0

    ran = migrated("dead", "import", file, "--yes")

    assert ran.code == 1
    assert json.loads(ran.err.splitlines()[0])["line"] == 2
    assert "export it again" in ran.err
    assert states(engine) == {"1": "dead", "2": "pending"}
    assert payload(engine, 2)["cf_order_status"] == "outro"


def test_a_line_does_nothing_once_the_event_has_other_content(
    migrated: Command, engine: sa.Engine, place: Path
) -> None:
    bury(engine, 1)
    file = edited(place, exported(migrated, place))
    changed = {**payload(engine, 1), "cf_order_status": "outro"}
    with engine.begin() as connection:  # its content was replaced, while the letter is open
        connection.execute(sa.update(events).values(payload=json.dumps(changed)))

    ran = migrated("dead", "import", file, "--yes")

    assert (ran.code, "was changed since the export" in ran.err) == (1, True)
    assert states(engine) == {"1": "dead"}


def test_every_problem_of_every_line_is_told_with_its_path_and_nothing_is_done(
    migrated: Command, engine: sa.Engine, place: Path
) -> None:
    bury(engine, *range(1, 9))
    lines = exported(migrated, place)
    lines[0]["payload"] |= {"email": "segredo-sem-arroba", "cf_order_payment_amount": "x"}
    lines[1]["action"] = "repaly"
    lines[2]["version"] = "0" * 32
    lines[3]["surplus"] = 1
    lines[4]["event_id"] = lines[5]["event_id"]
    lines[5]["payload"] = "text"
    lines[7] |= {"note": 5, "letter": lines[6]["letter"]}
    (place / "edited.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n[]\n")

    ran = migrated("dead", "import", "edited.jsonl", "--yes")

    told = [json.loads(line) for line in ran.err.splitlines() if line.startswith("{")]
    assert {(one["line"], one["path"]) for one in told} >= {
        (1, "$.payload.email"), (1, "$.payload.cf_order_payment_amount"), (2, "$.action"), (3, "$"), (4, "$.surplus"),
        (5, "$"), (6, "$.payload"), (8, "$.note"), (9, "$"), (10, "$"),
    }  # fmt: skip
    assert "segredo" not in ran.err
    assert (ran.code, set(states(engine).values())) == (1, {"dead"})
    assert migrated("operations", "list", "--json").json == []


def test_an_invalid_envelope_is_corrected_as_a_whole_and_gets_its_own_key(
    migrated: Command, engine: sa.Engine, place: Path
) -> None:
    bad = {"event_type": "ORDER_PLACED", "event_family": "CDP", "payload": {"email": "a@b.example"}}
    with engine.begin() as connection:
        enqueue(connection, bad, on_invalid="dead_letter")
    (line,) = exported(migrated, place)
    assert line["envelope"] == bad
    assert migrated("dead", "import", edited(place, [line])).code == 1, "as it is it cannot be sent"
    line["envelope"]["payload"] = {**OrderPlaced.EXAMPLE, "cf_order_id": "77"}
    file = edited(place, [line])

    assert migrated("dead", "import", file).code == 0
    assert states(engine) == {"77": "pending"}
    assert migrated("dead", "import", file, "--json").json["done_before"] == 1


def test_lines_of_another_account_are_refused(migrated: Command, engine: sa.Engine, place: Path) -> None:
    bury(engine, 1)
    file = edited(place, exported(migrated, place))
    ran = migrated("dead", "import", file, "--account", "other")
    assert (ran.code, "--account default" in ran.err) == (1, True)


def test_a_file_that_is_there_is_not_written_over(migrated: Command, place: Path) -> None:
    (place / "dead.jsonl").write_text("precious")
    assert migrated("dead", "export", "dead.jsonl").code == 2
    assert (place / "dead.jsonl").read_text() == "precious"


def test_an_import_that_was_ended_goes_on_with_the_same_file(migrated: Command, engine: sa.Engine, place: Path) -> None:
    bury(engine, *range(1, 6))
    lines = exported(migrated, place)
    file = edited(place, lines)
    found = read_edits(io.BytesIO((place / file).read_bytes()))
    begun = importing.start(engine, found.digest, 5, Signature("ana"), account="default", per_minute=None)
    importing.step(engine, begun.id, found.edits, size=2)  # and then the command was killed
    resumed = migrated("operations", "resume", str(begun.id))
    assert (resumed.code, "import the same file again" in resumed.err) == (1, True)

    ran = migrated("dead", "import", file, "--yes", "--json")

    assert (ran.json["operation"], ran.json["changed"], ran.json["done_before"]) == (begun.id, 3, 2)
    (record,) = migrated("operations", "list", "--json").json
    assert (record["state"], record["seen"], record["counts"]["changed"]) == ("done", 5, 5)
    assert set(states(engine).values()) == {"pending"}


GOOD = {
    "event_id": "01234567-89ab-cdef-0123-456789abcdef", "letter": 1, "version": "a" * 32,
    "action": "replay", "note": None, "payload": {},
}  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    found = read_edits(io.BytesIO(raw))
    assert found.problems or not found.edits or raw.strip()


@given(st.sampled_from([*sorted(GOOD), "envelope", "attached", "surplus"]), ANYTHING)
def test_whatever_stands_in_a_field_is_a_problem_with_its_path_or_an_edit(name: str, value: object) -> None:
    found = read_edits(io.BytesIO(json.dumps({**GOOD, name: value}).encode() + b"\n"))
    assert len(found.edits) == (0 if found.problems else 1)
    assert all(line == 1 and problem.path.startswith("$") for line, problem in found.problems)
