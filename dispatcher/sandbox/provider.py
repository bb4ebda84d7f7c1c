"""RD Station, without sockets: a request goes in, an answer comes out, everything is recorded on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dispatcher.sandbox import answers, auth, events, gate
from dispatcher.sandbox.faults import Fault, Stage
from dispatcher.sandbox.messages import Answer, Opened, Request, Wire, opened
from dispatcher.sandbox.recorder import Arrival
from dispatcher.sandbox.world import Visit, World

LONGEST_TARGET = 8_192
"""Bytes of path and query; above it 414 (§1)."""


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: the method, what refuses before faults strike, and what answers."""

    method: str
    answer: Callable[[World, Visit], Answer]
    gate: Callable[[World, Visit], Answer | None] = lambda _world, _visit: None


ROUTES = {
    "/platform/events": Route("POST", events.post_event, gate.event),
    "/platform/events/batch": Route("POST", events.post_batch, gate.batch),
    "/platform/conversions": Route("POST", events.post_conversion, gate.api_key),
    "/marketing/account_info": Route("GET", events.get_account_info, gate.bearer),
    "/auth/token": Route("POST", auth.post_token),
    "/auth/revoke": Route("POST", auth.post_revoke),
    "/auth/dialog": Route("GET", auth.get_dialog),
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was decided on: the answer to send, and what was recorded."""

    answer: Answer
    arrivals: list[Arrival]


class Provider:
    """Answers requests; safe to call from many threads."""

    def __init__(self, world: World) -> None:
        self.world = world

    def strikes_unread(self, request: Request) -> Exchange | None:
        """A fault that resets the connection before the body (empty here) is read."""
        with self.world.lock:
            if not any(fault.stage is Stage.UNREAD for fault in self.world.faults.waiting):
                return None
            probe = self._probe(request)
            if (fault := self.world.faults.draw(probe.arrivals, Stage.UNREAD)) is None:
                return None
            visit = self._record(Opened(request))
            return self._close(visit, _played(fault, self.world, visit, Answer(500)))

    def receive(self, request: Request) -> Exchange:
        """Decide on one request. Call `leave` with the exchange right before its answer is sent."""
        content = opened(request)
        with self.world.lock:
            visit = self._record(content)
            return self._close(visit, self._decide(visit))

    def leave(self, exchange: Exchange) -> None:
        """The client is about to have its answer, or has left."""
        with self.world.lock:
            self.world.leave(exchange.arrivals)

    def _decide(self, visit: Visit) -> Answer:
        request, faults = visit.opened.request, self.world.faults
        route = ROUTES.get(request.path)
        if route is None:
            return answers.NOT_FOUND
        if request.method != route.method:
            return answers.method_not_allowed(route.method)
        if len(request.path) + 1 + len(request.query) > LONGEST_TARGET:
            return answers.URI_TOO_LONG
        fault = faults.draw(visit.arrivals, Stage.GATE) or faults.scheduled(visit.arrivals)
        if fault and fault.stage is Stage.GATE:
            return _played(fault, self.world, visit, Answer(500))
        if refusal := route.gate(self.world, visit):
            return refusal
        if (fault := faults.draw(visit.arrivals, Stage.INSIDE) or fault) is None:
            return route.answer(self.world, visit)
        right = route.answer(self.world, visit) if fault.stores else Answer(500)
        return _played(fault, self.world, visit, right)

    def _record(self, content: Opened) -> Visit:
        request, clock = content.request, self.world.clock
        now = clock.monotonic()
        # What is sent to /auth holds secrets: the request is recorded, its body is not.
        found = content.events if request.path.startswith("/platform/") else ()
        recorded = self.world.recorder.record(request.method, request.path, found, at=clock.now(), seconds=now)
        visit = Visit(content, recorded, now)
        gate.identify(self.world, visit)
        self.world.enter(recorded)
        return visit

    def _probe(self, request: Request) -> Visit:
        """A visit that leaves no trace, to ask the faults about."""
        clock = self.world.clock
        visit = Visit(
            Opened(request), [Arrival(0, 0, clock.now(), clock.monotonic(), request.method, request.path)], 0.0
        )
        gate.identify(self.world, visit)
        return visit

    def _close(self, visit: Visit, answer: Answer) -> Exchange:
        told = None if answer.wire is Wire.RESET else answer.status
        self.world.recorder.answered(visit.arrivals, told)
        self.world.lock.notify_all()
        return Exchange(answer, visit.arrivals)


def _played(fault: Fault, world: World, visit: Visit, right: Answer) -> Answer:
    for arrival in visit.arrivals:
        arrival.fault = fault.kind.value
    meant = next((arrival for arrival in visit.arrivals if fault.fits([arrival])), visit.arrivals[0])
    return fault.answer(world.options, right, meant.lead)
