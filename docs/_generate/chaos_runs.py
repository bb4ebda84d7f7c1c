"""Writes docs/chaos-runs.md from docs/chaos-runs.jsonl: `.venv/bin/python docs/_generate/chaos_runs.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent
PAGE, RUNS = DOCS / "chaos-runs.md", DOCS / "chaos-runs.jsonl"

_HEAD = """\
# Chaos runs

Each line is a run of `make chaos`, described in [proof.md](proof.md#chaos): real workers on servers of their own, while
everything is killed, frozen, wiped and cut. *Faults* are RD Station's, as a share of the requests. *Copies* counts how
often an event was stored once more; *explained by* counts attempts recorded as `uncertain` or `abandoned`, and the
checker asks for one beside each copy, event by event. *Violations* counts all kinds: lost, without an end, never
committed, torn transactions, unexplained copies, unrecorded attempts, broken order, exceeded limits and the rest.

A run adds its numbers with `make chaos ARGS='--json docs/chaos-runs.jsonl'`; `make docs` writes this page from them.

| database | broker | seed | committed | seconds | killed | frozen | broker wiped | database crashed | faults | copies | explained by | violations |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""  # noqa: E501 - the head of a table is one line


def page() -> str:
    """The whole page; runs of one corner together."""
    runs = [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()]
    runs.sort(key=lambda run: (run["database"], run["broker"], run["seed"]))
    return _HEAD + "".join(f"| {' | '.join(_cells(run))} |\n" for run in runs)


def _cells(run: Mapping[str, Any]) -> list[str]:
    deeds = run["deeds"]
    done = ("SIGKILL of a worker", "SIGSTOP of a worker", "broker wiped (FLUSHALL)", "database crashed and restarted")
    share = 100 * run["faulty"] / max(1, run["requests"])
    return [
        run["database"],
        run["broker"],
        str(run["seed"]),
        f"{run['committed']:,}",
        f"{run['seconds']:.0f}",
        *(str(deeds.get(deed, 0)) for deed in done),
        f"{run['faulty']:,} ({share:.1f} %)",
        f"{run['copies']:,}",
        f"{run['may_explain']:,}",
        str(sum(run["violations"].values())),
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
