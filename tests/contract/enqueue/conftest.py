"""Every test here runs on each database, as a shop with its own engine does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispatcher import connect
from tests.contract.enqueue.shop_under_test import RememberingBell, Shop, metadata


@pytest.fixture(scope="session")
def _shops() -> Iterator[dict[str, Shop]]:
    shops: dict[str, Shop] = {}
    yield shops
    for shop in shops.values():
        shop.engine.dispose()


@pytest.fixture
def shop(database_url: str, _shops: dict[str, Shop]) -> Iterator[Shop]:
    """A shop with an empty outbox, no orders, and a bell that remembers."""
    shop = _shops.setdefault(database_url, Shop(database_url))
    metadata.create_all(shop.engine)
    shop.bell = RememberingBell()
    connect(bell=shop.bell)
    yield shop
    connect()
