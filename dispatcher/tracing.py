"""The shop's trace across the outbox: `enqueue` notes in the row which trace it belongs to; the workers go on with it.

Nothing here imports OpenTelemetry. A shop that traces has loaded its API before it enqueues; one that does not pays a
look into a dictionary, and the column stays NULL. `workers/tracing.py` is the other end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final

NAME: Final = "dispatcher"
"""Of our tracer, and the first part of all our span names and attributes."""

_OFF: Final[AbstractContextManager[str | None]] = nullcontext()


def enqueueing(account: str) -> AbstractContextManager[str | None]:
    """A span around an enqueue; gives the W3C `traceparent` that belongs into the row, None if nobody records it."""
    api = sys.modules.get("opentelemetry.trace")
    return _OFF if api is None or _nobody_listens(api) else _span(api, account)


def _nobody_listens(api: Any) -> bool:
    """True if the API is there without an SDK, as redis' client brings it, and no trace came in from elsewhere."""
    try:
        if not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):
            return False
        return not api.get_current_span().get_span_context().is_valid
    except Exception:  # noqa: BLE001 - half imported, see below
        return False


@contextmanager
def _span(api: Any, account: str) -> Iterator[str | None]:
    with ExitStack() as stack:
        try:
            traceparent = _started(api, account, stack)
        except Exception:  # noqa: BLE001 - half imported by another thread, or an SDK that fails: no reason to lose an order
            traceparent = None
        yield traceparent


def _started(api: Any, account: str, stack: ExitStack) -> str | None:
    span = stack.enter_context(
        api.get_tracer(NAME).start_as_current_span(
            f"{NAME}.enqueue",
            kind=api.SpanKind.PRODUCER,
            attributes={f"{NAME}.account": account},
            record_exception=False,  # with its traceback, which may quote what the shop had in its hands
            set_status_on_exception=False,
        )
    )
    context = span.get_span_context()
    recorded = context.is_valid and context.trace_flags.sampled
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01" if recorded else None
