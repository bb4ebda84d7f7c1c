"""Writes docs/metrics.md from what is declared: `.venv/bin/python docs/_generate/metrics.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dispatcher.admin.monitoring.gauges import GAUGES, OTHERS
from dispatcher.meters import MEASURES

PAGE = Path(__file__).parent.parent / "metrics.md"

_HEAD = f"""\
# Metrics

`dispatcher metrics` serves them for Prometheus, for the whole fleet and from one place: the workers add their counts to
the outbox, and each scrape reads them there ([why](adr/0011-metrics-from-the-outbox.md)). It listens on 127.0.0.1:9464
unless told otherwise, and needs the extra `metrics`. [Monitoring](monitoring.md) has the alert rules and the dashboard.

Labels are bounded. `account` names only accounts that have something to send, have sent within the minute or are held,
at most `--accounts` (50) of them, those that are held first and then those with most to send; the rest is summed up as
`{OTHERS}`. No label holds a key, a lead or a person.

This page is generated from `dispatcher/meters.py` and `dispatcher/admin/monitoring/gauges.py`; write it anew with
`make docs`.

## Gauges

What the tables say at this moment. Delivered and cancelled events are history and are not counted at each scrape:
`dispatcher status` does, and `dispatcher_attempts_total` tells their rate.

| metric | labels | meaning |
|---|---|---|
"""

_COUNTERS = """
## Counters

What the workers have counted since the outbox was installed. They survive restarts. A process that is killed takes up
to five seconds of its counts with it; `outbox_attempts` is exact.

| metric | labels | meaning |
|---|---|---|
"""

_HISTOGRAMS = """
## Histograms

In seconds.

| metric | buckets up to | meaning |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    gauges = (_row(name, gauge.labels, gauge.meaning) for name, gauge in GAUGES.items())
    counters = (
        _row(f"{name}_total", (m.label,) * bool(m.label), m.meaning) for name, m in MEASURES.items() if not m.buckets
    )
    timed = ((name, (f"{bound:g}" for bound in m.buckets), m.meaning) for name, m in MEASURES.items() if m.buckets)
    histograms = (f"| `dispatcher_{name}` | {', '.join(bounds)} | {meaning} |" for name, bounds, meaning in timed)
    return _HEAD + _lines(gauges) + _COUNTERS + _lines(counters) + _HISTOGRAMS + _lines(histograms)


def _row(name: str, labels: tuple[str, ...], meaning: str) -> str:
    return f"| `dispatcher_{name}` | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
