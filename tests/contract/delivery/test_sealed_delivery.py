"""Sealed payloads on their way to RD Station: a worker without the key does nothing, one with it delivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.outbox import sealing
from dispatcher.outbox.installed import forget_installed
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.resealing import seal_all
from dispatcher.outbox.tables import attempts, installation
from dispatcher.sandbox import Sandbox
from tests.contract.delivery.delivery_under_test import Delivery, order

OURS = SecretStr(Fernet.generate_key().decode())


@pytest.fixture
def sealed(database_url: str, sandbox: Sandbox) -> Iterator[Delivery]:
    delivery = Delivery.of(database_url, sandbox, batch="off")
    sealing.install(lambda: (OURS,))
    seal_all(delivery.outbox.engine, Signature("ana"))
    yield delivery
    sealing.install(tuple)
    with delivery.outbox.engine.begin() as connection:
        connection.execute(sa.update(installation).values(payload_key=None))
    forget_installed(delivery.outbox.engine)
    delivery.close()


def test_a_worker_without_the_key_leaves_everything_and_one_with_it_delivers(sealed: Delivery) -> None:
    sealed.place([order(number) for number in range(3)])
    sealing.install(tuple)
    before = sealed.outbox.rows()

    sealed.run()

    assert sealed.outbox.rows() == before
    assert sealed.rows(attempts) == []
    assert sealed.requests() == []
    sealing.install(lambda: (OURS,))
    sealed.run_until(delivered=3)
    assert set(sealed.accepted().values()) == {1}
