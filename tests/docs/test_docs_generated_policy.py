"""The pages generated from the life cycle and the policy. Real: generators, pages, code. Doubled: nothing."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from dispatcher.lifecycle import TRANSITIONS, State
from dispatcher.policy.verdicts import Verdict

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generated(name: str) -> str:
    page = runpy.run_path(str(DOCS / "_generate" / f"{name}.py"))["page"]()
    assert isinstance(page, str)
    return page


@pytest.mark.parametrize("name", ["lifecycle", "verdicts"])
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    committed = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert committed == generated(name), f"run docs/_generate/{name}.py with the project's Python and commit"


def test_the_page_of_verdicts_shows_each_of_them() -> None:
    assert [verdict for verdict in Verdict if f"| `{verdict}` |" not in generated("verdicts")] == []


def test_the_diagram_has_an_arrow_for_every_way_between_states() -> None:
    diagram = generated("lifecycle").split("```")[1]
    missing = [
        (source, each.name, each.target)
        for each in TRANSITIONS
        for source in State
        if source in each.sources
        and not any(
            line.strip().startswith(f"{source} --> {each.target}: ") and each.name in line
            for line in diagram.splitlines()
        )
    ]
    assert missing == []
