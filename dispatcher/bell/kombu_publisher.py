"""One kombu connection that publishes bells: Redis, RabbitMQ, or the embedded broker, which speaks Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

from dispatcher.bell.message import LIFETIME, QUEUE, drain_call
from dispatcher.bell.publisher import Unheard
from dispatcher.clock import Clock, SystemClock

_CROWD = 1000
_LOOK_SECONDS = 1.0


class _OneClient:
    """Kombu's channel for Redis, which would make a client for each message: half of what a bell costs.

    For one thread, and until the first error: then the publisher hangs up.
    """

    _client: Any = None

    @contextlib.contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """The client that a command goes through."""
        if client is None:
            client = self._client = self._client or self._create_client()  # type: ignore[attr-defined]  # kombu's
        yield client


class KombuPublisher:
    """Connects at the first bell. Each step on the network ends within `timeout` seconds, and none is repeated.

    No queue is declared: the workers own it. A bell that finds no queue on RabbitMQ is lost, and the first sweep of
    the first worker does its work.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        timeout: float = 0.2,
        clock: Clock | None = None,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        self._url = broker_url
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._new_id = new_id
        self._connection: Any = None
        self._producer: Any = None
        self._look_at = float("-inf")
        self._calm = False

    def publish(self, account: str) -> None:
        """Hand one bell to the broker; RabbitMQ confirms it, Redis answers.

        Raises:
            Unheard: Hundreds of bells wait already; workers that take one of them will find all work.
            Exception: Whatever kombu raises if the broker is absent, refuses or does not answer in time.
        """
        if self._producer is None:
            self._producer = self._connect()
            self._calm = False
        calm = self._calm
        if not calm:
            self._mind_the_crowd()
        body, headers = drain_call(account, call_id=self._new_id(), now=self._clock.now())
        self._producer.publish(
            body,
            routing_key=QUEUE,
            exchange="",
            serializer="json",
            headers=headers,
            correlation_id=headers["id"],
            reply_to="",
            delivery_mode="transient",
            expiration=LIFETIME.total_seconds(),
            retry=False,
            timeout=self._timeout,
        )
        if calm:  # a look takes longer than a bell, which need not wait for it: the next one heeds what it has found
            with contextlib.suppress(Unheard):
                self._mind_the_crowd()

    def close(self) -> None:
        """Hang up. Harmless if there is no connection."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()

    def _connect(self) -> Any:
        from kombu import (  # 100 ms that belong to the thread that rings, not to `import dispatcher`
            Connection,
            Producer,
        )

        options = {
            "max_retries": 0,
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry_on_timeout": False,
        }
        self._connection = Connection(self._url, connect_timeout=self._timeout)
        if self._connection.transport.driver_type == "amqp":
            options = {"confirm_publish": True, "write_timeout": self._timeout}
        self._connection.transport_options = options
        channel = getattr(self._connection.transport, "Channel", None)
        if channel is not None and hasattr(channel, "conn_or_acquire"):
            self._connection.transport.Channel = type("Channel", (_OneClient, channel), {})
        socket = getattr(self._connection.connection, "sock", None)
        if socket is not None:
            socket.settimeout(self._timeout)  # amqp waits for answers without a limit, whatever its `read_timeout`
        return Producer(self._connection.channel(), auto_declare=False)

    def _mind_the_crowd(self) -> None:
        """Redis keeps bells until a worker takes them, so without workers they would fill it; RabbitMQ's expire."""
        from kombu.exceptions import ChannelError  # as above

        if self._connection.transport.driver_type == "amqp" or (self._calm and self._clock.monotonic() < self._look_at):
            return
        self._look_at, self._calm = self._clock.monotonic() + _LOOK_SECONDS, False
        with contextlib.suppress(ChannelError):  # there is no queue, so nothing waits in it
            if self._producer.channel.queue_declare(QUEUE, passive=True).message_count >= _CROWD:
                raise Unheard
        self._calm = True
