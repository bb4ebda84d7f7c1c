"""A sign of life that the pool's processes give and the sweeper beside them sees, without a database or a broker."""

from __future__ import annotations

import mmap
import struct

_FORM = struct.Struct("d")


class PoolSign:
    """When a pool process last took a bell or moved on in a drain: one number in memory shared over forks.

    The monotonic clock is the machine's, the same in all its processes. Writers do not lock each other out: each
    writes the present, so it does not matter who was last.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FORM.size)

    def give(self, now: float) -> None:
        """The pool is at work."""
        _FORM.pack_into(self._memory, 0, now)

    def last(self) -> float | None:
        """When a sign was given last, on the monotonic clock; None if never."""
        seen: float = _FORM.unpack_from(self._memory, 0)[0]
        return seen or None
