"""The alert rules and the dashboard: what they ask exists, and Prometheus' own programs load, run and fire them.

Real: promtool where it is found (tier `prometheus`). Doubled: nothing. Grafana itself is in no package
index, so the dashboard is checked against Grafana's published schema, and for what it asks and where it stands.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from dispatcher.admin.monitoring.gauges import GAUGES
from dispatcher.meters import MEASURES

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
TESTS = MONITORING / "alerts_test.yml"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = [rule for group in yaml(ALERTS)["groups"] for rule in group["rules"]]
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def exposed() -> set[str]:
    names = {f"dispatcher_{name}" for name in GAUGES}
    for name, measure in MEASURES.items():
        kinds = ("_bucket", "_sum", "_count") if measure.buckets else ("_total",)
        names |= {f"dispatcher_{name}{kind}" for kind in kinds}
    return names


def promtool(tools: Path, *words: str | Path) -> str:
    done = subprocess.run([str(tools / "promtool"), *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *(rule["expr"] for rule in RULES)])
def test_what_is_asked_for_is_exposed(expression: str) -> None:
    asked = set(re.findall(r"dispatcher_\w+", expression))
    assert asked
    assert asked <= exposed()


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for case in yaml(TESTS)["tests"]:
        for asked in case["alert_rule_test"]:
            (fires if asked["exp_alerts"] else quiet).add(asked["alertname"])
    assert fires == quiet == {rule["alert"] for rule in RULES}


def test_panels_stand_side_by_side_with_names_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(references)) == len(references)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_promtool_takes_the_rules_and_every_alert_fires_and_stays_quiet_when_it_should(prometheus_tools: Path) -> None:
    assert f"{len(RULES)} rules found" in promtool(prometheus_tools, "check", "rules", ALERTS)
    assert "SUCCESS" in promtool(prometheus_tools, "test", "rules", TESTS)


def test_promtool_takes_every_expression_of_the_dashboard(prometheus_tools: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool(prometheus_tools, "check", "rules", file)


def test_the_dashboard_is_of_grafanas_own_schema() -> None:
    """Read and written again by the types that Grafana Labs makes from Grafana's schema: an unknown field gets lost."""
    register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert list(lost(DASHBOARD, again)) == []
    misspelt = {**DASHBOARD, "panels": [{**DASHBOARD["panels"][0], "gridPoz": {}}]}
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(misspelt)))
    assert list(lost(misspelt, read)) == ["$.panels[0].gridPoz"]


def lost(wanted: Any, found: Any, path: str = "$") -> Iterator[str]:
    """The places at which the second document lacks what the first has."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, value in wanted.items():
            yield from lost(value, found.get(name), f"{path}.{name}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif wanted != found:
        yield path
