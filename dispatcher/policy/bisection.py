"""How a refused batch is sent again, so that one bad event costs few requests and its neighbours nothing.

A refused batch is halved, and the smaller half goes first. If that one passes, the bad event is in the other half:
it need not be sent whole to be refused again, and is halved at once. One bad event among n costs at most
1 + 2·log2(n) requests, the first included (docs/adr/0013).

No event is judged here: what is left of a search goes alone, and RD Station judges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

_ALL_ALONE = 3
"""So few, one of them bad, cost no more alone than any search among them."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """Events that go in one request, two or more.

    Attributes:
        members: In their order.
        heir: If the part sent right before it passes, the bad event must be in this one.
    """

    members: tuple[T, ...]
    heir: bool = False


Parts: TypeAlias = tuple[Part[T], ...]
"""Sent one after another. Events of a refused batch that are in no part go alone."""


def halves(members: Sequence[T], *, one_is_bad: bool) -> Parts[T]:
    """What to send of a refused batch; nothing, if its events do better alone.

    Args:
        members: The batch.
        one_is_bad: False if it was refused for what it is as a whole (its length).
    """
    if len(members) <= _ALL_ALONE:
        return ()
    middle = len(members) // 2
    return Part(tuple(members[:middle])), Part(tuple(members[middle:]), heir=one_is_bad)


def after_passing(waiting: Parts[T]) -> Parts[T]:
    """The part before these was accepted whole."""
    if waiting and waiting[0].heir:
        return halves(waiting[0].members, one_is_bad=True) + waiting[1:]
    return waiting


def after_refusal(waiting: Parts[T]) -> Parts[T]:
    """The part before these was refused, or not all of it was accepted: they may well be good."""
    return tuple(Part(part.members) for part in waiting[:1]) + waiting[1:]


def together(groups: Sequence[Sequence[T]]) -> Parts[T]:
    """Groups that may be good as they are; those of one event go alone."""
    return tuple(Part(tuple(group)) for group in groups if len(group) > 1)
