"""How the processes write their logs: text for people, JSON for machines."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog


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
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # quotes malformed headers: they may hold an e-mail
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # a line for each bell says nothing


def _fields(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bring a record's event name and fields (dispatcher.telemetry) into the line."""
    record: logging.LogRecord | None = line.get("_record")
    if record is not None and hasattr(record, "event_name"):
        line["event"] = record.event_name
        line.update({name: value for name, value in record.__dict__["fields"].items() if value is not None})
    elif record is not None:
        line["logger"] = record.name
    return line
