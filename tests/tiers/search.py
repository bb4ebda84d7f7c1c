"""Where a tier's server is: `DISPATCHER_TEST_<TIER>_URL`, its standard port on loopback, then a private server.

An address that is given but does not answer falls through to a private server, never to the standard port.
`DISPATCHER_TEST_CLOSED=1` skips both kinds of address.
"""

from __future__ import annotations

import getpass
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiers import releases
from tests.tiers.servers import NoServer, PrivatePostgres, PrivateRedis

TIERS = ("sqlite", "postgres", "mysql", "redis", "rabbitmq", "prometheus", "history")
"""In the order in which they are reported; `sqlite` needs nothing. `prometheus` is no server but its own programs,
`history` the code of the previous release."""

_ANSWER_SECONDS = 3


@dataclass(frozen=True)
class Found:
    """A server that answered. `url` reaches it with the right to create databases."""

    url: str
    origin: str


@dataclass(frozen=True)
class Missing:
    """No server, and what to do about it."""

    reason: str


class Tiers:
    """What was found, looked for once and at first use; under xdist the controller looks and hands it on."""

    def __init__(self, environment: Mapping[str, str], handed: Mapping[str, list[str]] | None = None) -> None:
        self._environment = environment
        self._known: dict[str, Found | Missing] = {}
        self._private: list[PrivatePostgres | PrivateRedis] = []
        self.used: set[str] = set()
        words = environment.get("DISPATCHER_TEST_REQUIRE", "").replace(",", " ").split()
        if unknown := set(words) - set(TIERS):
            raise pytest.UsageError(
                f"DISPATCHER_TEST_REQUIRE names no tier: {', '.join(sorted(unknown))}; use {', '.join(TIERS)}"
            )
        self.required = frozenset(words)
        for tier, fields in (handed or {}).items():
            self._known[tier] = Found(*fields) if len(fields) == 2 else Missing(*fields)

    def find(self, tier: str) -> Found | Missing:
        """The tier's server; starts a private one where no service answers."""
        if tier not in self._known:
            self._known[tier] = self._search(tier)
        return self._known[tier]

    def private(self, tier: str) -> PrivatePostgres | PrivateRedis | Missing:
        """A new, started server for one test, which closes it; a failure is reported as a missing tier of its own."""
        try:
            return _started(tier)
        except NoServer as error:
            missing = self._known[f"private {tier}"] = Missing(str(error))
            return missing

    def missing(self, tiers: Iterable[str]) -> dict[str, str]:
        """Those of the given tiers that have no server, with the reason."""
        asked = set(tiers)
        found = {tier: self.find(tier) for tier in TIERS if tier in asked}
        found |= {name: server for name, server in self._known.items() if name.removeprefix("private ") in asked}
        return {name: server.reason for name, server in found.items() if isinstance(server, Missing)}

    def handed_on(self) -> dict[str, list[str]]:
        """Every tier, in the form in which xdist passes it to its workers."""
        found = {tier: self.find(tier) for tier in TIERS}
        return {t: [f.url, f.origin] if isinstance(f, Found) else [f.reason] for t, f in found.items()}

    def close(self) -> None:
        """Stop the private servers."""
        while self._private:
            self._private.pop().close()

    def _search(self, tier: str) -> Found | Missing:
        if tier == "sqlite":
            return Found("", "")
        if tier == "prometheus":
            return _prometheus_tools()
        if tier == "history":
            return _history()
        variable = f"DISPATCHER_TEST_{tier.upper()}_URL"
        closed = self._environment.get("DISPATCHER_TEST_CLOSED") == "1"
        given = self._environment.get(variable)
        urls = [] if closed else [_with_driver(given)] if given else _standard_urls(tier)
        for url in urls:
            if _answers(tier, url):
                return Found(url, "url" if given else "service")
        silent = f"{variable} does not answer" if given else f"nothing answers at its standard port, and no {variable}"
        return self._start(tier, "DISPATCHER_TEST_CLOSED is set" if closed else silent)

    def _start(self, tier: str, why: str) -> Found | Missing:
        if tier not in _PRIVATE:
            return Missing(f"{why}; start a server or set DISPATCHER_TEST_{tier.upper()}_URL, no wheel brings one")
        try:
            self._private.append(_started(tier))
        except NoServer as error:
            return Missing(f"{why}; {error}")
        return Found(self._private[-1].url, self._private[-1].origin)


def _prometheus_tools() -> Found | Missing:
    """The folder with `promtool` and `prometheus`: on the PATH, or where `make tools` puts them."""
    ours = Path(sys.prefix) / "tools" / "usr" / "bin"
    for folder, origin in ((shutil.which("promtool"), "PATH"), (shutil.which("promtool", path=str(ours)), "tools")):
        if folder is not None and (Path(folder).parent / "prometheus").exists():
            return Found(str(Path(folder).parent), origin)
    return Missing("promtool and prometheus are not on the PATH; `make tools`, or install Debian's package prometheus")


def _history() -> Found | Missing:
    try:
        return Found(releases.find(), "git")
    except (releases.NoHistory, OSError) as error:  # no git at all
        return Missing(str(error))


_PRIVATE: Mapping[str, type[PrivatePostgres | PrivateRedis]] = {
    "postgres": PrivatePostgres,
    "redis": PrivateRedis,
}


def _started(tier: str) -> PrivatePostgres | PrivateRedis:
    server = _PRIVATE[tier]()
    try:
        server.start()
    except NoServer:
        server.close()
        raise
    return server


def _standard_urls(tier: str) -> list[str]:
    users = dict.fromkeys(("postgres", "root", getpass.getuser()))
    return {
        "postgres": [f"postgresql+psycopg://{user}@127.0.0.1:5432/postgres" for user in users],
        "mysql": ["mysql+pymysql://root@127.0.0.1:3306/mysql"],
        "redis": ["redis://127.0.0.1:6379/0"],
        "rabbitmq": ["amqp://guest:guest@127.0.0.1:5672//"],
    }[tier]


def _with_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    driver = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    return driver.get(scheme, scheme) + separator + rest


def _answers(tier: str, url: str) -> bool:
    try:
        _ASK[tier](url)
    except Exception:  # noqa: BLE001 - four drivers' own errors, all of which mean: not usable
        return False
    return True


def _ask_database(url: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": _ANSWER_SECONDS})
    with engine.connect() as connection:
        connection.execute(sa.select(1))


def _ask_redis(url: str) -> None:
    import redis

    with redis.Redis.from_url(url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS) as client:
        client.ping()


def _ask_rabbitmq(url: str) -> None:
    from kombu import Connection

    with Connection(url, connect_timeout=_ANSWER_SECONDS) as connection:
        connection.connect()


_ASK: Mapping[str, Callable[[str], None]] = {
    "postgres": _ask_database,
    "mysql": _ask_database,
    "redis": _ask_redis,
    "rabbitmq": _ask_rabbitmq,
}
