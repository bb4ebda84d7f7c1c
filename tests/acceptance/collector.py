"""A collector of OpenTelemetry's traces over HTTP, as a real one would be; it keeps what it is given."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    """One span, with the service that made it."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    begun: int
    ended: int
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collected:
    """What came in."""

    url: str
    spans: list[Span] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def of(self, trace: str) -> dict[str, Span]:
        """The spans of one trace by name."""
        return {span.name: span for span in self.spans if span.trace == trace}


@contextmanager
def collector() -> Iterator[Collected]:
    """Listen on a free loopback port while the block runs."""
    collected = Collected("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            collected.texts.append(str(request))
            collected.spans += _spans(request)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collected.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collected
        server.shutdown()
        thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        services = [pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=services[0],
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    begun=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes={pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes},
                    failed=span.status.code == 2,
                )
