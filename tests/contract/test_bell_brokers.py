"""Bells over every broker. Real: brokers, sockets, a Celery worker that knows nothing of ours but the task's name."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu import Connection, Queue

from dispatcher.bell import QUEUE, TASK, BackgroundBell, KombuPublisher, Stats, Unheard

PATIENCE = 30.0


class Anchored:
    """A clock that stands at one moment."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        raise AssertionError(f"a publisher never waits, here {seconds} s for {event}")


class Passing(Anchored):
    """A clock that a test moves."""

    def __init__(self) -> None:
        super().__init__(datetime.now(UTC))  # noqa: TID251 - a worker's clock is the machine's
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def publisher(broker_url: str) -> Iterator[KombuPublisher]:
    publisher = KombuPublisher(broker_url)
    yield publisher
    publisher.close()


Drains = SimpleQueue[tuple[list[Any], dict[str, Any]]]


@pytest.fixture
def drains(broker_url: str) -> Iterator[Drains]:
    """The calls that a real worker has made: arguments, and what the request said."""
    calls: Drains = SimpleQueue()
    app = Celery("test", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(QUEUE, durable=False)],
        task_default_queue=QUEUE,
        accept_content=["json"],
        worker_enable_remote_control=False,
    )

    @app.task(name=TASK, bind=True, shared=False)
    def drain(task: Any, *accounts: str) -> None:
        calls.put((list(accounts), {"expires": task.request.expires, "ignore_result": task.request.ignore_result}))

    with (
        ThreadPoolExecutor() as pool,
        start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=PATIENCE),
    ):
        yield calls
        pool.submit(_stir, broker_url)


def _stir(broker_url: str) -> None:
    """Bells for a worker that is about to stop: an idle one looks up every ten seconds only."""
    publisher, never = KombuPublisher(broker_url), threading.Event()
    for _ in range(20):
        publisher.publish("stop")
        never.wait(0.05)
    publisher.close()


def test_a_celery_worker_receives_the_account_and_discards_a_bell_older_than_a_minute(
    drains: Drains, broker_url: str, publisher: KombuPublisher
) -> None:
    long_ago = Anchored(datetime.now(UTC) - timedelta(seconds=61))  # noqa: TID251 - a worker's clock is the machine's
    stale = KombuPublisher(broker_url, clock=long_ago)
    stale.publish("stale")
    stale.close()
    publisher.publish("shop-17")
    arguments, request = drains.get(timeout=PATIENCE)
    assert arguments == ["shop-17"]
    assert request["ignore_result"] is True
    assert request["expires"] is not None


def test_a_bell_is_json_and_leaves_no_trace_in_a_durable_store(broker_url: str, publisher: KombuPublisher) -> None:
    with Connection(broker_url) as connection:
        queue = Queue(QUEUE, channel=connection.default_channel)
        queue.declare()
        publisher.publish("shop-17")
        message = queue.get(accept=["json"])
        assert message is not None
        message.ack()
        assert message.content_type == "application/json"
        assert message.payload[0] == ["shop-17"]
        assert str(message.properties.get("delivery_mode")) == "1"


