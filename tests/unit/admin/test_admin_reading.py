"""Lines, strict JSON and times, without a database. Nothing is doubled."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.admin.envelopes import parse_json
from dispatcher.admin.lines import MAX_LINE_BYTES, read_lines
from dispatcher.admin.moments import iso, relative, since_moment, span
from dispatcher.errors import InvalidEvent

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_that_says_one_thing_reads_as_python_reads_it(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidEvent):
        json.dumps(parse_json(text), allow_nan=False)


def test_every_odd_place_is_told_with_its_path() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_json('{"a": [1, NaN, {"b": 1, "b": -Infinity}], "c": 1e999, "a": 2}')
    assert [problem.path for problem in refused.value.problems] == ["$.a", "$.c"]

    with pytest.raises(InvalidEvent) as refused:
        parse_json('{"a": [1, NaN, {"b": 1, "b": -Infinity}]}')
    assert [problem.path for problem in refused.value.problems] == ["$.a[1]", "$.a[2].b", "$.a[2].b"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 2000 + "]" * 2000])
def test_what_nests_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(InvalidEvent, match="too deeply"):
        parse_json(text)


def test_a_name_that_could_be_personal_data_is_not_quoted() -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_json('{"ana@cliente.example": 1, "ana@cliente.example": 2}')

    assert "ana" not in str(refused.value)


def test_a_line_is_read_up_to_its_limit_and_the_next_one_is_whole() -> None:
    longest, too_long = b"a" * (MAX_LINE_BYTES - 1), b"b" * (3 * MAX_LINE_BYTES)
    stream = io.BytesIO(longest + b"\n" + too_long + b"\nafter")

    lines = list(read_lines(stream))

    assert [(line.number, line.text and len(line.text), line.problem is None) for line in lines] == [
        (1, MAX_LINE_BYTES - 1, True),
        (2, None, False),
        (3, 5, True),
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_lines(content: bytes) -> None:
    lines = list(read_lines(io.BytesIO(content)))

    assert [line.number for line in lines] == sorted({line.number for line in lines})
    assert all((line.text is None) == (line.problem is not None) for line in lines)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        (" 2h ", NOW - timedelta(hours=2)),
        ("1w", NOW - timedelta(weeks=1)),
        ("999999w", datetime.min.replace(tzinfo=UTC)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T09:00-03:00", datetime(2026, 1, 30, 12, tzinfo=UTC)),
        ("2026-01-30T12:00Z", datetime(2026, 1, 30, 12, tzinfo=UTC)),
    ],
)
def test_a_time_is_a_span_or_a_moment(text: str, moment: datetime) -> None:
    assert since_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "-2h", "2026-13-01", "2026-02-01T00:00Z"])
def test_what_is_no_time_in_the_past_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write a span|future"):
        since_moment(text, NOW)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 m"), (200, "3 m 20 s"), (7260, "2 h 1 m"), (90_061, "1 d 1 h")]
)
def test_a_span_has_two_steps_at_most(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_moments_are_written_in_utc() -> None:
    assert iso(datetime(2026, 1, 31, 9, 0, 0, 5000, tzinfo=UTC)) == "2026-01-31T09:00:00.005000Z"
    assert relative(NOW - timedelta(minutes=3), NOW) == "2026-01-31 11:57:00 (3 m ago)"
    assert relative(NOW + timedelta(minutes=3), NOW) == "2026-01-31 12:03:00 (in 3 m)"
    assert relative(None, NOW) == ""
