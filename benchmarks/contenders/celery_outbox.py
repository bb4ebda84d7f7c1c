"""The usual outbox: a table, a poller that takes the oldest unsent row, a Celery task for each that marks its row."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache

import requests
import sqlalchemy as sa
from celery import Celery
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.lab import Lab
from benchmarks.sample import HEADERS, PATH, body

_BROKER = os.environ.get("BENCH_BROKER", "redis://127.0.0.1:1/0")
app = Celery("benchmark_outbox", broker=_BROKER, set_as_current=False)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=4, task_default_queue="outbox")
_session = requests.Session()
_OTHERS = "INSERT INTO usual_outbox (body, status) SELECT :body, :status FROM generate_series(1, :rows)"


class _Base(DeclarativeBase):
    pass


class Message(_Base):
    """One event of the usual outbox."""

    __tablename__ = "usual_outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    status: Mapped[str] = mapped_column(default="new", index=True)


@cache
def _engine() -> sa.Engine:
    return sa.create_engine(os.environ["BENCH_DATABASE"])


@app.task(name="benchmark.outbox", ignore_result=True)
def send(message: int) -> None:
    """One event."""
    with Session(_engine()) as session, session.begin():
        row = session.get_one(Message, message)
        sink = os.environ["BENCH_SINK"] + PATH
        _session.post(sink, data=row.body.encode(), headers=HEADERS, timeout=10).raise_for_status()
        row.status = "sent"


def poll(at_once: int) -> None:
    """Hand new rows over, so many in a transaction."""
    while True:
        with Session(_engine()) as session, session.begin():
            new = sa.select(Message).where(Message.status == "new").order_by(Message.id).limit(at_once)
            rows = session.scalars(new.with_for_update(skip_locked=True)).all()
            for row in rows:
                row.status = "queued"
            ids = [row.id for row in rows]
        for message in ids:
            send.delay(message)
        if not ids:
            time.sleep(0.2)


@dataclass(frozen=True)
class CeleryOutbox:
    """Two processes at 0 ms; threads where the sink takes its time.

    Attributes:
        name: As the tables show it.
        at_once: Rows that its poller hands over in a transaction.
        sent: Rows that lie in its table, sent long ago.
        waiting: Rows that come after those that are measured.
    """

    name: str
    at_once: int = 1
    sent: int = 0
    waiting: int = 0

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        _Base.metadata.drop_all(lab.engine)
        _Base.metadata.create_all(lab.engine)
        with Session(lab.engine) as session, session.begin():
            some = body(0).decode()
            session.execute(sa.text(_OTHERS), {"rows": self.sent, "body": some, "status": "sent"})
            session.add_all([Message(body=body(number).decode()) for number in range(count)])
            session.flush()
            session.execute(sa.text(_OTHERS), {"rows": self.waiting, "body": some, "status": "new"})

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:  # noqa: ARG002 - see Contender
        """See `Contender`."""
        pool = ["--pool", "threads", "--concurrency", "64"] if delay_ms else ["--concurrency", "2"]
        quiet = ["--loglevel=ERROR", "--without-mingle", "--without-gossip", "--without-heartbeat"]
        module = "benchmarks.contenders.celery_outbox"
        worker = [sys.executable, "-m", "celery", "-A", module, "worker", *pool, *quiet]
        poller = [sys.executable, "-c", f"from {module} import poll; poll({self.at_once})"]
        environment = {
            "BENCH_BROKER": lab.broker_url, "BENCH_SINK": lab.sink.url, "BENCH_DATABASE": lab.database_url
        }  # fmt: skip
        return [lab.start(worker, environment, "celery-outbox"), lab.start(poller, environment, "celery-outbox-poller")]
