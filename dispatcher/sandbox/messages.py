"""What comes in and what goes out, between the sockets and the provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl

JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def parameters(self) -> dict[str, str]:
        """The query string, the last of equal names."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def content_type(self) -> str:
        """The media type without its parameters, lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def bearer(self) -> str | None:
        """The access token, or None if none was sent."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


class Wire(Enum):
    """How an answer goes onto the wire."""

    WHOLE = "whole"
    RESET = "reset"
    """Not at all: the connection is reset."""
    CUT_IN_STATUS = "cut_in_status"
    CUT_IN_HEADERS = "cut_in_headers"
    """After the status line: many clients take that for a 200 without a body."""
    CUT_IN_BODY = "cut_in_body"
    DRIBBLE = "dribble"
    """Byte by byte, over `wait_seconds`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: The HTTP status.
        body: The bytes.
        headers: Beyond content type and length.
        content_type: None if there is none.
        wire: How it is sent.
        wait_seconds: How long to wait before (or, dribbling, while) sending; infinite means until the client leaves.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str | None = JSON
    wire: Wire = Wire.WHOLE
    wait_seconds: float = 0.0


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_answer(status: int, body: object, *headers: tuple[str, str]) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, _compact(body).encode(), headers)


class Unreadable(Exception):
    """The bytes are no JSON that RD Station could parse."""


_parse = json.JSONDecoder(parse_constant=lambda _: (_ for _ in ()).throw(Unreadable())).decode


def read_json(body: bytes) -> object:
    """Parse strictly: UTF-8, no NaN or Infinity, no lone surrogates, no bottomless nesting.

    Raises:
        Unreadable: It is none of that.
    """
    try:
        text = body.decode()
        parsed: object = _parse(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError, UnicodeError) as mistake:
        raise Unreadable from mistake
    return parsed


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose body was read once: the JSON, or the fact that there is none."""

    request: Request
    parsed: object = None
    readable: bool = False
    events: tuple[object, ...] = ()
    """The candidates for events in it, as they came: one, or a batch's elements."""


def opened(request: Request) -> Opened:
    """Read the body if it claims to be JSON or says nothing."""
    if not request.body or request.content_type == "application/x-www-form-urlencoded":
        return Opened(request)
    try:
        parsed = read_json(request.body)
    except Unreadable:
        return Opened(request)
    return Opened(request, parsed, True, tuple(parsed) if isinstance(parsed, list) else (parsed,))
