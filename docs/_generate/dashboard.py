"""Writes docs/monitoring/dashboard.json, for Grafana: `.venv/bin/python docs/_generate/dashboard.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parent.parent / "monitoring" / "dashboard.json"

_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${source}"}


class Panel(NamedTuple):
    """One panel: what it asks, and how the answer is shown."""

    title: str
    kind: str
    queries: dict[str, str]
    unit: str = "short"
    width: int = 8
    red_from: float | None = None
    meaning: str = ""


def _quantile(quantile: float, name: str) -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate(dispatcher_{name}_bucket[$__rate_interval])))"


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate(dispatcher_{name}_total[$__rate_interval]))"


ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        Panel("Oldest due event", "stat", {"": "dispatcher_oldest_due_seconds"}, "s", 4, 300),
        Panel("Waiting", "stat", {"": 'dispatcher_events{state="pending"}'}, width=4),
        Panel("Time to drain", "stat", {"": "dispatcher_time_to_drain_seconds"}, "s", 4, 900),
        Panel("Open dead letters", "stat", {"": 'dispatcher_events{state="dead"}'}, width=4, red_from=1),
        Panel("Held accounts", "stat", {"": 'sum(dispatcher_accounts{state!="open"})'}, width=4, red_from=1),
        Panel("Workers at work", "stat", {"": 'dispatcher_workers{state="progressing"}'}, width=4),
    ],
    "Delivery": [
        Panel("Attempts a second, by verdict", "timeseries", {"{{verdict}}": _rate("attempts", "verdict")}, "ops", 12),
        Panel(
            "One send",
            "timeseries",
            {"half": _quantile(0.5, "send_seconds"), "95 %": _quantile(0.95, "send_seconds")},
            "s",
            12,
            meaning="To RD Station and back. What takes longer than the deadline becomes uncertain.",
        ),
        Panel("Events", "timeseries", {"{{state}}": "dispatcher_events"}, width=12),
        Panel(
            "Oldest due event of each account",
            "timeseries",
            {"{{account}}": "dispatcher_account_oldest_due_seconds"},
            "s",
            12,
        ),
    ],
    "Accounts and limits": [
        Panel(
            "Utilisation of the limit",
            "timeseries",
            {"{{account}}": "dispatcher_utilisation"},
            "percentunit",
            meaning="At 1 the limit is what holds events back; time to drain says for how long.",
        ),
        Panel("Time to drain", "timeseries", {"{{account}}": "dispatcher_account_time_to_drain_seconds"}, "s"),
        Panel("Held", "table", {"": "dispatcher_account_held"}),
        Panel("Due", "timeseries", {"{{account}}": "dispatcher_account_due"}),
        Panel("Permits left", "timeseries", {"{{account}}": "dispatcher_permits_available"}),
        Panel(
            "Suspensions and openings of breakers",
            "timeseries",
            {
                "{{what}}": "sum by (what) (increase(dispatcher_openings_total[$__rate_interval]))",
                "breakers that are open": "dispatcher_breakers_open",
            },
        ),
    ],
    "Our own machinery": [
        Panel(
            "Claims and settlements, 95 %",
            "timeseries",
            {"claim": _quantile(0.95, "claim_seconds"), "settle": _quantile(0.95, "settle_seconds")},
            "s",
        ),
        Panel(
            "Sweeps",
            "timeseries",
            {"a second": "rate(dispatcher_sweeps_total[$__rate_interval])", "95 %": _quantile(0.95, "sweep_seconds")},
        ),
        Panel("Bells of the sweepers", "timeseries", {"{{result}}": _rate("bells", "result")}, "ops"),
        Panel("Token refreshes", "timeseries", {"{{result}}": _rate("token_refreshes", "result")}, "ops"),
        Panel("Probes", "timeseries", {"{{result}}": _rate("probes", "result")}, "ops"),
        Panel(
            "Trouble of our own",
            "timeseries",
            {
                "{{step}} failed": _rate("failures", "step"),
                "late settlements": "rate(dispatcher_late_settlements_total[$__rate_interval])",
                "stalled workers": "rate(dispatcher_stalls_total[$__rate_interval])",
            },
            "ops",
        ),
    ],
}


def page() -> str:
    """The whole dashboard."""
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    document = {
        "title": "rdstation-dispatcher",
        "uid": "rdstation-dispatcher",
        "description": "Made by docs/_generate/dashboard.py of rdstation-dispatcher.",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "tags": ["rdstation-dispatcher"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "timezone": "",
        "templating": {"list": [source]},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }
    return json.dumps(document, indent=1) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    ids, top = count(1), 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
        yield {"id": next(ids), "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        left, top = 0, top + 1
        height = 4 if panels[0].kind == "stat" else 8
        for panel in panels:
            if left + panel.width > _WIDTH:
                left, top = 0, top + height
            yield _panel(panel, next(ids), {"x": left, "y": top, "w": panel.width, "h": height})
            left += panel.width
        top += height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    table = panel.kind == "table"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + number_of_query),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": table,
                "range": not table,
                "format": "table" if table else "time_series",
            }
            for number_of_query, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
