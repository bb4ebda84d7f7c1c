"""One thing that `check` has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but worse or otherwise than somebody may believe."""
    ERROR = "error"
    """Nothing is delivered until it is fixed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about the installation.

    Attributes:
        code: A stable word for scripts and the runbook: `schema.missing`.
        level: How bad it is.
        message: One sentence; no secret.
        fix: What to do; empty if there is nothing to do.
    """

    code: str
    level: Level
    message: str
    fix: str = ""


def ok(code: str, message: str) -> Finding:
    """Nothing to do."""
    return Finding(code, Level.OK, message)


def warning(code: str, message: str, fix: str) -> Finding:
    """Worth knowing."""
    return Finding(code, Level.WARNING, message, fix)


def error(code: str, message: str, fix: str) -> Finding:
    """To be fixed."""
    return Finding(code, Level.ERROR, message, fix)
