"""The sandbox as a pytest fixture: `pytest_plugins = ["dispatcher.sandbox.pytest_plugin"]` in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dispatcher.sandbox.sandbox import Sandbox


@pytest.fixture
def rd_sandbox() -> Iterator[Sandbox]:
    """A running sandbox of its own for each test; `rd_sandbox.url` goes into DISPATCHER_RD_BASE_URL."""
    with Sandbox() as sandbox:
        yield sandbox
