"""The message of a bell: a Celery task call, written without Celery.

Source: Celery's message protocol, version 2 (docs.celeryq.dev, "Message Protocol"; `celery.app.amqp.as_task_v2`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

TASK: Final = "dispatcher.drain"
"""The task a bell starts; its only argument is the account."""

QUEUE: Final = "rdstation-dispatcher"
"""The queue of all bells. They are published to the default exchange, which every queue is bound to by its name."""

LIFETIME: Final = timedelta(minutes=1)
"""A bell that nobody heard within this time is worthless: sweeps have found the work meanwhile."""


def drain_call(account: str, *, call_id: UUID, now: datetime) -> tuple[list[Any], dict[str, Any]]:
    """Body and headers of the message that starts a drain."""
    name = str(call_id)
    body = [[account], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    headers = {
        "lang": "py",
        "task": TASK,
        "id": name,
        "root_id": name,
        "parent_id": None,
        "group": None,
        "shadow": None,
        "eta": None,
        "expires": (now + LIFETIME).isoformat(),
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": repr([account]),
        "kwargsrepr": "{}",
        "origin": "dispatcher.bell",
        "ignore_result": True,
    }
    return body, headers
