"""Issue 7, line 4: a real Prometheus scrapes us, loads the alert rules, and answers every panel of the dashboard.

Real: prometheus (tier `prometheus`), `dispatcher metrics`, a worker. That each alert fires is shown in time that
promtool makes up: tests/docs/test_monitoring_files.py.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import EMBEDDED
from tests.acceptance.exporter import exporter
from tests.acceptance.fleet import Fleet, Shop, eventually, order

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
Ask = Callable[..., Any]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def prometheus(prometheus_tools: Path, tmp_path: Path) -> Iterator[Callable[[str], Ask]]:
    """Starts it over one target; gives its HTTP API."""
    started: list[subprocess.Popen[bytes]] = []

    def start(target: str) -> Ask:
        scrape = {"job_name": "dispatcher", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
        config = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [str(MONITORING / "alerts.yml")],
            "scrape_configs": [scrape],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(prometheus_tools / "prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address={address}",
        ]
        with (tmp_path / "prometheus.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))

        def ask(path: str, **parameters: str) -> Any:
            try:
                url = f"http://{address}/api/v1/{path}?{urlencode(parameters)}"
                with urlopen(url, timeout=10) as answer:
                    return json.load(answer)["data"]
            except OSError:  # it is starting
                return {}

        return ask

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("corner", [EMBEDDED], indirect=True)
def test_a_real_prometheus_loads_the_rules_and_answers_every_panel(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, prometheus: Callable[[str], Ask]
) -> None:
    shop, fleet = corner
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    with exporter(fleet) as metrics:
        ask = prometheus(metrics.url.removeprefix("http://"))

        def alerts() -> dict[str, dict[str, Any]]:
            return {rule["name"]: rule for group in ask("rules").get("groups", ()) for rule in group["rules"]}

        eventually(
            "the alert that no worker runs is pending",
            lambda: alerts().get("DispatcherNoWorker", {}).get("state") == "pending",
            told=alerts,
        )
        worker = fleet.start()
        shop.place([order(number) for number in range(5)])
        shop.wait_delivered(5)
        worker.end()
        query = 'dispatcher_attempts_total{verdict="delivered"}'
        eventually(
            "Prometheus knows of the deliveries",
            lambda: [found["value"][1] for found in ask("query", query=query).get("result", ())] == ["5"],
        )
        rules = (MONITORING / "alerts.yml").read_text(encoding="utf-8")
        assert set(alerts()) == set(re.findall(r"- alert: (\w+)", rules))
        assert {rule["health"] for rule in alerts().values()} == {"ok"}
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                answer = ask("query", query=target["expr"].replace("$__rate_interval", "1m"))
                assert answer.get("resultType") == "vector", (panel["title"], answer)
