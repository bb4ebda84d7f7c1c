"""What the tables say at one moment, and what must be true of it whatever has happened before.

Read and judged in Python: it shares no SQL with what it judges.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox.tables import accounts, attempts, dead_letters, events, ledger, owed_wakes, permits
from dispatcher.outbox.transaction import reading

Row = Mapping[str, Any]
Line = tuple[str, str]

WAITING = ("pending", "in_flight")


@dataclass(frozen=True)
class Snapshot:
    """The committed rows."""

    events: dict[int, Row]
    attempts: dict[tuple[int, int], Row]
    letters: list[Row]
    ledger: dict[tuple[str, str], Row]
    permits: list[Row]
    accounts: dict[str, Row]
    debts: int

    @classmethod
    def of(cls, engine: sa.Engine) -> Snapshot:
        """As a newcomer sees it."""

        def read(connection: sa.Connection) -> Snapshot:
            def all_of(table: sa.Table) -> list[Row]:
                return [dict(row) for row in connection.execute(sa.select(table)).mappings()]

            return cls(
                events={row["id"]: row for row in all_of(events)},
                attempts={(row["event"], row["attempt"]): row for row in all_of(attempts)},
                letters=all_of(dead_letters),
                ledger={(row["account"], row["fact"]): row for row in all_of(ledger)},
                permits=all_of(permits),
                accounts={row["account"]: row for row in all_of(accounts)},
                debts=len(all_of(owed_wakes)),
            )

        return reading(engine, read)

    def in_state(self, *states: str) -> list[Row]:
        """The events of these states, in the order of their lines."""
        return sorted((row for row in self.events.values() if row["state"] in states), key=place)

    def lines(self) -> dict[Line, list[Row]]:
        """What waits and flies for each lead, in order; events outside of any line left out."""
        lines: dict[Line, list[Row]] = defaultdict(list)
        for row in self.in_state(*WAITING):
            if row["ordering"] == "lead":
                lines[row["account"], row["lead"]].append(row)
        return lines

    def tries(self, event: int) -> list[Row]:
        """The recorded attempts of an event, in order."""
        return [self.attempts[key] for key in sorted(self.attempts) if key[0] == event]

    def letter(self, event: int) -> Row | None:
        """The open dead letter of an event."""
        return next((letter for letter in self.letters if letter["open_event"] == event), None)


def place(row: Row) -> tuple[Any, ...]:
    """The place of an event in its lead's line."""
    return row["line_at"], row["id"]


def judge(snapshot: Snapshot, *, settled_down: bool) -> None:
    """Whatever happened: one live event for each fact, attempts without gaps, letters for the dead, lines in order.

    Args:
        snapshot: Of now.
        settled_down: Nobody owes a wake and no shop has a transaction open, so each line must know who is next.
    """
    facts = Counter((row["account"], row["fact"]) for row in snapshot.events.values())
    twice = [fact for fact, number in facts.items() if number > 1]
    assert not twice, f"one fact, several events: {twice}"
    both = facts.keys() & snapshot.ledger.keys()
    assert not both, f"in the outbox and in the ledger: {both}"
    _judge_attempts(snapshot)
    opened = Counter(letter["open_event"] for letter in snapshot.letters if letter["open_event"] is not None)
    dead = {row["id"]: 1 for row in snapshot.in_state("dead")}
    assert opened == dead, f"open letters {dict(opened)}, dead events {dead}"
    stray = {letter["event"] for letter in snapshot.letters} - snapshot.events.keys()
    assert not stray, f"letters of events that are gone: {stray}"
    for line, queue in snapshot.lines().items():
        _judge_line(line, queue, settled_down=settled_down)
    for row in snapshot.in_state("pending"):
        assert row["ordering"] == "lead" or row["ready_at"] is not None, f"nobody will look at {row['key']}"


def _judge_attempts(snapshot: Snapshot) -> None:
    made: dict[int, list[int]] = defaultdict(list)
    for event, number in sorted(snapshot.attempts):
        made[event].append(number)
    assert not made.keys() - snapshot.events.keys(), "attempts of events that are gone"
    for row in snapshot.events.values():
        ended = row["attempt"] - int(row["state"] == "in_flight")
        assert made[row["id"]] == list(range(1, ended + 1)), f"{row['key']} at {row['attempt']}: {made[row['id']]}"


def _judge_line(line: Line, queue: Sequence[Row], *, settled_down: bool) -> None:
    flying = [row["key"] for row in queue if row["state"] == "in_flight"]
    assert len(flying) <= 1, f"two of {line} in flight: {flying}"
    if settled_down and not flying:
        assert queue[0]["ready_at"] is not None, f"nobody will look at {queue[0]['key']}, the next of {line}"
