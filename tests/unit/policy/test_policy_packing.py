"""Which events share a request. Real: everything. Doubled: nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.policy.packing import Bounds, pack


def length(sizes: list[int]) -> int:
    """Of the body, as it will be written."""
    return len(b"[" + b",".join(b"x" * size for size in sizes) + b"]")


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(1, 60)), max_size=60),
    events=st.integers(1, 12),
    most=st.integers(1, 120),
)
def test_every_event_is_in_one_request_within_the_bounds(sizes: list[int | None], events: int, most: int) -> None:
    requests = pack(sizes, Bounds(events, most))
    assert sorted(position for request in requests for position in request) == list(range(len(sizes)))
    for request in requests:
        assert request == sorted(request)
        if len(request) > 1:
            shared = [sizes[position] for position in request]
            assert None not in shared, "what goes alone shares no request"
            assert length([size for size in shared if size]) <= most
            assert len(request) <= events


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=60), events=st.integers(1, 12), most=st.integers(62, 300)
)
def test_no_request_ends_while_the_next_event_would_have_fitted(sizes: list[int], events: int, most: int) -> None:
    requests = pack(sizes, Bounds(events, most))
    for request, following in pairwise(requests):
        longer = [sizes[position] for position in [*request, following[0]]]
        assert len(longer) > events or length(longer) > most


def test_an_event_that_goes_alone_parts_nobody() -> None:
    assert pack([10, None, 10, 500, 10], Bounds(50, 100)) == [[1], [3], [0, 2, 4]]


@pytest.mark.parametrize(("events", "most"), [(0, 10), (10, 0)])
def test_bounds_that_allow_nothing_are_refused(events: int, most: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Bounds(events, most)


def test_bounds_are_reached_to_the_byte() -> None:
    assert pack([4, 3], Bounds(9, 10)) == [[0, 1]], "[xxxx,yyy] has ten bytes"
    assert pack([4, 4], Bounds(9, 10)) == [[0], [1]]
    assert pack([8, 1], Bounds(9, 10)) == [[0], [1]]
    assert pack([9, 1], Bounds(9, 10)) == [[0], [1]]
    assert pack([1, 9, 1], Bounds(9, 10)) == [[1], [0, 2]], "what is too long for any batch parts nobody"
    assert pack([1, 8, 1], Bounds(9, 10)) == [[0], [1], [2]], "and what just fits stands in line"
    assert pack([2, 2, 2], Bounds(9, 9)) == [[0, 1], [2]], "each but the first has its comma"
