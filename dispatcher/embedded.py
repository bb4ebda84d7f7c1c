"""The file beside the SQLite file that says where the embedded broker listens. Reading it starts nothing.

It holds one port number on loopback and stays after its writer has gone; the worker that serves the broker holds a lock
on it (`workers/embedded_broker.py`).
"""

from __future__ import annotations

from pathlib import Path

HOST = "127.0.0.1"


def port_file(sqlite_path: Path) -> Path:
    """`dispatcher.db` → `dispatcher.db.broker`."""
    return sqlite_path.with_name(f"{sqlite_path.name}.broker")


def read_port(sqlite_path: Path) -> int | None:
    """The port that was chosen for this SQLite file, or None if none ever was."""
    try:
        text = port_file(sqlite_path).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and 0 < int(text) < 65536 else None


def broker_url(port: int) -> str:
    """How Celery and kombu name the embedded broker."""
    return f"redis://{HOST}:{port}/0"


def address(sqlite_path: Path) -> str | None:
    """Where bells go; None if no worker ever ran. Nobody may be listening there at the moment."""
    port = read_port(sqlite_path)
    return None if port is None else broker_url(port)
