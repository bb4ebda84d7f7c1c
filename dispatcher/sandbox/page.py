"""The page for people: what arrived, what was answered, what went wrong."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from dispatcher.sandbox.recorder import Arrival

if TYPE_CHECKING:
    from dispatcher.sandbox.sandbox import Sandbox

SHOWN = 200

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>RD Station sandbox</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2rem; max-width: 78rem }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem }}
td, th {{ text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #ddd; vertical-align: top }}
.good {{ color: #17692a }} .bad {{ color: #a11 }}
</style></head><body>
<h1>RD Station sandbox</h1>
<p>A local stand-in for api.rd.services. <a href="/sandbox">Its control endpoints</a> answer JSON.</p>
<p class="{mood}">{verdict}</p>
<h2>Windows</h2>{windows}
<h2>Requests</h2>{counts}
<h2>Faults waiting</h2>{faults}
<h2>Arrivals, newest first</h2>{arrivals}
</body></html>
"""


def render(sandbox: Sandbox) -> str:
    """The page as it stands now; refreshes itself every two seconds."""
    violations, found = sandbox.violations(), sandbox.arrivals()
    counts: dict[str, dict[str, int]] = sandbox.counts()["requests"]
    return _PAGE.format(
        mood="bad" if violations.total else "good",
        verdict=sandbox.summary(),
        windows=_table(
            ("account", "lead", "limit", "arrived", "most in a window", "above the limit", "refused"),
            [
                (
                    one.account,
                    one.lead or "",
                    one.limit or "none",
                    one.arrived,
                    one.max_in_window,
                    one.above,
                    one.refused,
                )
                for one in (*violations.accounts, *violations.leads)
            ],
        ),
        counts=_table(
            ("request", "status", "times"),
            [(request, status, times) for request, by in counts.items() for status, times in by.items()],
        ),
        faults=_table(
            ("kind", "times", "details"),
            [
                (
                    fault.kind,
                    fault.times or "until cleared",
                    " ".join(f"{k}={v}" for k, v in fault.as_dict().items() if k not in ("kind", "times")),
                )
                for fault in sandbox.waiting_faults
            ],
        ),
        arrivals=_table(
            ("no.", "time", "path", "event", "key", "lead", "account", "answer", "fault", "event_uuid"),
            [_row(arrival) for arrival in reversed(found[-SHOWN:])],
        ),
    )


def _row(arrival: Arrival) -> tuple[object, ...]:
    return (
        arrival.number, arrival.at.strftime("%H:%M:%S.%f")[:-3], f"{arrival.method} {arrival.path}",
        arrival.event_type or "", arrival.key or "", arrival.lead or "", arrival.account or "",
        arrival.status or "none", arrival.fault or "", arrival.event_uuid or "",
    )  # fmt: skip


def _table(head: Iterable[str], rows: list[tuple[object, ...]]) -> str:
    if not rows:
        return "<p>none</p>"
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"
