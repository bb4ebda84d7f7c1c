"""The one task. A bell starts it; it carries no event, and nothing depends on its delivery."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery, Task

from dispatcher.bell import TASK
from dispatcher.errors import InvalidEvent
from dispatcher.outbox.intake import validate_account
from workers.processes import Processes


def register(app: Celery, processes: Processes) -> Task[..., None]:
    """Declare the drain on the app. Ignores its result and is acknowledged early: time lives in the database."""

    @app.task(name=TASK, ignore_result=True, acks_late=False, shared=False)
    def drain(*said: object, **_more: object) -> None:
        processes.drain(hints(said))

    task: Task[..., None] = drain
    return task


def hints(said: Sequence[object]) -> list[str]:
    """The accounts that a bell names; whatever else it says, it is a bell.

    A later release may say more, and whoever may write to the broker may say anything: no word of it must keep the
    drain from running.
    """
    named = said[0] if said else ""
    try:
        return [validate_account(named)] if isinstance(named, str) and named else []
    except InvalidEvent:
        return []
