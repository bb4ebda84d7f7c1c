"""Standard output and standard error: one JSON document, or text for people; colours only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dispatcher.admin.moments import iso

_PIPED_WIDTH = 240  # a file or a pipe has no width; keys must not be cut there


def print_json(document: object) -> None:
    """One JSON document; moments in ISO 8601 UTC with Z, UUIDs as text, ASCII only so that every terminal takes it."""
    sys.stdout.write(json.dumps(document, default=_plain, indent=2) + "\n")


def print_json_array(items: Iterable[object]) -> None:
    """One JSON array, written item by item, however many there are."""
    sys.stdout.write("[")
    separator = "\n"
    for item in items:
        sys.stdout.write(separator + json.dumps(item, default=_plain))
        separator = ",\n"
    sys.stdout.write("]\n" if separator == "\n" else "\n]\n")


def json_line(document: object) -> str:
    """A JSON document on one line."""
    return json.dumps(document, default=_plain)


def print_text(*parts: str | Table) -> None:
    """Lines and tables for people. Text may carry rich's markup; pass what comes from outside through `safe`."""
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if terminal else _PIPED_WIDTH)
    for part in parts:
        if isinstance(part, str):
            console.print(part, soft_wrap=True)
        else:
            console.print(part)


def note(text: str) -> None:
    """A line on standard error."""
    typer.echo(safe_plain(text), err=True)


def safe(text: object) -> str:
    """Foreign text for a table: no markup and no control characters take effect."""
    return escape(safe_plain(str(text)))


def safe_plain(text: str) -> str:
    """Foreign text without characters that a terminal would obey."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def may_ask() -> bool:
    """True if somebody sits there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def progress_line(text: str) -> None:
    """A line on standard error that the next one writes over; only on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _plain(value: Any) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")
