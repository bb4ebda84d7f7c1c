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
    "opentelemetry", "prometheus_client", "sqlalchemy.ext.asyncio", "sqlite3", "typer", "urllib3",
    "pydantic.plugin._loader",  # comes with the first schema that is built; each takes milliseconds
}  # fmt: skip
LIBRARIES = {
    "annotated_types", "greenlet", "pydantic", "pydantic_core", "sqlalchemy", "typing_extensions", "typing_inspection",
    "uuid6",
}  # fmt: skip
OURS = {
    "": {"bell", "clock", "embedded", "errors", "events", "lifecycle", "meters", "outbox", "policy", "shop",
         "telemetry", "tracing"},
    "bell": {"background", "courier", "kombu_publisher", "message", "publisher"},
    "events": {"catalogue", "conversation", "conversion", "ecommerce", "envelope", "event", "fields", "fingerprint",
               "funnel", "keys", "lead", "media", "parts", "problems", "retired", "rules", "succession", "supersede"},
    "outbox": {"among", "at_rest", "cancel", "columns", "dialect_insert", "each", "engine", "enqueue", "insertion",
               "installed", "intake", "ledger", "moment", "ringing", "sealing", "tables", "transitions", "unsure",
               "wake"},
    "policy": {"verdicts"},
}  # fmt: skip
"""What a shop's process needs of us. What delivers, judges and operates belongs to the workers."""


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


def test_importing_us_loads_of_our_own_what_a_shop_needs() -> None:
    allowed = {"dispatcher." + (f"{package}.{name}" if package else name) for package in OURS for name in OURS[package]}
    script = "import dispatcher, sys; print(*(name for name in sys.modules if name.startswith('dispatcher.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) == allowed, "each module costs every process of every shop; is it needed there?"


def test_importing_us_loads_of_other_libraries_what_a_shop_needs() -> None:
    script = """if True:
        import sys
        before = set(sys.modules)  # this environment's own, such as an editable install or coverage
        import dispatcher
        files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
        print(*{name.partition(".")[0] for name in files.keys() - before if "site-packages" in files[name]})
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) <= LIBRARIES


def test_importing_us_starts_no_thread() -> None:
    script = "import dispatcher, threading; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "1\n"
