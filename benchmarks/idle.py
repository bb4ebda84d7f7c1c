"""Idle: what a worker with nothing to do costs, and what `import dispatcher` costs a shop."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import sqlalchemy as sa

from benchmarks.contenders.ours import environment, worker_command
from benchmarks.drain import end
from benchmarks.lab import ROOT, Lab
from benchmarks.processes import cpu_seconds, memory_megabytes
from benchmarks.report import Answer, Goal

CPU, QUERIES, MEMORY = "idle worker, CPU", "idle worker, queries", "idle worker, memory"
OURS, PLAIN = "import dispatcher", "import sqlalchemy.orm, pydantic"
USED = "import sqlalchemy.orm; from pydantic import BaseModel"
"""What the two cost whoever declares anything: pydantic loads most of itself only when a name is taken from it."""
_WARM_UP = 20.0


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """Two pool processes and the sweeper, watched for some sweeps."""
    answer = Answer(
        "Idle and import",
        goals=[
            Goal(CPU, at_most=0.5),
            Goal(QUERIES, at_most=1.0),
            Goal(OURS, PLAIN, at_most=1.25),
            Goal(OURS, USED, at_most=1.25),
        ],
    )
    seconds = max(10.0, 30.0 * scale)
    lab.clean()
    processes = [lab.start(worker_command(), environment(lab), "idle")]
    pids = [process.pid for process in processes]
    try:
        time.sleep(_WARM_UP)
        for _ in range(repeats):
            cpu, asked, begun = cpu_seconds(pids), _transactions(lab), time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - begun
            answer.add(CPU, "% of a core", 100 * (cpu_seconds(pids) - cpu) / took)
            answer.add(QUERIES, "transactions/s", (_transactions(lab) - asked) / took)
            answer.add(MEMORY, "MB", memory_megabytes(pids))
    finally:
        end(processes)
    for _ in range(max(5, repeats)):
        for statement in (PLAIN, USED, OURS):
            answer.add(statement, "ms of CPU", _cpu_ms(statement))
    return answer


def _transactions(lab: Lab) -> int:
    query = sa.text("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    with lab.engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def _cpu_ms(statement: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    bytecode_is_kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, env=bytecode_is_kept, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
