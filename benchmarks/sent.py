"""Sent: the usual outbox and ours, each with a million events in its table that were sent long ago, and a backlog.

With 30,000 rows that wait, the planner of the usual outbox takes them for frequent, and looks for the oldest of them
by walking the primary key past all that were sent.
"""

from __future__ import annotations

from benchmarks.backlog import Beside, other_rows
from benchmarks.contenders.celery_outbox import CeleryOutbox
from benchmarks.drain import drain
from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """At scale 1; the usual outbox is asked for fewer events, because each takes it so long."""
    sent, waiting = int(1_000_000 * scale), int(30_000 * scale)
    ours, usual, of_100 = "dispatcher, requests", "Celery outbox poller", "Celery outbox poller, 100 at once"
    answer = Answer(
        f"{sent:,} sent and {waiting:,} waiting events in the table, 0 ms",
        goals=[Goal(ours, usual, at_least=100), Goal(ours, of_100, at_least=12)],
    )

    def others(lab: Lab) -> None:
        other_rows("delivered", sent)(lab)
        other_rows("pending", waiting)(lab)

    contenders = (
        (Beside(ours, others=others), 8000),
        (CeleryOutbox(usual, sent=sent, waiting=waiting), 100),
        (CeleryOutbox(of_100, at_once=100, sent=sent, waiting=waiting), 600),
    )
    for _ in range(repeats):
        for contender, count in contenders:
            done = drain(lab, contender, count, 0)
            answer.add(done.name, "events/s", done.rate)
            answer.add(f"{done.name}, servers", "us of CPU/event", done.server_us)
    return answer
