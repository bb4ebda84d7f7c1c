"""`sink.c` in Python, for machines without a C compiler: the same requests, the same answers, many times the CPU."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import sys
import time
from dataclasses import dataclass, field

_IDENTIFIER = re.compile(rb'"identifier": ?"(\d+)')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_DELAY = re.compile(rb"delay_ms=(\d+)")


@dataclass
class _Received:
    events: int = 0
    unnamed: int = 0
    arrivals: dict[int, int] = field(default_factory=dict)
    first: int = 0
    last: int = 0
    running: int = 0
    most_running: int = 0


class _Endpoint(asyncio.Protocol):
    received = _Received()
    delay = 0.0

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, rest = self._data.partition(b"\r\n\r\n")
            named = _LENGTH.search(head)
            length = int(named[1]) if named else 0
            if len(rest) < length:
                return
            self._data = rest[length:]
            if head.startswith(b"POST /platform/events"):
                self._event(rest[:length])
            else:
                self._control(head)

    def _event(self, body: bytes) -> None:
        seen, at = self.received, time.time_ns()
        seen.events += 1
        seen.first, seen.last = seen.first or at, at
        named = _IDENTIFIER.search(body)
        if named:
            seen.arrivals.setdefault(int(named[1]), at)
        else:
            seen.unnamed += 1
        seen.running += 1
        seen.most_running = max(seen.most_running, seen.running)
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._accept)
        else:
            self._accept()

    def _accept(self) -> None:
        self.received.running -= 1
        self._reply(b'{"event_uuid":"5fac8a57-0000-4000-a000-000000000000"}')

    def _control(self, head: bytes) -> None:
        seen = self.received
        if head.startswith(b"POST /reset"):
            delay = _DELAY.search(head)
            _Endpoint.delay = int(delay[1]) / 1000 if delay else self.delay
            _Endpoint.received = _Received()
            self._reply(b"{}")
        elif head.startswith(b"GET /arrivals"):
            at = [seen.arrivals.get(number, 0) for number in range(max(seen.arrivals, default=-1) + 1)]
            self._reply(struct.pack(f"={len(at)}q", *at))
        else:
            counts = {
                "events": seen.events,
                "distinct": len(seen.arrivals),
                "unnamed": seen.unnamed,
                "first_ns": seen.first,
                "last_ns": seen.last,
                "most_running": seen.most_running,
                "cpu_seconds": time.process_time(),
            }
            self._reply(json.dumps(counts).encode())

    def _reply(self, body: bytes) -> None:
        if not self._transport.is_closing():
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Endpoint, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - `sink.py` reads the port
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(_main())
