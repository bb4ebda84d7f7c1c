"""A delivery in each mode, and one that sends batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dispatcher.sandbox import Sandbox
from tests.contract.delivery.delivery_under_test import Delivery

Make = Callable[..., Delivery]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """RD Station without limits or faults."""
    with Sandbox() as sandbox:
        sandbox.switch(account_per_minute=0, lead_per_day=0)
        yield sandbox


@pytest.fixture
def make(sandbox: Sandbox) -> Iterator[Make]:
    made: list[Delivery] = []

    def make(url: str, *, batch: str = "on", **changes: Any) -> Delivery:
        made.append(Delivery.of(url, sandbox, batch=batch, **changes))
        return made[-1]

    yield make
    for delivery in made:
        delivery.close()


@pytest.fixture(params=["single", "batch"])
def delivery(request: pytest.FixtureRequest, make: Make, sqlite_url: str) -> Delivery:
    """Each mode in turn."""
    return make(sqlite_url, batch="on" if request.param == "batch" else "off")


@pytest.fixture
def batches(make: Make, sqlite_url: str) -> Delivery:
    """Up to 100 events in one request."""
    return make(sqlite_url, batch_events=100)
