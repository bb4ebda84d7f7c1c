"""What tracing may cost a shop: nothing but the trace. Doubled: OpenTelemetry's module, as a thread meets it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

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
