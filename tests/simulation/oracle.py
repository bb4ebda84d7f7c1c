"""What must hold, looked at after every commit and every arrival, and once more at the end.

Reads the tables with plain SQL of its own, so that it shares nothing with what it judges.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dispatcher.lifecycle import TRANSITIONS
from dispatcher.sandbox import Arrival, Sandbox

WAYS = {(source.value, transition.target.value) for transition in TRANSITIONS for source in transition.sources}
FINAL = frozenset({"delivered", "dead", "cancelled"})
MAY_HAVE_ARRIVED = frozenset({"delivered", "uncertain", "abandoned"})
WAITS_FOR_A_DAY = frozenset({"lead_limited", "lead_throttled"})


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Story:
    """What the shops know: the truth that the outbox is compared with.

    Attributes:
        committed: Keys whose transactions committed.
        unclear: Keys whose transactions ended with an error or a death: the database knows, the shop does not.
    """

    committed: set[str] = field(default_factory=set)
    unclear: set[str] = field(default_factory=set)


@dataclass
class Oracle:
    """Judges one run."""

    observer: sqlite3.Connection
    story: Story
    commits: int = 0
    reached: set[str] = field(default_factory=set)
    _events: dict[int, dict[str, Any]] = field(default_factory=dict)
    _attempts: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)

    def look(self) -> None:
        """After a commit: the state is possible, and so is the way to it.

        Raises:
            Violation: One is not.
        """
        self.commits += 1
        now = self._all("SELECT * FROM outbox_events ORDER BY line_at, id")
        events = {row["id"]: row for row in now}
        attempts = {(row["event"], row["attempt"]): row for row in self._all("SELECT * FROM outbox_attempts")}
        letters = Counter(
            row["open_event"] for row in self._all("SELECT open_event FROM outbox_dead_letters") if row["open_event"]
        )
        for event in now:
            self._possible(event, attempts, letters[event["id"]])
        self._in_line(now)
        self.reached |= {f"{row['state']} {row['reason']}" for row in now} | {
            f"attempt {a['verdict']}" for a in attempts.values()
        }
        for number, event in events.items():
            if number in self._events:
                self._may_follow(self._events[number], event, attempts, events.values())
        gone = self._events.keys() - events.keys()
        _hold(not gone, lambda: f"rows vanished: {gone}")
        lost = {number for number in self._attempts if number not in attempts}
        _hold(not lost, lambda: f"attempts vanished: {lost}")
        self._events, self._attempts = events, attempts

    def arrived(self, arrivals: Iterable[Arrival]) -> None:
        """RD Station was sent these: each must be of a committed event."""
        for arrival in arrivals:
            if arrival.event_type is None:
                continue
            key = f"{arrival.event_type}:{arrival.key}"
            _hold(
                any(row["key"] == key for row in self._events.values()),
                lambda: f"{key} was sent and is not in the outbox",
            )

    def ringing(self, keys: Iterable[str]) -> None:
        """A shop rings for these: whoever hears it must find them."""
        visible = {row["key"] for row in self._all("SELECT key FROM outbox_events")}
        _hold(set(keys) <= visible, lambda: f"a bell rang before its commit: {set(keys) - visible}")

    def all_over(self) -> bool:
        """True if nothing will become of them any more."""
        return all(self._over(event) for event in self._events.values())

    def end(self, sandbox: Sandbox) -> None:
        """All is well again and time has passed: everything is accounted for, and every copy explained."""
        self.look()
        rows = {row["key"]: row for row in self._events.values()}
        missing = self.story.committed - rows.keys()
        _hold(not missing, lambda: f"lost: {sorted(missing)}")
        invented = rows.keys() - self.story.committed - self.story.unclear
        _hold(not invented, lambda: f"never committed: {sorted(invented)}")
        for key, row in rows.items():
            _hold(self._over(row), lambda: f"{key} never ended: {_short(row)}")
        arrived = Counter(
            f"{one.event_type}:{one.key}" for one in sandbox.arrivals(accepted=True) if one.event_type is not None
        )
        for key, copies in arrived.items():
            verdicts = Counter(
                attempt["verdict"] for (event, _), attempt in self._attempts.items() if event == rows[key]["id"]
            )
            explained = sum(verdicts[verdict] for verdict in MAY_HAVE_ARRIVED)
            _hold(
                copies <= explained,
                lambda: f"{key} arrived {copies} times, explained are {explained}: {dict(verdicts)}",
            )
        for row in rows.values():
            if row["state"] == "delivered":
                _hold(arrived[row["key"]] > 0, lambda: f"{row['key']} is called delivered and never arrived")
        violations = sandbox.violations()
        _hold(violations.total == 0, lambda: f"over a limit: {violations}")

    def _possible(self, event: Mapping[str, Any], attempts: Mapping[tuple[int, int], Any], letters: int) -> None:
        made = sum(1 for number, _ in attempts if number == event["id"])
        under_way = int(event["state"] == "in_flight")
        _hold(made == event["attempt"] - under_way, lambda: f"{made} attempts are recorded of {_short(event)}")
        _hold(letters == int(event["state"] == "dead"), lambda: f"{letters} open letters for {_short(event)}")

    def _in_line(self, in_order: Iterable[Mapping[str, Any]]) -> None:
        """One of a lead at a time, in order, and somebody knows who is next."""
        lines: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for event in in_order:
            if event["ordering"] == "lead" and event["state"] in {"pending", "in_flight"}:
                lines.setdefault((event["account"], event["lead"]), []).append(event)
        for line in lines.values():
            flying = [event for event in line if event["state"] == "in_flight"]
            _hold(len(flying) <= 1, lambda: f"two of a lead at once: {[_short(event) for event in flying]}")
            if flying:
                _hold(line[0] is flying[0], lambda: f"{_short(flying[0])} has overtaken {_short(line[0])}")
            elif line[0]["reason"] != "type_suspended":
                _hold(line[0]["ready_at"] is not None, lambda: f"nobody will look at {_short(line[0])}")

    def _may_follow(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        attempts: Mapping[tuple[int, int], Mapping[str, Any]],
        events: Iterable[Mapping[str, Any]],
    ) -> None:
        way = (before["state"], after["state"])
        if way[0] != way[1]:
            self.reached.add(f"{way[0]} to {way[1]}")
        _hold(way[0] == way[1] or way in WAYS, lambda: f"no way leads from {way[0]} to {way[1]}: {_short(after)}")
        risen = after["attempt"] - before["attempt"]
        claimed = way == ("pending", "in_flight")
        _hold(risen == int(claimed), lambda: f"the attempt went from {before['attempt']} to {_short(after)}")
        if before["state"] == "in_flight" and way[1] != "in_flight":
            self._was_theirs_to_settle(before, attempts[before["id"], before["attempt"]])
        if claimed and after["subject"]:
            winners = [event["key"] for event in events if _supersedes(event, after)]
            _hold(not winners, lambda: f"{after['key']} was claimed although {winners} had committed")
        if way[0] == "delivered":
            _hold(after["event_uuid"] == before["event_uuid"], lambda: f"a receipt changed: {_short(after)}")

    def _was_theirs_to_settle(self, before: Mapping[str, Any], attempt: Mapping[str, Any]) -> None:
        if attempt["verdict"] == "abandoned":
            ended = _moment(attempt["ended_at"])
            _hold(
                before["lease_until"] is not None and _moment(before["lease_until"]) <= ended,
                lambda: f"called abandoned before its lease ended: {_short(before)}",
            )
        else:
            _hold(
                attempt["worker"] == before["leased_by"],
                lambda: f"{attempt['worker']} settled what {before['leased_by']} held: {_short(before)}",
            )

    def _over(self, row: Mapping[str, Any]) -> bool:
        """It has ended, or the day of its lead is used up."""
        return row["state"] in FINAL or any(
            other["reason"] in WAITS_FOR_A_DAY
            for other in self._events.values()
            if other["state"] == "pending" and (other["account"], other["lead"]) == (row["account"], row["lead"])
        )

    def _all(self, query: str) -> list[dict[str, Any]]:
        found = self.observer.execute(query)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]


def _supersedes(winner: Mapping[str, Any], loser: Mapping[str, Any]) -> bool:
    return bool(
        winner["moots"]
        and winner["subject"] == loser["subject"]
        and winner["account"] == loser["account"]
        and f",{loser['event_type']}," in winner["moots"]
        and winner["state"] != "cancelled"
    )


def _hold(true: object, otherwise: Callable[[], str]) -> None:
    """Words are made only when they are needed: `otherwise` is called at once or never."""
    if not true:
        raise Violation(otherwise())


def _short(event: Mapping[str, Any]) -> str:
    shown = ("key", "state", "reason", "attempt", "leased_by", "ready_at", "lease_until", "line_at")
    return json.dumps({name: event[name] for name in shown if event[name] is not None})


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
