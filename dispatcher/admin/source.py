"""A file that a command reads: one that is named, or what comes in at stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import typer


@contextmanager
def opened_source(file: str) -> Iterator[BinaryIO]:
    """The bytes of a file, or of stdin for `-`, which stays open.

    Raises:
        typer.BadParameter: It cannot be opened. What goes wrong later is not the name's fault, and is raised as it is.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below; here only the opening may fail
    except OSError as error:
        raise typer.BadParameter(f"{error.strerror}: {file}", param_hint="FILE") from None
    with stream:
        yield stream
