"""`check` against every real broker, through the settings as an operator writes them. Nothing is doubled."""

from __future__ import annotations

from pydantic import SecretStr

from dispatcher.admin.checks import broker
from dispatcher.settings import Settings


def test_a_broker_that_runs_is_reachable(broker_url: str) -> None:
    settings = Settings(broker_url=SecretStr(broker_url))

    assert [(finding.code, finding.level) for finding in broker.examine(settings)] == [("broker.reachable", "ok")]
