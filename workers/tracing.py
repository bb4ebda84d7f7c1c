"""The workers' part of a shop's trace: claim and send, as spans below the enqueue. The only file that knows the SDK.

Spans are made after the fact, from moments that were noted on the way, and only for events whose row names a trace.
They hold ids, types and verdicts; nothing of the payload, and nothing of it is told to RD Station.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from dispatcher.clock import Clock
from dispatcher.errors import ConfigurationError
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.transitions import Held
from dispatcher.policy.verdicts import Verdict
from dispatcher.tracing import NAME

if TYPE_CHECKING:  # the extra `otel` need not be installed
    from opentelemetry.sdk.trace import TracerProvider

_SERVICE = "rdstation-dispatcher"
_FLUSH_SECONDS = 2.0
_NANO = 1_000_000_000
_MOST_CLAIMS = 10_000


class Traces(Protocol):
    """What a drain tells about the events on their way."""

    def claimed(self, events: Sequence[Claimed], seconds: float) -> None:
        """These were claimed just now, in a transaction that took so long."""
        ...

    def received(self, settlements: Sequence[Settlement]) -> None:
        """These came back from a sender just now, each with how long its request took."""
        ...

    def close(self) -> None:
        """The process ends: hand on what has been collected."""
        ...


class NoTraces:
    """Tracing is off."""

    def claimed(self, events: Sequence[Claimed], seconds: float) -> None:
        """See `Traces`."""

    def received(self, settlements: Sequence[Settlement]) -> None:
        """See `Traces`."""

    def close(self) -> None:
        """See `Traces`."""


class OtelTraces:
    """Spans by OpenTelemetry. Used by the coordinating thread of one drain.

    Args:
        provider: Where spans go.
        clock: For their moments.
    """

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(NAME)
        self._clock = clock
        self._claims: dict[Held, tuple[Claimed, int, int]] = {}

    def claimed(self, events: Sequence[Claimed], seconds: float) -> None:
        """See `Traces`. Forgets claims that nothing came of: their worker's other half had a bug, and said so."""
        now = self._now()
        if len(self._claims) > _MOST_CLAIMS:
            self._claims.clear()
        for event in events:
            if event.traceparent is not None:
                self._claims[event.held] = (event, now - int(seconds * _NANO), now)

    def received(self, settlements: Sequence[Settlement]) -> None:
        """See `Traces`. What was given back untried has no span: nothing happened to it."""
        now = self._now()
        for settlement in settlements:
            claim = self._claims.pop(settlement.held, None)
            if claim is not None and settlement.verdict is not Verdict.RELEASED:
                self._write(*claim, now, settlement)

    def close(self) -> None:
        """See `Traces`. A collector that does not answer holds up no shutdown."""
        flushing = threading.Thread(target=self._provider.force_flush, daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)

    def _now(self) -> int:
        return int(self._clock.now().timestamp() * _NANO)

    def _write(self, event: Claimed, begun: int, claimed: int, ended: int, settlement: Settlement) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context  # see above
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        outcome = settlement.outcome
        sent = max(claimed, ended - int(_NANO * outcome.seconds)) if outcome else claimed
        attempt = self._tracer.start_span(
            f"{NAME}.attempt",
            context=TraceContextTextMapPropagator().extract({"traceparent": event.traceparent or ""}),
            kind=SpanKind.CONSUMER,
            start_time=begun,
            attributes={
                f"{NAME}.account": event.account,
                f"{NAME}.event_id": str(event.event_id),
                f"{NAME}.event_type": event.event_type,
                f"{NAME}.attempt": event.attempt,
                f"{NAME}.verdict": settlement.verdict.value,
                f"{NAME}.decision": type(settlement.decision).__name__.lower(),
            },
        )
        inside = set_span_in_context(attempt)
        self._tracer.start_span(f"{NAME}.claim", context=inside, start_time=begun).end(claimed)
        request = self._tracer.start_span(f"{NAME}.send", context=inside, kind=SpanKind.CLIENT, start_time=sent)
        request.set_attribute("http.request.method", "POST")
        if outcome is not None and outcome.status is not None:
            request.set_attribute("http.response.status_code", outcome.status)
        if settlement.verdict is not Verdict.DELIVERED:
            for span in (attempt, request):
                span.set_status(StatusCode.ERROR, settlement.verdict.value)
        request.end(ended)
        attempt.end(ended)


def require_extra(where: str) -> None:
    """Refuse to start what could not trace.

    Raises:
        ConfigurationError: Traces are wanted, and the extra `otel` is not installed.
    """
    if where != "off" and (find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp") is None):
        raise ConfigurationError(
            f"DISPATCHER_TRACES={where} needs OpenTelemetry: pip install 'rdstation-dispatcher[otel]'"
        )


def make_traces(where: str, clock: Clock) -> Traces:
    """Traces as the setting `TRACES` says; the exporter follows OpenTelemetry's own `OTEL_…` variables."""
    if where == "off":
        return NoTraces()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # see above
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):  # nobody named it otherwise
        resource = resource.merge(Resource({SERVICE_NAME: _SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTraces(provider, clock)
