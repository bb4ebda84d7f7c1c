"""Which events have spans. Real: SQLite, the claim, OpenTelemetry's SDK with an exporter into memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dispatcher.clock import SystemClock
from dispatcher.outbox.engine import create_engine
from tests.contract.outbox_under_test import OutboxUnderTest, delivered, released
from workers.tracing import OtelTraces

SHOP = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def outbox(sqlite_url: str) -> Iterator[OutboxUnderTest]:
    engine = create_engine(sqlite_url)
    outbox = OutboxUnderTest(engine)
    outbox.account()
    yield outbox
    engine.dispose()


def test_what_was_tried_and_is_traced_has_spans_and_nothing_else_has(outbox: OutboxUnderTest) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = OtelTraces(provider, SystemClock())
    outbox.add(traceparent=f"00-{SHOP}-b7ad6b7169203331-01")
    outbox.add()
    claimed = outbox.claim_all()
    assert len(claimed) == 2

    traces.claimed(claimed, 0.01)
    traces.received([released(event) for event in claimed])
    assert exporter.get_finished_spans() == (), "it was given back untried"
    traces.claimed(claimed, 0.01)
    traces.received([delivered(event) for event in claimed])

    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["dispatcher.claim", "dispatcher.send", "dispatcher.attempt"]
    assert {f"{span.context.trace_id:032x}" for span in spans} == {SHOP}
