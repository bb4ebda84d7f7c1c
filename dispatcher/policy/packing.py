"""Which events share a request: in their order, within the bounds of a batch. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_BRACKETS = 2
_COMMA = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may hold (rdstation-api.md §2.2, §12 no. 1 and 2).

    Attributes:
        events: At most so many, at least 1.
        bytes: The body is at most so long.

    Raises:
        ValueError: If a bound allows nothing.
    """

    events: int
    bytes: int

    def __post_init__(self) -> None:
        if self.events < 1 or self.bytes < 1:
            raise ValueError(f"a batch holds at least one event and one byte, got {self.events} and {self.bytes}")


def pack(sizes: Sequence[int | None], bounds: Bounds) -> list[list[int]]:
    """Put events into as few requests as their order allows.

    Args:
        sizes: The bytes of each event's envelope; None for one that goes alone.
        bounds: What a request may hold. An event that is too long for any batch goes alone.

    Returns:
        The positions of each request's events; every position once, rising within a request.
    """
    requests: list[list[int]] = []
    shared: list[int] = []
    length = _BRACKETS
    for position, size in enumerate(sizes):
        if size is None or size + _BRACKETS > bounds.bytes:
            requests.append([position])
            continue
        longer = length + size + (_COMMA if shared else 0)
        if shared and (len(shared) == bounds.events or longer > bounds.bytes):
            requests.append(shared)
            shared, longer = [], _BRACKETS + size
        shared.append(position)
        length = longer
    return [*requests, shared] if shared else requests
