"""The embedded broker as a Redis that Celery can live with, and its hand-over between processes.

Real: fakeredis' TCP server, sockets, files, processes that are killed. Nothing is doubled.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty

import pytest
from kombu import Connection

from dispatcher import embedded
from dispatcher.clock import SystemClock
from workers.embedded_broker import PORTS, EmbeddedBroker
from workers.embedded_server import EmbeddedServer

WORKER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from workers.embedded_broker import EmbeddedBroker

    broker = EmbeddedBroker(Path(sys.argv[1]))
    for command in sys.stdin:
        if command == "port\\n":
            answer = broker.ensure_port()
        if command == "try\\n":
            answer = broker.try_own()
        if command == "fork\\n":
            up, tell = os.pipe()
            answer = os.fork()
            if answer == 0:
                os.write(tell, b"!")
                os.close(0)
                os.close(1)
                sys.stdout = open(os.devnull, "w")
                import signal
                signal.pause()
            os.read(up, 1)
        print(answer, flush=True)
    """
)


class Worker:
    """A process with an `EmbeddedBroker`, which does what it is told."""

    def __init__(self, sqlite_path: Path) -> None:
        command = [sys.executable, "-c", WORKER, str(sqlite_path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, word: str) -> str:
        self.send(word)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker(tmp_path / "dispatcher.db"))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path / "dispatcher.db")
    yield broker
    broker.close()


def connect(broker_port: int) -> socket.socket:
    return socket.create_connection((embedded.HOST, broker_port), 10)


def answer(client: socket.socket, *words: str) -> bytes:
    """What the server answers to one command."""
    client.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
    return client.recv(4096)


def test_an_error_reply_is_a_reply_and_the_connection_stays(broker: EmbeddedBroker) -> None:
    assert broker.try_own()

    with connect(broker.ensure_port()) as client:
        unknown_script = answer(client, "EVALSHA", "0" * 40, "0")
        pong = answer(client, "PING")

    assert unknown_script.startswith(b"-NOSCRIPT")
    assert pong == b"+PONG\r\n"


def test_replies_leave_without_waiting_for_an_acknowledgement() -> None:
    delays: list[int] = []
    server = EmbeddedServer((embedded.HOST, 0))

    class Observed(server.RequestHandlerClass):  # type: ignore[misc, name-defined]  # known at run time only
        def handle(self) -> None:
            delays.append(self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    server.RequestHandlerClass = Observed
    with server, connect(server.server_address[1]) as client:
        server.handle_request()
        assert client.recv(1) == b""

    assert [bool(no_delay) for no_delay in delays] == [True]


def test_a_message_published_with_kombu_arrives_and_is_acknowledged(broker: EmbeddedBroker) -> None:
    assert broker.try_own()

    with Connection(embedded.broker_url(broker.ensure_port())) as connection, connection.SimpleQueue("bells") as queue:
        queue.put({"account": "default"})
        message = queue.get(timeout=10)
        message.ack()
        assert message.payload == {"account": "default"}
        with pytest.raises(Empty):
            queue.get(block=False)


def test_asking_for_the_address_starts_and_writes_nothing(tmp_path: Path) -> None:
    assert embedded.address(tmp_path / "dispatcher.db") is None
    assert EmbeddedBroker(tmp_path / "dispatcher.db").address() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "port\n", "70000\n", "0\n", "\N{SNOWMAN}"])
def test_a_broken_port_file_counts_as_none_and_is_mended(broker: EmbeddedBroker, tmp_path: Path, content: str) -> None:
    file = tmp_path / "dispatcher.db.broker"
    file.write_text(content, encoding="utf-8")

    assert broker.address() is None
    assert broker.ensure_port() in PORTS
    assert broker.address() == f"redis://127.0.0.1:{broker.ensure_port()}/0"


def test_processes_that_start_at_once_agree_on_one_port(start: Callable[[], Worker]) -> None:
    workers = [start() for _ in range(3)]
    for worker in workers:
        worker.send("port")

    assert len({worker.hear() for worker in workers}) == 1


def test_one_process_serves_and_when_it_is_killed_another_takes_over_the_same_port(start: Callable[[], Worker]) -> None:
    first, second = start(), start()
    assert first.ask("try") == "True"
    assert second.ask("try") == "False"
    port = int(second.ask("port"))
    with connect(port) as client:
        assert answer(client, "PING") == b"+PONG\r\n"

        first.kill()
        assert second.ask("try") == "True"

        assert client.recv(1) == b"", "the old connection is closed, not left hanging"
    assert int(second.ask("port")) == port
    with connect(port) as client:
        assert answer(client, "PING") == b"+PONG\r\n"


def test_a_pool_process_that_outlives_its_killed_owner_holds_nothing(start: Callable[[], Worker]) -> None:
    owner, other = start(), start()
    assert owner.ask("try") == "True"
    with connect(int(other.ask("port"))) as client:
        assert answer(client, "PING") == b"+PONG\r\n"
        child = int(owner.ask("fork"))
        try:
            assert answer(client, "PING") == b"+PONG\r\n", "the owner goes on serving after a fork"
            owner.kill()

            assert other.ask("try") == "True"
            client.settimeout(10)
            assert client.recv(1) == b""
        finally:
            os.kill(child, signal.SIGKILL)


def test_serving_twice_is_serving_once_and_closing_lets_the_next_one_in(broker: EmbeddedBroker, tmp_path: Path) -> None:
    other = EmbeddedBroker(tmp_path / "dispatcher.db")
    assert broker.try_own()
    assert broker.try_own()
    assert not other.try_own()

    broker.close()

    assert other.try_own()
    assert other.address() == broker.address()
    other.close()


class HurriedClock(SystemClock):
    """Waiting takes no time and is noted."""

    def __init__(self) -> None:
        self.waited = 0.0

    def monotonic(self) -> float:
        return self.waited

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waited += seconds
        return event.is_set()


def test_a_port_that_a_stranger_has_taken_is_replaced(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "dispatcher.db", clock=HurriedClock())
    taken = broker.ensure_port()
    with socket.create_server((embedded.HOST, taken)):
        assert broker.try_own()

    assert broker.ensure_port() != taken
    with connect(broker.ensure_port()) as client:
        assert answer(client, "PING") == b"+PONG\r\n"
    broker.close()
