"""docs/sandbox.md names every switch, fault and endpoint it promises, and its examples run."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from dispatcher.sandbox import FaultKind, Options, Sandbox
from dispatcher.sandbox.control import ENDPOINTS

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def rows(heading: str) -> dict[str, str]:
    """First to second column of the table below a heading."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"(?m)^\| `([a-z0-9_]+)` \| (.*?) \|", table))


def test_every_switch_is_listed_with_its_default_first_and_every_other_value() -> None:
    hints = get_type_hints(Options)
    listed = rows("Switches")
    assert list(listed) == [field.name for field in fields(Options)]
    for field in fields(Options):
        values = [str(field.default)]
        if get_origin(hints[field.name]) is Literal:
            values = sorted(get_args(hints[field.name]), key=lambda value: value != field.default)
        elif hints[field.name] is bool:
            values = [str(field.default), str(not field.default)]
        assert listed[field.name] == ", ".join(f"`{value}`" for value in values)


def test_every_fault_is_listed() -> None:
    assert list(rows("Faults")) == list(FaultKind)


def test_every_endpoint_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(GET|POST) (/sandbox/[a-z/]+)`", PAGE)
    assert len(named) >= 5
    assert set(named) <= set(ENDPOINTS)


def test_the_example_in_a_process_runs() -> None:
    (example,) = [code for code in EXAMPLES if "sandbox.others_send" in code]
    played: dict[str, object] = {}
    exec(example, played)  # noqa: S102 - the page's own code
    sandbox = played["sandbox"]
    assert isinstance(sandbox, Sandbox)
    assert sandbox.options.account_per_minute == 500
    assert sandbox.waiting_faults[0].kind is FaultKind.HTML


@pytest.mark.timeout(180)
def test_the_pytest_fixture_works_as_the_page_shows_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # as in an activated environment
    conftest, test = (code for code in EXAMPLES if "pytest_plugins" in code or "rd_sandbox, worker" in code)
    pytester.makeconftest(conftest)
    pytester.makepyfile(test)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
