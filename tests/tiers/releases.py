"""The previous release, as rolling deploys meet it: its code from this repository's own history."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

COMMIT = "7c7dfab0e7a5b5ba81232be28eb3580f1be006f1"
"""Nothing is published yet: the last commit whose schema is one migration older. A release takes its place."""

REVISION = "0007"
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
