"""What the figures were taken on: they mean little without it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

_PACKAGES = ("sqlalchemy", "psycopg", "celery", "requests", "urllib3", "httptools")


def describe() -> str:
    """One paragraph."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, {packages}; load {load}."
    )
