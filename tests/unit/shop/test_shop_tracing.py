"""What tracing may cost a shop: nothing but the trace. Doubled: OpenTelemetry's module, in several states."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from dispatcher import tracing

API = "opentelemetry.trace"


def half_imported() -> ModuleType:
    """As it stands in `sys.modules` while another thread, such as the one that rings the first bell, imports it."""
    return ModuleType(API)


def failing() -> SimpleNamespace:
    """An SDK that cannot start a span."""

    def get_tracer(_name: str) -> object:
        raise RuntimeError("no provider")

    return SimpleNamespace(get_tracer=get_tracer)


@pytest.mark.parametrize("make", [half_imported, failing])
def test_an_api_that_cannot_be_used_costs_the_trace_and_not_the_order(
    make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(make)
    monkeypatch.setitem(sys.modules, API, make())
    with tracing.enqueueing("default") as traceparent:
        assert traceparent is None


def test_an_error_of_the_shop_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, API, half_imported())
    with pytest.raises(ZeroDivisionError), tracing.enqueueing("default"):
        raise ZeroDivisionError


def recording(sampler: Sampler) -> tuple[SimpleNamespace, InMemorySpanExporter]:
    """The API with a real SDK of this test's own behind it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return SimpleNamespace(get_tracer=provider.get_tracer, SpanKind=trace.SpanKind), exporter


def test_a_span_quotes_no_error_of_the_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    api, exporter = recording(ALWAYS_ON)
    monkeypatch.setitem(sys.modules, API, api)
    with pytest.raises(ValueError, match="ana@"), tracing.enqueueing("default") as traceparent:
        raise ValueError("ana@shop.example")
    (span,) = exporter.get_finished_spans()
    assert traceparent == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert "ana@" not in span.to_json()


def test_what_nobody_records_is_not_noted_in_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    api, exporter = recording(ALWAYS_OFF)
    monkeypatch.setitem(sys.modules, API, api)
    with tracing.enqueueing("default") as traceparent:
        assert traceparent is None
    assert exporter.get_finished_spans() == ()


def without_an_sdk() -> SimpleNamespace:
    """The API as it is where nobody has set it up, and no tracer to be asked for."""
    return SimpleNamespace(
        get_tracer_provider=trace.ProxyTracerProvider,
        ProxyTracerProvider=trace.ProxyTracerProvider,
        get_current_span=trace.get_current_span,
    )


def test_where_there_is_no_sdk_no_tracer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    api = without_an_sdk()
    api.get_tracer = asked.append
    monkeypatch.setitem(sys.modules, API, api)
    with tracing.enqueueing("default") as traceparent:
        assert traceparent is None
    assert asked == []


def test_a_trace_that_came_in_goes_on_without_an_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    api = without_an_sdk()
    api.get_tracer, api.SpanKind = trace.NoOpTracerProvider().get_tracer, trace.SpanKind
    monkeypatch.setitem(sys.modules, API, api)
    caller = trace.SpanContext(0xC0FFEE, 0xBEEF, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(caller)), tracing.enqueueing("default") as traceparent:
        assert traceparent == f"00-{0xC0FFEE:032x}-{0xBEEF:016x}-01"
