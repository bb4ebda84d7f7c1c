"""The generated pages of docs/ say what the code says. Nothing is doubled: the generators run."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

GENERATORS = sorted((Path(__file__).parents[2] / "docs" / "_generate").glob("*.py"))


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_a_generated_page_is_current(generator: Path) -> None:
    module = runpy.run_path(str(generator))

    assert module["PAGE"].read_text(encoding="utf-8") == module["page"](), "run: make docs"
