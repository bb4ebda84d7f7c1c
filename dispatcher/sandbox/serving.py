"""The sandbox as a process of its own: `dispatcher sandbox --port N`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping

from dispatcher.sandbox.faults import FaultSchedule
from dispatcher.sandbox.options import Options
from dispatcher.sandbox.sandbox import Sandbox
from dispatcher.sandbox.tokens import AccountSpec


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    options: Options | None = None,
    *,
    accounts: Mapping[str, AccountSpec] | None = None,
    schedule: FaultSchedule | None = None,
    announce: Callable[[Sandbox], None] = lambda _: None,
    report: Callable[[Sandbox], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT; call it from the main thread.

    Args:
        host: Where to listen; beyond loopback, `Options.control` decides who may see the page and the controls.
        port: 0 picks a free one.
        options: The switches.
        accounts: The accounts to know from the start.
        schedule: Faults at random.
        announce: Called once it listens, with the sandbox (`sandbox.url`).
        report: Called at the end, with the sandbox (`sandbox.summary()`).

    Raises:
        ConfigurationError: It cannot listen there.
    """
    asked_to_stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: asked_to_stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with Sandbox(options=options, accounts=accounts, schedule=schedule, host=host, port=port) as sandbox:
            announce(sandbox)
            asked_to_stop.wait()
            report(sandbox)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
