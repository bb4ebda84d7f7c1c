"""Writes docs/settings.md from the model: `.venv/bin/python docs/_generate/settings.py`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from dispatcher.settings import PREFIX, Settings

PAGE = Path(__file__).parent.parent / "settings.md"

_HEAD = """\
# Settings

Read from the environment, or from a file `.env` in the working directory; the environment wins. An empty value counts
as unset. `dispatcher check` reports every refused value, and variables that look like a setting but are none.

This page is generated from `dispatcher/settings.py`; write it anew with `make docs`.

| variable | default | meaning |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = (f"| `{PREFIX}{name.upper()}` | {_default(field)} | {_meaning(field)} |" for name, field in _fields())
    return _HEAD + "\n".join(rows) + "\n"


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if field.default_factory is not None:
        return f"`{Settings().http_total_seconds:g}`"
    if value is None or value == ():
        return "unset"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _meaning(field: FieldInfo) -> str:
    words = [arg for arg in get_args(field.annotation) if isinstance(arg, str)]
    choice = f" One of {', '.join(f'`{word}`' for word in words)}." if words else ""
    return f"{field.description}{choice}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
