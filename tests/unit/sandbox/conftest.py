"""The sandbox is real, over real HTTP on loopback; its clock stands still until a test advances it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from dispatcher.sandbox import Sandbox
from tests.unit.sandbox.shop import Shop, StoppedClock


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(clock=StoppedClock(), rng=random.Random(7)) as running:  # noqa: S311  # repeatable tokens
        yield running


@pytest.fixture
def shop(sandbox: Sandbox) -> Iterator[Shop]:
    client = Shop(sandbox)
    yield client
    client.session.close()
