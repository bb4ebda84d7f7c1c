"""`python -m benchmarks [QUESTION …]`: asks the questions, prints a table, writes it and a plot."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import accounts, backlog, delivery, enqueue, idle, latency, sent, shops, snapshot
from benchmarks.contenders.peers import PEERS, missing
from benchmarks.lab import Lab, open_lab
from benchmarks.machine import describe
from benchmarks.report import Answer, markdown, plot

Question = Callable[[Lab, int, float], Answer]

QUESTIONS: dict[str, Question] = {
    "enqueue": enqueue.run,
    "drain": delivery.at_once,
    "drain-80": delivery.after_80_ms,
    "latency": latency.run,
    "backlog": backlog.run,
    "sent": sent.run,
    "snapshot": snapshot.run,
    "accounts": accounts.run,
    "shops": shops.run,
    "idle": idle.run,
}


def main() -> None:
    """Ask the questions given, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("question", nargs="*", help=f"of {', '.join(QUESTIONS)}; all of them if none is given")
    parser.add_argument("--repeats", type=int, default=5, help="of each, interleaved (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes; 0.1 takes a few minutes for all (1)")
    parser.add_argument(
        "--peers", action="store_true", help="other queues too, in drain and drain-80: whoever is installed"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="where table and plot are written")
    chosen = parser.parse_args()
    if unknown := set(chosen.question) - set(QUESTIONS):
        parser.error(f"no question: {', '.join(sorted(unknown))}; ask {', '.join(QUESTIONS)}")
    questions = dict(QUESTIONS)
    if chosen.peers:
        questions["drain"] = partial(delivery.at_once, peers=PEERS)
        questions["drain-80"] = partial(delivery.after_80_ms, peers=PEERS)
        for line in missing():  # before the hours, not after them
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - what the command is for
    answers = []
    for name in chosen.question or QUESTIONS:
        with open_lab() as lab:  # a fresh one for each: no question pays for another's rows
            answers.append(questions[name](lab, chosen.repeats, chosen.scale))
            print(markdown(answers[-1:]), flush=True)  # noqa: T201 - what the command is for
            if lab.sink.kind != "C":
                print("The sink ran in Python: no C compiler was found.", file=sys.stderr)  # noqa: T201 - as above
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "report.md").write_text(f"{describe()}\n\n{markdown(answers)}")
    plot(answers, chosen.out / "report.svg")


if __name__ == "__main__":
    main()
