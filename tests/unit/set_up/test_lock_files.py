"""The lock files serve everybody: complete, hashed, and free of this or any other machine's addresses. Files only."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [Requirement(line.removesuffix("\\")) for line in lines if line[:1].isalnum()]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}


def asked(*names: str) -> list[Requirement]:
    """What pyproject.toml asks for: `project`, an extra, or a dependency group with what it includes."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = pyproject["project"], pyproject["dependency-groups"]
    lists = {"project": project["dependencies"], **project["optional-dependencies"], **groups}
    entries = [entry for name in names for entry in lists[name]]
    included = [entry["include-group"] for entry in entries if isinstance(entry, dict)]
    return [Requirement(entry) for entry in entries if isinstance(entry, str)] + (asked(*included) if included else [])


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_entry_is_pinned_and_hashed_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"\n(?=[^\s#])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())

    assert [entry for entry in entries if not re.match(r"\S+==\S+( ; .*)? \\\n +--hash=sha256:", entry)] == []
    assert re.findall(r"(?m)://|@|^-.*|^/.*|/home/|/root/", text) == []


@pytest.mark.parametrize(
    ("lock", "names"),
    [
        ("app", ["project", "postgres", "mysql"]),
        ("dev", ["project", "postgres", "mysql", "async", "dev"]),
        ("peers", ["project", "peers"]),
        ("build", ["build"]),
        ("servers", ["servers"]),
    ],
)
def test_what_pyproject_asks_for_is_locked_at_a_fitting_version(lock: str, names: list[str]) -> None:
    pins = locked(lock)

    unfit = [
        str(wanted)
        for wanted in asked(*names)
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"), prereleases=True)
    ]

    assert unfit == [], "run: make lock"


def test_no_package_is_locked_at_two_versions() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version in locked(lock.stem).items():
            versions.setdefault(name, set()).add(version)

    assert {name: sorted(found) for name, found in versions.items() if len(found) > 1} == {}
