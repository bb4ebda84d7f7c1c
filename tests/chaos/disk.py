"""A small disk that can be filled: a tmpfs of our own. Mounting needs a right that not everybody has."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.tiers.servers import NoServer

_CHUNK = 64 * 1024


class SmallDisk:
    """`path` is on a disk of `megabytes`; `fill` leaves no byte, `free` gives the room back."""

    def __init__(self, megabytes: int) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="dispatcher-disk-"))
        self._ballast = self.path / "ballast"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "dispatcher-chaos", str(self.path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            self.path.rmdir()
            raise NoServer(f"no disk of our own: {done.stderr.strip()}")

    def fill(self) -> None:
        """Write until nothing more fits."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for size in (_CHUNK, 4096):
                with suppress(OSError):
                    while os.write(file, bytes(size)) == size:
                        pass
        finally:
            os.close(file)

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount it; what it holds is gone."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)
        with suppress(OSError):
            self.path.rmdir()
