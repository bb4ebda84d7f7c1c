"""The one task. A bell starts it; it carries no event, and nothing depends on its delivery."""

from __future__ import annotations

from celery import Celery, Task

from dispatcher.bell import TASK
from workers.processes import Processes


def register(app: Celery, processes: Processes) -> Task[[str], None]:
    """Declare the drain on the app. Ignores its result and is acknowledged early: time lives in the database."""

    @app.task(name=TASK, ignore_result=True, acks_late=False)
    def drain(account: str = "") -> None:
        processes.drain([account] if account else [])

    task: Task[[str], None] = drain
    return task
