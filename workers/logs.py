"""How the processes write their logs: text for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

_APART = frozenset(" \t\r\n=\"'")


def configure(log_format: str, *, level: int = logging.INFO) -> None:
    """Send every record of this process to standard error, in one format."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _fields,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter if sys.stderr.isatty() else _Lines(formatter, as_json=log_format == "json"))
    # No line says which thread or process wrote it, and finding that out is a quarter of making a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # quotes malformed headers: they may hold an e-mail
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # a line for each bell says nothing


class _Lines(logging.Formatter):
    """Writes the dispatcher's own events, one for each attempt, and leaves every other record to `others`.

    The lines are those of `others`, for a fifth of its CPU (10 us against 56 us).
    """

    def __init__(self, others: logging.Formatter, *, as_json: bool) -> None:
        super().__init__()
        self._others = others
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        name = getattr(record, "event_name", None)
        if name is None or record.exc_info:
            return self._others.format(record)
        fields = {field: value for field, value in record.__dict__["fields"].items() if value is not None}
        level = record.levelname.lower()
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if self._as_json:
            return json.dumps({**fields, "event": name, "level": level, "timestamp": at}, default=repr)
        shown = " ".join(f"{field}={_shown(fields[field])}" for field in sorted(fields))
        return f"{at} [{level:<9}] {name:<30} {shown}".rstrip()


def _shown(value: object) -> str:
    return value if isinstance(value, str) and not _APART.intersection(value) else repr(value)


def _fields(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bring a record's event name and fields (dispatcher.telemetry) into the line."""
    record: logging.LogRecord | None = line.get("_record")
    if record is not None and hasattr(record, "event_name"):
        line["event"] = record.event_name
        line.update({name: value for name, value in record.__dict__["fields"].items() if value is not None})
    elif record is not None:
        line["logger"] = record.name
    return line
