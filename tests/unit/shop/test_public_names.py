"""What `import dispatcher` gives, and what it costs. Doubles nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import dispatcher
from dispatcher.events import CATALOGUE

FIXED = {
    "CARTS_OF_LEAD",
    "__version__",
    "DispatcherError",
    "IdempotencyConflict",
    "InvalidEvent",
    "NotMigrated",
    "Receipt",
    "Supersede",
    "SupersedeByLead",
    "cancel",
    "cancel_async",
    "connect",
    "declare_supersede",
    "enqueue",
    "enqueue_async",
    "enqueue_many",
    "parse_event",
    "prepare_sqlite",
}
PARTS = {"LegalBasis", "LineItem"}
HEAVY = {
    "alembic", "celery", "cryptography", "kombu", "pydantic_settings", "redis", "requests", "rich",
    "opentelemetry", "prometheus_client", "sqlalchemy.ext.asyncio", "typer", "urllib3",
}  # fmt: skip


def test_the_public_names_are_those_of_the_design() -> None:
    types = {kind.__name__ for kind in CATALOGUE.values()}
    assert set(dispatcher.__all__) == FIXED | PARTS | types
    assert dispatcher.__all__ == sorted(dispatcher.__all__)
    assert all(hasattr(dispatcher, name) for name in dispatcher.__all__)


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert dispatcher.__version__ == project["version"]


def test_importing_us_loads_nothing_heavy() -> None:
    script = f"import dispatcher, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_importing_us_starts_no_thread() -> None:
    script = "import dispatcher, threading; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n"
