"""Lines of a file of any size and any content, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dispatcher.errors import Problem

MAX_LINE_BYTES = 1 << 20
"""Five times what RD Station takes as a body; a longer line is reported and skipped, not read into memory."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank: its text, or why it has none."""

    number: int
    text: str | None
    problem: Problem | None = None


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """The lines that are not blank, counted from 1. A byte order mark at the start of UTF-8 is no part of them."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n"):
            _skip_rest(stream)
            yield Line(number, None, Problem("$", f"is longer than {MAX_LINE_BYTES} bytes"))
            continue
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            continue
        yield _decoded(number, raw)


def _decoded(number: int, raw: bytes) -> Line:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Line(number, None, Problem("$", "is UTF-16; save the file as UTF-8"))
    if b"\x00" in raw:
        return Line(number, None, Problem("$", "holds NUL bytes; is the file saved as UTF-8?"))
    try:
        return Line(number, raw.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        return Line(number, None, Problem("$", f"is not UTF-8 (byte {error.start + 1} of the line)"))


def _skip_rest(stream: BinaryIO) -> None:
    while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass
