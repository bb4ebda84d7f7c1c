"""Every test here runs on each database, as a shop with its own engine does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from dispatcher import connect
from dispatcher.outbox.moment import read_clock
from tests.contract.bystanders import Bystanders, unchanged
from tests.contract.enqueue.shop_under_test import RememberingBell, Shop, metadata


@pytest.fixture(scope="session")
def _shops() -> Iterator[dict[str, Shop]]:
    shops: dict[str, Shop] = {}
    yield shops
    for shop in shops.values():
        shop.engine.dispose()


@pytest.fixture
def shop(database_url: str, engine: sa.Engine, _shops: dict[str, Shop]) -> Iterator[Shop]:
    """A shop that finds only bystanders in the outbox, with no orders, and a bell that remembers."""
    shop = _shops.setdefault(database_url, Shop(database_url))
    metadata.create_all(shop.engine)
    with engine.begin() as connection:  # not over the shop's: cleaning up may end a connection that was just in use
        bystanders = Bystanders.planted(connection, read_clock(connection))
    shop.bell = RememberingBell()
    connect(bell=shop.bell)
    yield shop
    connect()
    unchanged(engine, bystanders)
