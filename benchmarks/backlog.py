"""Backlog: whether a drain stays as fast beside many waiting or many delivered rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from benchmarks.contenders.ours import Ours, fill
from benchmarks.drain import drain
from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal

_ROW = """
INSERT INTO outbox_events (event_id, account, event_type, key, fact, lead, payload, state, available_at, line_at,
                           budget_from, ready_at, attempt, ended_at)
SELECT gen_random_uuid(), 'default', 'ECOMMERCE_ORDER_PLACED', state || ':' || n,
       md5('a' || state || n) || md5('b' || n), md5('l' || state || n), '{}', state, at, at, at,
       CASE WHEN state = 'pending' THEN at END, CASE WHEN state = 'pending' THEN 0 ELSE 1 END,
       CASE WHEN state = 'pending' THEN NULL ELSE at END
FROM generate_series(1, :rows) AS g (n),
     (SELECT CAST(:state AS text) AS state, statement_timestamp() + interval ':hours hours' AS at) AS t
"""


@dataclass(frozen=True)
class Beside(Ours):
    """The dispatcher, with other rows in its table; those that wait too come after the measured ones."""

    others: Callable[[Lab], None] = lambda _lab: None

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        fill(lab.engine, range(count))
        self.others(lab)


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """An empty table, a million waiting, five million delivered; smaller with a smaller scale."""
    waiting, delivered = int(1_000_000 * scale), int(5_000_000 * scale)
    names = ("empty table", f"{waiting:,} waiting", f"{delivered:,} delivered")
    answer = Answer(
        "Backlog, 0 ms",
        goals=[Goal(f"drain, {name}", f"drain, {names[0]}", at_least=0.9) for name in names[1:]]
        + [Goal(f"servers, {name}", f"servers, {names[0]}", at_most=1.5) for name in names[1:]],
    )
    count = max(1000, int(8000 * scale))
    for _ in range(repeats):
        for name, others in zip(
            names, (_nothing, other_rows("pending", waiting), other_rows("delivered", delivered)), strict=True
        ):
            done = drain(lab, Beside(name, others=others), count, 0)
            answer.add(f"drain, {name}", "events/s", done.rate)
            answer.add(f"servers, {name}", "us/event", done.server_us)
    return answer


def _nothing(_lab: Lab) -> None:
    """The table stays empty."""


def other_rows(state: str, rows: int) -> Callable[[Lab], None]:
    """What writes so many rows of that state: delivered an hour ago, or due now, behind what is due already."""
    hours = 0 if state == "pending" else -1

    def write(lab: Lab) -> None:
        with lab.engine.begin() as connection:
            connection.execute(sa.text(_ROW.replace(":hours", str(hours))), {"state": state, "rows": rows})

    return write
