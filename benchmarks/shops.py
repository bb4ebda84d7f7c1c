"""Shops: whether a platform whose shops have an event or a few each drains as fast as one shop with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.orm import Session

from benchmarks.contenders.ours import KEY, Ours
from benchmarks.drain import drain
from benchmarks.lab import Lab
from benchmarks.report import Answer
from benchmarks.sample import TOKEN, order
from dispatcher import EcommerceOrderPlaced, enqueue_many
from dispatcher.outbox.vault import Vault

_SHOPS = """
INSERT INTO outbox_accounts (account, credentials, token_version, turn_at, proven_until)
SELECT 'shop-' || n, :sealed, 1, now(), now() + interval '1 day' FROM generate_series(0, :shops - 1) AS g (n)
"""


@dataclass(frozen=True)
class Platform(Ours):
    """The dispatcher, for so many shops with credentials of their own that have all been trusted before."""

    shops: int = 1

    def fill(self, lab: Lab, count: int) -> None:
        """See `Contender`."""
        sealed = Vault([SecretStr(KEY)]).seal({"access": SecretStr(TOKEN)})
        with lab.engine.begin() as connection:
            connection.execute(sa.text(_SHOPS), {"sealed": sealed, "shops": self.shops})
        with Session(lab.engine) as session, session.begin():
            for shop in range(self.shops):
                enqueue_many(session, self._orders(shop, count), account=f"shop-{shop}")

    def _orders(self, shop: int, count: int) -> Sequence[EcommerceOrderPlaced]:
        return [order(number) for number in range(shop, count, self.shops)]


def run(lab: Lab, repeats: int, scale: float) -> Answer:
    """The same events, of one shop, of many with four each, and of as many shops as there are events."""
    answer = Answer("Shops, 0 ms")
    count = max(400, int(10_000 * scale))
    for _ in range(repeats):
        for shops in (1, count // 4, count):
            name = f"{shops:,} shop{'s' if shops > 1 else ''}"
            done = drain(lab, Platform(name, shops=shops), count, 0)
            answer.add(name, "events/s", done.rate)
            answer.add(f"{name}, worker", "us of CPU/event", done.worker_us)
            answer.add(f"{name}, servers", "us of CPU/event", done.server_us)
            answer.add(f"{name}, copies", "events", done.copies)
    return answer
