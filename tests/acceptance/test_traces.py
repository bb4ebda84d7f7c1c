"""Issue 7, line 4: one order's trace, from the shop's span through enqueue, claim and send.

Real: a shop in a process of its own with OpenTelemetry's SDK, the worker, OTLP over HTTP. Doubled: the collector.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.outbox.tables import events
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.collector import Collected, collector
from tests.acceptance.corners import EMBEDDED, REDIS
from tests.acceptance.fleet import Fleet, Shop, eventually, order

SHOP = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from sqlalchemy.orm import Session
from dispatcher import OrderPlaced, enqueue
from dispatcher.outbox.engine import create_engine

provider = TracerProvider(resource=Resource({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
engine = create_engine(sys.argv[1])
event = OrderPlaced(email=sys.argv[2], cf_order_id="traced", cf_order_total_items=1, cf_order_status="paid",
                    cf_order_payment_method="Others", cf_order_payment_amount=2.5)
with trace.get_tracer("shop").start_as_current_span("POST /orders") as span:
    with Session(engine) as session, session.begin():
        enqueue(session, event)
print(format(span.get_span_context().trace_id, "032x"))
engine.dispose()
"""


def place_a_traced_order(fleet: Fleet, email: str) -> str:
    """In the shop's own process; answers the trace's id."""
    command = [sys.executable, "-c", SHOP, fleet.settings["DATABASE_URL"], email]
    done = subprocess.run(
        command, env=fleet.environment(), cwd=fleet.directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    with collector() as collected:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.url)
        yield collected


@pytest.mark.parametrize("corner", [EMBEDDED, REDIS], indirect=True)
def test_one_trace_runs_from_the_shop_s_request_to_rd_station_s_answer(
    corner: tuple[Shop, Fleet], sandbox: Sandbox, collected: Collected
) -> None:
    shop, fleet = corner
    sandbox.break_with(Fault(FaultKind.STATUS, status=503))
    trace = place_a_traced_order(fleet, "ana@shop.example")
    shop.place([order(1)])  # by a shop that does not trace
    worker = fleet.start(traces="otlp")
    shop.wait_delivered(2)
    worker.end()

    def attempts() -> list[str]:
        return [str(s.attributes["dispatcher.verdict"]) for s in collected.spans if s.name == "dispatcher.attempt"]

    eventually("both attempts are told", lambda: len(attempts()) == 2, told=attempts)
    assert {span.trace for span in collected.spans} == {trace}, "who does not trace is not traced"
    root, entered = (collected.of(trace)[name] for name in ("POST /orders", "dispatcher.enqueue"))
    assert (root.service, root.parent, entered.parent) == ("shop", "", root.id)
    tries = sorted((s for s in collected.spans if s.name == "dispatcher.attempt"), key=lambda span: span.begun)
    assert [(t.attributes["dispatcher.verdict"], t.failed) for t in tries] == [
        ("unavailable", True),
        ("delivered", False),
    ]
    for made, status in zip(tries, (503, 200), strict=True):
        assert (made.service, made.parent) == ("rdstation-dispatcher", entered.id)
        claim, send = (
            next(s for s in collected.spans if s.name == name and s.parent == made.id)
            for name in ("dispatcher.claim", "dispatcher.send")
        )
        assert send.attributes["http.response.status_code"] == status
        assert root.begun <= entered.begun <= claim.begun <= claim.ended <= send.begun <= send.ended <= made.ended
    told = "\n".join(collected.texts)
    assert "ana@" not in told
    assert "cf_order" not in told


def test_a_shop_that_does_not_trace_writes_no_trace_and_loads_nothing_for_it(shop: Shop) -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None\n"  # any import of it would raise
        "from dispatcher import OrderPlaced, enqueue\n"
        "from dispatcher.outbox.engine import create_engine\n"
        "engine = create_engine(sys.argv[1])\n"
        "with engine.begin() as connection:\n"
        "    enqueue(connection, OrderPlaced(**OrderPlaced.EXAMPLE))\n"
        "engine.dispose()\n"
    )
    url = shop.engine.url.render_as_string(hide_password=False)
    subprocess.run([sys.executable, "-c", script, url], check=True, cwd=Path(__file__).parents[2])
    assert [row["traceparent"] for row in shop.rows(events)] == [None]
