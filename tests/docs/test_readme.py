"""README, CONTRIBUTING and docs/ say what is true: code runs, links lead somewhere, commands and settings exist.

Real: the pages, the command tree, the settings, SQLite, the code blocks in a process of their own. Doubled: nothing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from dispatcher.admin.cli import app
from dispatcher.outbox import queries, schema
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.queries import Criteria
from dispatcher.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"(?ms)^```python\n(.*?)^```$", page.read_text(encoding="utf-8"))


def code_in(text: str) -> Iterator[str]:
    """Every code span, and every line of every block, without comments."""
    for block in re.findall(r"(?ms)^```\w*\n(.*?)^```$|((?:^    .*\n?)+)", text):
        yield from (line.partition(" # ")[0].strip() for line in "".join(block).splitlines())
    yield from (span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text))


def commands_in(text: str) -> list[str]:
    return sorted({code for code in code_in(text) if re.match(r"dispatcher [a-z|]", code)})


def why_not(line: str) -> str | None:
    """Why a command line cannot work; None if the command tree has it, with all its options."""
    words = [word for word in shlex.split(line)[1:] if word not in ("…", "&")]
    command: Any = typer.main.get_command(app)  # typer carries a click of its own, without public types
    while hasattr(command, "commands"):
        if not words:
            return "names a group without a command"
        name = words.pop(0)
        found = command.commands.get(name)
        if found is None:
            return f"there is no {name!r}"
        command = found
        if hasattr(command, "commands") and not words:
            return None  # a group may be named as a whole
    if command.context_settings.get("ignore_unknown_options"):  # the rest is for Celery
        return None
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in words if word.startswith("-") and word != "-" and word not in known]
    return f"has no {', '.join(unknown)}" if unknown else None


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", text)
    }


def test_the_code_of_the_readme_runs_as_it_stands_and_does_what_it_says(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'dispatcher.db'}")
    schema.upgrade(engine)
    script = "\n".join(python_blocks(ROOT / "README.md"))

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=False, capture_output=True, text=True
    )

    views = list(queries.list_events(engine, Criteria()))
    events = {view.key: (view.state, view.reason) for view in views}
    due = {view.key: view.available_at for view in views}
    engine.dispose()
    assert done.stderr == ""
    assert done.stdout == "ECOMMERCE_ORDER_PLACED:PED-1001 True\n"
    assert events == {
        "ECOMMERCE_ORDER_PLACED:PED-1001": ("pending", None),
        "ECOMMERCE_CART_ABANDONED:CART-77": ("pending", None),
    }
    assert due["ECOMMERCE_CART_ABANDONED:CART-77"] - due["ECOMMERCE_ORDER_PLACED:PED-1001"] > timedelta(minutes=29)


def test_using_it_in_an_app_takes_twenty_lines() -> None:
    first = python_blocks(ROOT / "README.md")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 20


@EVERY_PAGE
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            broken.append(link)
    assert broken == []


@EVERY_PAGE
def test_every_command_that_is_named_exists(page: Path) -> None:
    wrong = {line: why for line in commands_in(page.read_text(encoding="utf-8")) if (why := why_not(line))}
    assert wrong == {}


@EVERY_PAGE
def test_every_setting_and_make_target_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    settings = set(re.findall(rf"\b{PREFIX}([A-Z_]*[A-Z])\b", text))
    targets = {
        target for code in code_in(text) if (found := re.match(r"make ([a-z ]+)$", code)) for target in found[1].split()
    }

    assert {name for name in settings if not name.startswith("TEST_")} - {
        name.upper() for name in Settings.model_fields
    } == set()
    assert targets - set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))) == set()


def test_the_readme_names_the_commands_that_an_operator_needs_and_these_tests_see_them() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {line.split()[1] for line in commands_in(text)}
    assert {"migrate", "worker", "check", "status", "list", "show", "dead", "pause", "enqueue"} <= named
    assert why_not("dispatcher undo") == "there is no 'undo'"
    assert why_not("dispatcher status --jsno") == "has no --jsno"


def test_what_the_readme_calls_not_built_yet_is_not_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.search(r"Not built yet:\*\* the commands? (.+?);", text, re.DOTALL)
    for command in re.findall(r"`(\w+)`", named[1]) if named else ():
        assert why_not(f"dispatcher {command}") == f"there is no {command!r}", "built: tell the README"


@EVERY_PAGE
def test_a_page_names_no_package_registry_and_no_path_of_a_machine(page: Path) -> None:
    assert re.findall(r"pypi|/home/|/root/|/Users/|/tmp/|/work/", page.read_text(encoding="utf-8"), re.IGNORECASE) == []
