"""Each threat of docs/threat-model.md names a test that is there. Reads files only."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_threat_names_a_test_and_every_named_test_exists() -> None:
    threats = PAGE.partition("## Threats")[2].partition("##")[0]
    rows = [line for line in threats.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert [row for row in rows if not NAMED.search(row)] == []
    for path, name in NAMED.findall(PAGE):
        file = ROOT / path
        assert file.is_file(), path
        assert not name or f"def {name}(" in file.read_text(encoding="utf-8"), f"{path}::{name}"


def test_what_issue_5_asks_of_security_has_a_threat_each() -> None:
    for promise in ("TLS is verified", "no redirect is followed", "configured base URL", "a type that does not print",
                    "values are bound", "loopback by default", "audited in CI"):  # fmt: skip
        assert promise in PAGE


def test_the_page_can_be_found() -> None:
    assert "(threat-model.md)" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert "(docs/threat-model.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
