"""How the peers send with `requests`, as everybody writes it: a session for each thread, the event as `json=`."""

from __future__ import annotations

import os
import threading
from typing import Any

import requests

from benchmarks.sample import HEADERS, PATH

_own = threading.local()


def post(event: dict[str, Any]) -> None:
    """Send one event; an answer that is no success raises."""
    if not hasattr(_own, "session"):
        _own.session = requests.Session()
    answer = _own.session.post(os.environ["BENCH_SINK"] + PATH, json=event, headers=HEADERS, timeout=30)
    answer.raise_for_status()
    answer.json()["event_uuid"]
