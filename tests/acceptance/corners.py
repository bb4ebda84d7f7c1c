"""Which database stands with which broker, for tests that need not run on every pair."""

from __future__ import annotations

import os

import pytest

FULL = os.environ.get("DISPATCHER_TEST_FULL") == "1"  # noqa: TID251 - a switch of the tests, for .ci/run
"""Whether to run what takes minutes: each in its full length, as issue 2 asks for it."""

SCALE = os.environ.get("DISPATCHER_TEST_SCALE") == "1"  # noqa: TID251 - as above
"""Whether to run what issues ask for at its full size, however long that takes; by hand."""

BATCH = os.environ.get("DISPATCHER_TEST_BATCH", "off")  # noqa: TID251 - as above
"""`on`: the fleets of all acceptance tests send batches, also those of tests that do not ask for it; by hand."""

EMBEDDED = pytest.param(("sqlite", None), id="sqlite-embedded")
REDIS = pytest.param(("postgres", "redis"), id="postgres-redis", marks=[pytest.mark.postgres, pytest.mark.redis])
RABBITMQ = pytest.param(("mysql", "rabbitmq"), id="mysql-rabbitmq", marks=[pytest.mark.mysql, pytest.mark.rabbitmq])
CORNERS = [EMBEDDED, REDIS, RABBITMQ]


def emptied(request: pytest.FixtureRequest, database: str) -> str:
    """The URL of a database that a parameter names, with the schema and no rows."""
    url: str = request.getfixturevalue(f"{database}_url")
    request.getfixturevalue(f"_{database}").clean()  # `tests/conftest.py` sees only fixtures that are asked for by name
    return url
