"""Issue 5: a rolling deploy under load. Workers and shops of the previous release share the database with this one's.

Real: the previous release, from this repository's history (`tests/tiers/releases.py`), its processes and ours, the
migration between them. Doubled: RD Station, by the sandbox. A checkout without the history misses the tier `history`.
On PostgreSQL; on all three with DISPATCHER_TEST_SCALE=1.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dispatcher.outbox import schema
from dispatcher.outbox.tables import attempts, events
from dispatcher.sandbox import Sandbox
from tests.acceptance.corners import SCALE
from tests.acceptance.fleet import PATIENCE, Fleet, Shop, engine_of, eventually, order, settings_for
from tests.conftest import DATABASES
from tests.tiers.releases import REVISION

LEADS, ROUNDS = 10, 12
"""Orders of each shop: so many customers, each with one order in each round. Each shop has customers of its own."""

EXPLAIN = {"delivered", "uncertain", "abandoned"}

_OLD_SHOP = """
import sys
import sqlalchemy as sa
from sqlalchemy.orm import Session
import dispatcher
from dispatcher import OrderPlaced, connect, enqueue_many
from dispatcher.outbox.engine import create_engine

class Mute:
    def ring(self, accounts): pass

assert dispatcher.__file__.startswith(sys.argv[2]), dispatcher.__file__
connect(bell=Mute())
engine = create_engine(sys.argv[1])
for line in sys.stdin:
    numbers = [int(word) for word in line.split()]
    with Session(engine) as session, session.begin():
        enqueue_many(session, [OrderPlaced(
            email=f"old{number % 10}@shop.example", cf_order_id=str(number), cf_order_total_items=1,
            cf_order_status="paid", cf_order_payment_method="Others", cf_order_payment_amount=2.5)
            for number in numbers])
    print("done", flush=True)
"""
"""A shop that runs the previous release: commits the orders whose numbers it reads, line by line."""


class OldShop:
    """A process of the previous release that enqueues."""

    def __init__(self, url: str, release: Path) -> None:
        fleet = Fleet(release, {}, code=release)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _OLD_SHOP, url, str(release)],
            env=fleet.environment(),
            cwd=release,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def place(self, numbers: Sequence[int]) -> None:
        """Commit orders with these numbers in one transaction."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, numbers)) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def old_shop(empty_database_url: str, previous_release: Path) -> Iterator[OldShop]:
    shop = OldShop(empty_database_url, previous_release)
    yield shop
    shop.close()


@pytest.fixture
def shop(empty_database_url: str) -> Iterator[Shop]:
    """This release's, on the previous one's schema."""
    with engine_of(empty_database_url) as engine:
        schema.upgrade(engine, REVISION)
        yield Shop(engine)


@pytest.fixture
def fleets(
    request: pytest.FixtureRequest,
    shop: Shop,
    empty_database_url: str,
    sandbox: Sandbox,
    tmp_path: Path,
    previous_release: Path,
) -> Iterator[tuple[Fleet, Fleet]]:
    """The previous release's and this one's, beside each other."""
    sqlite = empty_database_url.startswith("sqlite")
    broker = None if sqlite else request.getfixturevalue("redis_url")
    settings = settings_for(empty_database_url, broker, sandbox)
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = Fleet(tmp_path / "old", settings, code=previous_release)
    new = Fleet(tmp_path / "new", settings)
    yield old, new
    old.close()
    new.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("empty_database_url", DATABASES if SCALE else DATABASES[1:2], indirect=True)
def test_nothing_is_lost_doubled_or_overtaken_while_two_releases_share_the_database(
    shop: Shop, old_shop: OldShop, fleets: tuple[Fleet, Fleet], sandbox: Sandbox
) -> None:
    old, new = fleets
    over, gone_on = threading.Event(), threading.Event()
    sold: list[int] = []
    leaving = old.start()

    def load() -> None:
        """One transaction after the other, without a pause for the migration."""
        for round_ in range(ROUNDS):
            numbers = [round_ * LEADS + lead for lead in range(LEADS)]
            old_shop.place(numbers)
            sold.extend(numbers)
            if round_ == ROUNDS // 3:
                gone_on.set()
        over.set()

    selling = threading.Thread(target=load, daemon=True)
    selling.start()
    assert gone_on.wait(PATIENCE)
    assert schema.upgrade(shop.engine) != [], "there is no migration between the two: pin another release"

    eventually("the previous release goes on", lambda: shop.states()["delivered"] > 0, told=lambda: old.log[-3000:])
    coming = new.start()
    selling.join(PATIENCE)
    assert over.is_set()
    last = 1000

    def both_have_sent() -> bool:
        nonlocal last
        numbers = range(last, last + LEADS)
        shop.place([order(number, lead=1000 + number % LEADS, batch="off") for number in numbers])
        sold.extend(numbers)
        last += LEADS
        return len({row["worker"] for row in shop.rows(attempts) if row["verdict"] == "delivered"}) >= 2

    eventually("both releases have sent", both_have_sent, told=lambda: new.log[-3000:])
    leaving.end()  # as a deploy does: SIGTERM, what is under way is finished
    shop.wait_delivered(len(sold))

    arrived = Counter(str(one.key) for one in sandbox.arrivals("ORDER_PLACED", accepted=True))
    assert arrived.keys() == set(map(str, sold)), "nothing is lost, and nothing was made up"
    may_have_arrived = Counter(row["event"] for row in shop.rows(attempts) if row["verdict"] in EXPLAIN)
    keys = {row["id"]: row["key"].partition(":")[2] for row in shop.rows(events)}
    explained = {keys[event]: count for event, count in may_have_arrived.items()}
    assert {key: copies for key, copies in arrived.items() if copies > explained[key]} == {}
    in_order: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for key in dict.fromkeys(str(one.key) for one in sandbox.arrivals("ORDER_PLACED", accepted=True)):
        in_order[int(key) >= 1000, int(key) % LEADS].append(int(key))
    for lead, numbers in in_order.items():
        assert numbers == sorted(numbers), f"of lead {lead} one has overtaken another"
    for worker in (leaving, coming):
        assert "Traceback" not in worker.text
    coming.end()
