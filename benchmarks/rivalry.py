"""The peers' part of a drain: each delivers as many events as we do, in the same repeat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.peers import Peer, missing
from benchmarks.drain import drain
from benchmarks.lab import Lab
from benchmarks.report import Answer

BEST_WITH_REQUESTS, FASTEST = "best peer with requests", "fastest peer"


class Rivalry:
    """Those of the peers that are installed; the answer's notes name the others.

    One that fails takes no further part, and is noted too: an optional peer is not worth the run.
    """

    def __init__(self, answer: Answer, peers: Sequence[Peer]) -> None:
        self._answer = answer
        self._taking_part: list[tuple[Peer, Contender]] = [
            (peer, peer.make(peer.name)) for peer in peers if peer.is_installed()
        ]
        answer.notes += missing() if peers else []

    def repeat(self, lab: Lab, count: int, delay_ms: int) -> None:
        """Let everybody drain once. The best of this repeat is what we are held against."""
        rates: dict[Peer, float] = {}
        for peer, contender in list(self._taking_part):
            try:
                done = drain(lab, contender, count, delay_ms)
            except (RuntimeError, subprocess.CalledProcessError) as failure:
                self._taking_part.remove((peer, contender))
                self._answer.notes.append(f"FAILED: {peer.name} takes no further part; standard error says why")
                print(f"{peer.name}: {failure}", file=sys.stderr, flush=True)  # noqa: T201 - as the command does
                continue
            rates[peer] = done.rate
            self._answer.add(done.name, "events/s", done.rate)
            self._answer.add(f"{done.name}, worker", "us of CPU/event", done.worker_us)
            self._answer.add(f"{done.name}, servers", "us of CPU/event", done.server_us)
            self._answer.add(f"{done.name}, copies", "events", done.copies)
        with_requests = [rate for peer, rate in rates.items() if peer.with_requests]
        for name, found in ((BEST_WITH_REQUESTS, with_requests), (FASTEST, list(rates.values()))):
            if found:
                self._answer.add(name, "events/s", max(found))