def test_all_bells_of_a_redis_connection_go_through_one_client(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make one takes as long as the rest of a bell."""
    made, make = [], redis.Redis.__init__

    def counted(client: Any, *args: Any, **options: Any) -> None:
        made.append(client)
        make(client, *args, **options)

    publisher = KombuPublisher(redis_url)
    publisher.publish("first")
    monkeypatch.setattr(redis.Redis, "__init__", counted)
    for _ in range(3):
        publisher.publish("default")
    publisher.close()
    assert made == []


@pytest.mark.parametrize("server", ["embedded", "redis"])
def test_bells_that_nobody_takes_do_not_fill_redis(server: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"{server}_url")
    with Connection(url) as connection:
        queue = Queue(QUEUE, channel=connection.default_channel)
        queue.purge()
        patient = KombuPublisher(url, clock=Anchored(datetime(2026, 1, 1, tzinfo=UTC)))
        for _ in range(1000):
            patient.publish("a")  # its clock stands, so it looks only once
        patient.close()
        eager = KombuPublisher(url)
        with pytest.raises(Unheard):
            eager.publish("a")
        eager.close()
        assert queue.get(no_ack=True) is not None
        after = KombuPublisher(url)
        after.publish("a")
        after.close()
        assert queue.purge() == 1000


def test_a_bell_that_may_go_does_not_wait_until_its_publisher_has_looked(redis_url: str) -> None:
    with Connection(redis_url) as connection:
        queue = Queue(QUEUE, channel=connection.default_channel)
        queue.declare()
        queue.purge()
        clock = Passing()
        publisher, patient = KombuPublisher(redis_url, clock=clock), KombuPublisher(redis_url, clock=Passing())
        publisher.publish("the first, which waits for a look")
        for _ in range(999):
            patient.publish("a")
        clock.seconds += 2
        publisher.publish("one more, before the publisher looks again")
        for _ in range(2):
            with pytest.raises(Unheard):
                publisher.publish("one too many")
        for _ in range(10):
            assert queue.get(no_ack=True) is not None
        publisher.publish("there is room again, as it finds at once")
        for one in (publisher, patient):
            one.close()
        assert queue.purge() == 992


class Relay:
    """A TCP relay before a broker; `freeze` makes it a black hole that keeps every connection open."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open: list[socket.socket] = []
        self._moving = threading.Event()
        self._moving.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._moving.clear()

    def close(self) -> None:
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._moving.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self._moving.wait()
                other.sendall(data)


@pytest.fixture
def relayed(broker_url: str) -> Iterator[tuple[str, Relay]]:
    """The broker's address through a relay."""
    parts = urlsplit(broker_url)
    relay = Relay(parts.hostname or "127.0.0.1", parts.port or {"amqp": 5672}.get(parts.scheme, 6379))
    credentials = parts.netloc.rpartition("@")[0]
    address = f"{credentials}@127.0.0.1:{relay.port}" if credentials else f"127.0.0.1:{relay.port}"
    yield urlunsplit(parts._replace(netloc=address)), relay
    relay.close()


def test_a_broker_that_falls_silent_holds_no_bell_for_ever(relayed: tuple[str, Relay]) -> None:
    url, relay = relayed
    publisher = KombuPublisher(url, timeout=2.0)  # more than a busy machine needs for the first bell
    publisher.publish("heard")
    relay.freeze()
    with pytest.raises(Exception) as lost:  # noqa: PT011 - each transport has its own; returning at all is the point
        publisher.publish("lost")
    assert "timed out" in str(lost.value).lower() or "timeout" in type(lost.value).__name__.lower()
    publisher.close()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_black_hole_holds_no_bell_for_ever(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hole:
        publisher = KombuPublisher(f"{scheme}://127.0.0.1:{hole.getsockname()[1]}/")
        with pytest.raises(Exception, match=r"(?i)timed? ?out"):
            publisher.publish("lost")
        publisher.close()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_an_absent_broker_is_told_apart_at_the_first_try(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    bell = BackgroundBell(lambda: KombuPublisher(f"{scheme}://127.0.0.1:{port}/"))
    bell.ring(["a"])
    assert bell.flush(PATIENCE)
    bell.ring(["b"])
    assert bell.flush(PATIENCE)
    assert bell.stats.failed >= 1
    assert bell.stats.published == 0


def test_a_bell_survives_a_connection_that_the_broker_closed(relayed: tuple[str, Relay]) -> None:
    url, relay = relayed
    through: list[str] = [url]
    bell = BackgroundBell(lambda: KombuPublisher(through[0]))
    bell.ring(["a"])
    assert bell.flush(PATIENCE)
    relay.close()
    other = Relay(*relay._target)
    through[0] = url.replace(f":{relay.port}", f":{other.port}")
    bell.ring(["b"])
    assert bell.flush(PATIENCE)
    other.close()
    assert bell.stats == Stats(rung=2, published=2)


def test_after_a_fork_parent_and_child_ring_over_connections_of_their_own(broker_url: str) -> None:
    script = """
        import gc, os, sys
        from dispatcher.bell import BackgroundBell, KombuPublisher
        bell = BackgroundBell(lambda: KombuPublisher(sys.argv[1]))
        def ring(account):
            bell.ring([account])
            return bell.flush(30) and bell.stats.failed == 0 and bell.stats.dropped == 0
        assert ring("before")
        child = os.fork()
        if child == 0:
            gc.collect()
            if not ring("child"):
                os._exit(1)
            sys.exit(0)  # with everything an ordinary exit does to inherited objects
        assert os.waitpid(child, 0)[1] == 0
        assert ring("parent")
        assert bell.stats == (2, 2, 0, 0), bell.stats
    """
    with Connection(broker_url) as connection:
        queue = Queue(QUEUE, channel=connection.default_channel)
        queue.declare()
        command = [sys.executable, "-X", "dev", "-W", "ignore", "-c", textwrap.dedent(script), broker_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        heard = []
        while (message := queue.get(accept=["json"], no_ack=True)) is not None:
            heard.append(message.payload[0][0])
    assert heard == ["before", "child", "parent"]
