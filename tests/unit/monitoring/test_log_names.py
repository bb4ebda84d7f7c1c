"""Every name that is logged is listed in `dispatcher.telemetry`, and every listed one is logged somewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dispatcher.meters import _OF_EVENTS, _STEP_OF
from dispatcher.telemetry import EVENTS

ROOT = Path(__file__).parents[3]


def logged() -> Iterator[str]:
    """The name in each `telemetry.emit(name, …)`, and in each `Notice(account, name, …)`, which the drain emits."""
    for file in [*(ROOT / "dispatcher").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="emit"), args=[ast.Constant(value=str(name)), *_]):
                    yield name
                case ast.Call(func=ast.Name(id="Notice"), args=[_, ast.Constant(value=str(name)), *_]):
                    yield name


def test_what_is_logged_is_listed_and_what_is_listed_is_logged() -> None:
    assert set(logged()) == set(EVENTS)


def test_what_is_counted_by_its_log_line_is_logged() -> None:
    assert {*_OF_EVENTS, *_STEP_OF} <= set(EVENTS)
