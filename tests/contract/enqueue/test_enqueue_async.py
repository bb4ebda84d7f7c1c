"""`enqueue_async` and `cancel_async` over the async drivers. Doubles nothing but the bell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from dispatcher import cancel_async, enqueue_async, prepare_sqlite
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.tables import dead_letters
from tests.contract.enqueue.shop_under_test import Shop, orders, placed

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "mysql": "mysql+aiomysql"}

Work = Callable[[AsyncEngine], Awaitable[None]]


@pytest.fixture
def run(shop: Shop) -> Callable[[Work], None]:
    """Runs async work on an async engine of the shop's database."""

    async def with_engine(work: Work) -> None:
        engine = create_async_engine(shop.engine.url.set(drivername=DRIVERS[shop.dialect]))
        prepare_sqlite(engine)
        try:
            await work(engine)
        finally:
            await engine.dispose()

    return lambda work: asyncio.run(with_engine(work))


def test_an_async_session_rings_after_its_commit(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(sa.insert(orders), {"number": "1001"})
            assert (await enqueue_async(session, placed(), account="shop-17")).created
            assert not (await enqueue_async(session, placed(), account="shop-17")).created
            assert shop.bell.rings == []

    run(work)
    assert shop.bell.rings == [["shop-17"]]
    assert (shop.orders(), shop.keys()) == (["1001"], ["ORDER_PLACED:1001"])


def test_an_async_rollback_leaves_no_row_and_no_bell(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            await enqueue_async(session, placed())
            await session.rollback()
            await session.commit()

    run(work)
    assert (shop.keys(), shop.bell.rings) == ([], [])


def test_an_async_savepoint_rings_nothing_before_the_outermost_commit(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            async with session.begin_nested():
                await enqueue_async(session, placed())
            assert shop.bell.rings == []

    run(work)
    assert shop.bell.rings == [["default"]]


def test_an_async_connection_rings_only_when_its_owner_says_so(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            receipt = await enqueue_async(connection, placed())
        assert shop.bell.rings == []
        receipt.ring()

    run(work)
    assert shop.bell.rings == [["default"]]


def test_an_async_session_takes_an_event_back(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            receipt = await enqueue_async(session, placed())
        async with AsyncSession(engine) as session, session.begin():
            assert await cancel_async(session, receipt.key)

    run(work)
    assert [row["state"] for row in shop.outbox()] == ["cancelled"]


def test_an_async_session_takes_back_what_is_of_the_account_it_names(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            receipt = await enqueue_async(session, placed(), account="other")
            assert not await cancel_async(session, receipt.key)
            assert await cancel_async(session, receipt.key, account="other")

    run(work)


def test_twenty_async_sessions_enqueue_one_order_at_once(shop: Shop, run: Callable[[Work], None]) -> None:
    async def work(engine: AsyncEngine) -> None:
        async def place(number: int) -> bool:
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(sa.insert(orders), {"number": f"{number:02}"})
                return (await enqueue_async(session, placed())).created

        created = await asyncio.gather(*(place(number) for number in range(20)))
        assert created.count(True) == 1

    run(work)
    assert shop.keys() == ["ORDER_PLACED:1001"]
    assert len(shop.orders()) == 20


@pytest.mark.parametrize("invalid", [False, True])
def test_a_driver_that_does_not_count_rows_tells_a_new_event_from_a_known_one(
    shop: Shop, run: Callable[[Work], None], invalid: bool
) -> None:
    """asyncpg under `stream_results`, which a shop may have set for its whole connection."""
    if shop.dialect == "mysql":
        pytest.skip("aiomysql cannot insert under stream_results")
    event = {"event_type": "ORDER_PLACED", "payload": {}} if invalid else placed()
    receipts: list[Receipt] = []

    async def work(engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.connection(execution_options={"stream_results": True})
            receipts.append(await enqueue_async(session, event, key="k", on_invalid="dead_letter"))
            receipts.append(await enqueue_async(session, event, key="k", on_invalid="dead_letter"))

    run(work)
    assert [receipt.created for receipt in receipts] == [True, False]
    assert receipts[0].dead_letter is invalid
    (row,) = shop.outbox()
    with shop.engine.connect() as connection:
        letters = connection.scalar(sa.select(sa.func.count()).where(dead_letters.c.event == row["id"]))
    assert (letters, len(shop.bell.rings)) == ((1, 0) if invalid else (0, 1))
