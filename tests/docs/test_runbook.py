"""The runbook has a page for each code of `check` and for each alert, and no other; nothing is doubled."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook"
CHECKS = sorted((ROOT / "dispatcher" / "admin" / "checks").glob("*.py"))
DYNAMIC = {"limits.account_per_minute", "limits.lead_per_day"}
"""Codes that are put together from a setting's name."""


def codes() -> Iterator[str]:
    """The first argument of each `warning(…)` and `error(…)`: findings with something to do."""
    for file in CHECKS:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="warning" | "error"), args=[ast.Constant(value=str(code)), *_]):
                    yield code


def alerts() -> set[str]:
    rules = YAML(typ="safe").load((ROOT / "docs" / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
    return {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def test_each_code_and_each_alert_has_its_page_and_each_page_its_code_or_alert() -> None:
    wanted = {*codes(), *DYNAMIC, *alerts()}
    assert len(wanted) > 30, "the search for codes finds nothing"
    pages = {page.stem for page in RUNBOOK.glob("*.md")} - {"README"}
    assert wanted - pages == set(), "write docs/runbook/<code>.md"
    assert pages - wanted == set(), "nothing leads to these pages"


def test_each_page_says_what_is_seen_why_and_what_to_do_and_is_listed() -> None:
    contents = (RUNBOOK / "README.md").read_text(encoding="utf-8")
    for page in RUNBOOK.glob("*.md"):
        if page.stem != "README":
            text = page.read_text(encoding="utf-8")
            assert text.startswith(f"# {page.stem}\n")
            for part in ("**What you see.**", "**Why.**", "**What to do.**"):
                assert part in text, page
            assert f"({page.name})" in contents, f"{page.name} is not in the list"
