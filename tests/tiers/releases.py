"""The previous release, as rolling deploys meet it: its code from this repository's own history."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

COMMIT = "c2ba8d8c762a932cfcb947a7be90c23f2a7b0f6f"
"""Nothing is published yet: the last commit before the newest migrations. A release takes its place."""

REVISION = "0008"
"""The schema that it knows."""

_ROOT = Path(__file__).parents[2]
_PARTS = ("dispatcher", "workers", "migrations")


class NoHistory(Exception):
    """This checkout does not have the commit."""


def find() -> str:
    """The commit, if this checkout has it.

    Raises:
        NoHistory: It has not; the text says what to do.
    """
    done = subprocess.run(
        ["git", "-C", str(_ROOT), "cat-file", "-e", f"{COMMIT}^{{commit}}"], capture_output=True, check=False
    )
    if done.returncode:
        raise NoHistory(f"commit {COMMIT[:7]} is not in this checkout; `git fetch --unshallow` brings the history")
    return COMMIT


def unpack(commit: str, into: Path) -> Path:
    """Put that release's code there; answers the folder for PYTHONPATH."""
    packed = subprocess.run(
        ["git", "-C", str(_ROOT), "archive", commit, *_PARTS], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(into, filter="data")
    return into
