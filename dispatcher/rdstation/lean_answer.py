"""One answer, taken apart by httptools (llhttp) as its bytes come in."""

from __future__ import annotations

import zlib
from typing import Any

import httptools

from dispatcher.rdstation.transport import BODY_BYTES

_MOST_HEADERS = 100
_MOST_HEADER_BYTES = 65_536
_GZIP_OR_DEFLATE = 32 + zlib.MAX_WBITS


class BrokenAnswer(Exception):
    """What came is no HTTP, or too much of it."""


class LeanAnswer:
    """Collects what the parser finds. Answers below 200 are passed over.

    Attributes:
        status: 0 until the headers have ended.
        headers: Names in lower case; repeated ones joined by commas.
        body: Up to the cap, unpacked.
        headed: The headers have ended.
        ended: The whole answer is there.
        cut: The body is longer than the cap; the rest was not read.
        surplus: More came than the answer: the connection cannot be trusted.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._start()
        self._surplus = self._alive = False

    def _start(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.headed = self.ended = self.cut = False
        self._count = self._size = 0
        self._unpack: Any = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            BrokenAnswer: They are no HTTP, or the body cannot be unpacked.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BrokenAnswer("the server switched to another protocol") from None
        except httptools.HttpParserError as error:
            cause = error.__context__
            text = str(cause) if isinstance(cause, BrokenAnswer) else "the answer is not HTTP"
            raise BrokenAnswer(text) from None

    def end_of_stream(self) -> None:
        """The server has closed the connection; for an answer without a length that is its end.

        Raises:
            ConnectionResetError: It broke off.
            BrokenAnswer: What came was not the beginning of an answer.
        """
        if self.headed and "content-length" not in self.headers and "transfer-encoding" not in self.headers:
            self.ended = True
        elif self.headed:
            raise ConnectionResetError("the answer broke off in its body")
        elif known := self._parser.get_status_code():
            raise ConnectionResetError(f"the answer broke off in its headers, after status {known}")
        else:
            raise BrokenAnswer("the connection ended before a status came")

    @property
    def keeps_alive(self) -> bool:
        """True if the connection may carry another request."""
        return self.ended and self._alive and not self.cut and not self._surplus

    # The parser calls these.

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.ended:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._count += 1
        self._size += len(name) + len(value)
        if self._count > _MOST_HEADERS or self._size > _MOST_HEADER_BYTES:
            raise BrokenAnswer("the answer has too many headers")
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """The headers have ended."""
        self.status = self._parser.get_status_code()
        self.headed = self.status >= 200
        if self.headers.get("content-encoding", "identity").lower() in {"gzip", "x-gzip", "deflate"}:
            self._unpack = zlib.decompressobj(_GZIP_OR_DEFLATE)

    def on_body(self, piece: bytes) -> None:
        """Some of the body, without the framing of chunks."""
        room = BODY_BYTES - len(self.body)
        if self._unpack is not None:
            try:
                piece = self._unpack.decompress(piece, room + 1)
            except zlib.error as error:
                raise BrokenAnswer(f"the body cannot be unpacked: {error}") from None
        self.body += piece[:room]
        self.cut |= len(piece) > room

    def on_message_complete(self) -> None:
        """The answer ends; only now does the parser know whether the connection stays."""
        if self.headed:
            self.ended, self._alive = True, self._parser.should_keep_alive()
        else:
            self._start()  # an interim answer; the real one follows
