"""What processes cost: CPU seconds and memory of a process and all its descendants, read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(roots: Iterable[int]) -> list[int]:
    """These processes and all that descend from them."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children[int(_fields(int(entry.name))[1])].append(int(entry.name))
    found, ahead = [], list(roots)
    while ahead:
        found.append(ahead.pop())
        ahead += children[found[-1]]
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of the family, with that of children which have ended and were waited for."""
    ticks = 0
    for pid in family(roots):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _fields(pid)[11:15]))
    return ticks / _TICKS


def memory_megabytes(roots: Iterable[int]) -> float:
    """The family's proportional set size: pages that processes share are counted once."""
    kilobytes = 0
    for pid in family(roots):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kilobytes += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return kilobytes / 1024


def _fields(pid: int) -> list[str]:
    """What stands in /proc/PID/stat after the name (which may hold blanks): state, parent, and so on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
