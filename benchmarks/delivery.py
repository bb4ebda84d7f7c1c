"""The question of the drain: everybody in turn, in each repeat, at 0 ms and at 80 ms."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contenders.bare import Bare
from benchmarks.contenders.celery_outbox import CeleryOutbox
from benchmarks.contenders.celery_task import CeleryTask
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.ours import Ours
from benchmarks.contenders.peers import Peer
from benchmarks.drain import drain
from benchmarks.lab import Lab
from benchmarks.report import Answer, Goal
from benchmarks.rivalry import BEST_WITH_REQUESTS, FASTEST, Rivalry

_THREADS = {0: 2, 80: 255}  # as many as one account may hold of our senders (`Senders.per_account`)
_FEWER = 96  # for each process: so few that neither client is short of processors, only of connections
_LABEL = f", {2 * _FEWER} connections"
REQUESTS, LEAN = "dispatcher, requests", "dispatcher, lean"
NAIVE, PREPARED, PLAIN = "bare requests, naive", "bare requests, prepared", "bare http.client"
TASK = "Celery task per event"
POLLER, POLLER_OF_100 = "Celery outbox poller", "Celery outbox poller, 100 at once"


def at_once(lab: Lab, repeats: int, scale: float, peers: Sequence[Peer] = ()) -> Answer:
    """A sink that answers at once: what an event costs."""
    goals = [
        Goal(REQUESTS, PREPARED, at_least=0.70),
        Goal(REQUESTS, TASK, at_least=5),
        Goal(REQUESTS, POLLER, at_least=12),
        Goal(LEAN, PLAIN, at_least=0.60),
        Goal(REQUESTS, BEST_WITH_REQUESTS, at_least=2.5),
        Goal(LEAN, FASTEST, at_least=1.5),
    ]
    return _ask(lab, repeats, scale, 0, goals, peers)


def after_80_ms(lab: Lab, repeats: int, scale: float, peers: Sequence[Peer] = ()) -> Answer:
    """A sink that takes as long as RD Station."""
    goals = [
        Goal(REQUESTS, PREPARED, at_least=0.95),
        Goal(REQUESTS + _LABEL, PREPARED + _LABEL, at_least=0.95),
        Goal(REQUESTS, TASK, at_least=5),
        Goal(REQUESTS, POLLER, at_least=12),
        Goal(REQUESTS, BEST_WITH_REQUESTS, at_least=1.6),
        Goal(LEAN, FASTEST, at_least=1.3),
    ]
    fixed = {"concurrency": str(2 * _FEWER + 1)}  # of which one account may hold just under half
    with_fewer: list[Contender] = [Bare("requests, prepared", {80: _FEWER}, _LABEL), Ours(REQUESTS + _LABEL, fixed)]
    return _ask(lab, repeats, scale, 80, goals, peers, with_fewer)


def _ask(
    lab: Lab,
    repeats: int,
    scale: float,
    delay_ms: int,
    goals: Sequence[Goal],
    peers: Sequence[Peer],
    more: Sequence[Contender] = (),
) -> Answer:
    answer = Answer(f"Drain, {delay_ms} ms", goals=list(goals))
    rivalry = Rivalry(answer, peers)
    quick, slow = max(600, int(12_000 * scale)), max(200, int(1500 * scale))
    contenders: list[tuple[Contender, int]] = [
        (Bare("requests, prepared", _THREADS), quick),
        (Ours(REQUESTS), quick),
        (Bare("http.client", _THREADS), quick),
        (Ours(LEAN, {"http_transport": "lean"}), quick),
        (Bare("requests, naive", _THREADS), quick),
        *((contender, quick) for contender in more),
        (CeleryTask(TASK), slow),
        (CeleryOutbox(POLLER), slow),
        (CeleryOutbox(POLLER_OF_100, at_once=100), slow),
    ]
    for _ in range(repeats):
        for contender, count in contenders:
            done = drain(lab, contender, count, delay_ms)
            answer.add(done.name, "events/s", done.rate)
            answer.add(f"{done.name}, worker", "us of CPU/event", done.worker_us)
            answer.add(f"{done.name}, servers", "us of CPU/event", done.server_us)
            if isinstance(contender, Ours):
                answer.add(f"{done.name}, memory", "MB", done.megabytes)
                answer.add(f"{done.name}, requests at once", "", done.most_running)
                answer.add(f"{done.name}, copies", "events", done.copies)
        for ours, bare in ((REQUESTS, PREPARED), (LEAN, PLAIN)):
            own = [answer.series[f"{name}, worker"].values[-1] for name in (ours, bare)]
            answer.add(f"{ours}, own cost", "us of CPU/event", own[0] - own[1])
        rivalry.repeat(lab, quick, delay_ms)
    answer.goals += [
        Goal(f"{REQUESTS}, own cost", at_most=80),
        Goal(f"{LEAN}, own cost", at_most=30),
        Goal(f"{REQUESTS}, servers", at_most=40),
    ]
    return answer
