"""The way to RD Station and back: the real sandbox without sockets, behind a network that loses and delays.

A request that has left arrives although its sender dies or freezes; an answer that nobody waits for is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from dispatcher.clock import Clock
from dispatcher.policy.outcome import Stage, TransportFailure
from dispatcher.rdstation.transport import Reply, Request
from dispatcher.sandbox.messages import Answer, Wire
from dispatcher.sandbox.messages import Request as Received
from dispatcher.sandbox.provider import Exchange, Provider
from tests.simulation.kernel import Kernel, Process, Task

_TOKEN_PATH = "/auth/token"


@dataclass
class Network:
    """What lies between the fleet and the provider.

    Attributes:
        lost_there: Share of requests that never arrive.
        lost_back: Share of answers that never arrive.
        unreachable: Share of connections that do not come about.
        latency: Seconds each way, at most.
    """

    kernel: Kernel
    provider: Provider
    rng: Random
    lost_there: float = 0.0
    lost_back: float = 0.0
    unreachable: float = 0.0
    latency: float = 0.2
    on_arrival: Callable[[Exchange], None] = lambda _exchange: None
    refreshes_at_once: int = 0
    most_refreshes_at_once: int = 0
    carrier: Process = field(default_factory=lambda: Process("network"))
    events: set[str] = field(default_factory=set)


@dataclass
class _Mail:
    """One request under way, and what comes back."""

    waiting: Task | None = None
    answer: Answer | None = None


class SimulatedTransport:
    """`dispatcher.rdstation.transport.Transport`, of one process."""

    def __init__(self, network: Network, clock: Clock, total_seconds: float) -> None:
        self._network = network
        self._clock = clock
        self._total = total_seconds

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        """See `Transport.send`."""
        network, kernel = self._network, self._network.kernel
        started = self._clock.monotonic()
        deadline = started + (self._total if seconds is None else min(seconds, self._total))
        about = "token " if request.path.startswith(_TOKEN_PATH) else ""
        kernel.point(f"{about}connect")
        if network.rng.random() < network.unreachable:
            network.events.add("unreachable")
            return self._failed(Stage.NOT_CONNECTED, TransportFailure.CONNECT, started)
        if self._clock.monotonic() >= deadline:
            return self._failed(Stage.NOT_CONNECTED, TransportFailure.DEADLINE, started)
        mail = _Mail(kernel.task)
        kernel.spawn(network.carrier, "request", lambda: self._carry(request, mail))
        kernel.point(f"{about}request sent")
        while mail.answer is None and self._clock.monotonic() < deadline:
            kernel.park(deadline - self._clock.monotonic())
        mail.waiting = None
        kernel.point(f"{about}answer read")
        if mail.answer is None:
            return self._failed(Stage.WRITTEN, TransportFailure.TIMEOUT, started)
        return self._reply(mail.answer, started)

    def close(self) -> None:
        """See `Transport.close`."""

    def close_idle(self) -> None:
        """See `KeptTransport.close_idle`."""

    def _carry(self, request: Request, mail: _Mail) -> None:
        """Runs beside the sender, and outlives it."""
        network, kernel = self._network, self._network.kernel
        kernel.sleep(network.rng.random() * network.latency)
        if network.rng.random() < network.lost_there:
            network.events.add("request lost")
            return
        exchange = network.provider.receive(_received(request))
        network.on_arrival(exchange)
        refreshes = request.path.startswith(_TOKEN_PATH)
        if refreshes:
            network.refreshes_at_once += 1
            network.most_refreshes_at_once = max(network.most_refreshes_at_once, network.refreshes_at_once)
        wait = exchange.answer.wait_seconds
        kernel.sleep(min(wait, self._total) + network.rng.random() * network.latency)
        network.provider.leave(exchange)
        network.refreshes_at_once -= refreshes
        if math.isinf(wait) or network.rng.random() < network.lost_back:
            network.events.add("answer lost")
            return
        mail.answer = exchange.answer
        network.events.add("answered" if mail.waiting is not None else "answered too late")
        if mail.waiting is not None:
            kernel.wake(mail.waiting)

    def _failed(self, stage: Stage, failure: TransportFailure, started: float) -> Reply:
        return Reply(stage, failure=failure, detail="as simulated", seconds=self._clock.monotonic() - started)

    def _reply(self, answer: Answer, started: float) -> Reply:
        match answer.wire:
            case Wire.RESET:
                return self._failed(Stage.WRITTEN, TransportFailure.RESET, started)
            case Wire.CUT_IN_STATUS | Wire.CUT_IN_HEADERS:
                return self._failed(Stage.ANSWER_BEGUN, TransportFailure.PROTOCOL, started)
            case _:
                whole = answer.wire is not Wire.CUT_IN_BODY
                return Reply(
                    Stage.ANSWERED,
                    status=answer.status,
                    headers={name.lower(): value for name, value in answer.headers},
                    body=answer.body if whole else b"",
                    complete=whole,
                    seconds=self._clock.monotonic() - started,
                )


def _received(request: Request) -> Received:
    path, _, query = request.path.partition("?")
    headers = {"content-type": "application/json"}
    if request.bearer is not None:
        headers["authorization"] = f"Bearer {request.bearer.get_secret_value()}"
    return Received(request.method, path, query, headers, request.body or b"")
