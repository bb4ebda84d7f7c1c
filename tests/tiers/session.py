"""A pytest plugin, registered in conftest.py: finds the tiers, says at the end which ran, and
fails the session for a required one that is missing and for a leak.

`DISPATCHER_TEST_REQUIRE=postgres,mysql,…` makes a missing tier a failure of the session, whatever the tests say.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.canaries import Canaries, LogWatch
from tests.tiers.search import TIERS, Found, Tiers

_LOUD = ("dispatcher", "workers", "urllib3", "requests")
"""Loggers that say everything while tests run: a leak in a debug line is a leak."""

_NEEDS = {
    "postgres": {"postgres_url", "private_postgres"},
    "mysql": {"mysql_url"},
    "redis": {"redis_url", "private_redis"},
    "rabbitmq": {"rabbitmq_url"},
    "prometheus": {"prometheus_tools"},
    "history": {"previous_release"},
}


class TestSession:
    """What one run knows: the tiers that were found and used, and the leaks. Under xdist each worker has its own."""

    __test__ = False

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        environment = os.environ  # noqa: TID251 - the composition root of the tests
        for name in [name for name in environment if name.startswith("DISPATCHER_") and "_TEST_" not in name]:
            del environment[name]  # a developer's own settings must not steer the tests, nor the processes they start
        given: dict[str, Any] = getattr(config, "workerinput", {})
        self.tiers = Tiers(environment, given.get("tiers"))
        self.canaries = Canaries()
        self._log_watch = LogWatch(self.canaries)
        logging.getLogger().addHandler(self._log_watch)
        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.DEBUG)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist: one search and one private server for all workers."""
        node.workerinput["tiers"] = self.tiers.handed_on()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """xdist: what a worker saw."""
        output = getattr(node, "workeroutput", {})
        self.tiers.used.update(output.get("tiers", ()))
        self.canaries.leaks += output.get("leaks", ())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """A test that asks for a tier's server carries the tier's marker."""
        for item in items:
            for tier, fixtures in _NEEDS.items():
                if fixtures & set(getattr(item, "fixturenames", ())):
                    item.add_marker(tier)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """What the test and its children printed, in all three phases."""
        if report.when == "teardown" and not self._is_worker:
            for heading, text in report.sections:
                self.canaries.check(text, f"{heading} of {report.nodeid}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A leak, or a required tier that is missing, fails a session that else passed."""
        if self._is_worker:
            session.config.workeroutput |= {"tiers": sorted(self.tiers.used), "leaks": self.canaries.leaks}  # type: ignore[attr-defined]  # xdist's
        elif session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and (
            self.canaries.leaks or self.tiers.missing(self.tiers.required)
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """The closing lines, below pytest's own."""
        logging.getLogger().removeHandler(self._log_watch)
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and not self._is_worker and not self._config.option.collectonly:
            for line in self._closing_lines():
                terminal.write_line(line)
        self.tiers.close()

    def _closing_lines(self) -> Iterator[str]:
        for leak in dict.fromkeys(self.canaries.leaks):
            yield f"LEAK of a canary: {leak}"
        asked = self.tiers.used | self.tiers.required
        missing = self.tiers.missing(asked)
        for tier, reason in missing.items():
            yield f"{tier} is missing: {reason}"
        if ran := [self._named(tier) for tier in TIERS if tier in self.tiers.used and tier not in missing]:
            yield f"TIERS: {' '.join(ran)}"
        if missing:
            required = self.tiers.missing(self.tiers.required)
            yield f"TIERS MISSING: {', '.join(missing)}" + (f" (required: {', '.join(required)})" if required else "")

    def _named(self, tier: str) -> str:
        server = self.tiers.find(tier)
        return f"{tier}({server.origin})" if isinstance(server, Found) and server.origin else tier
