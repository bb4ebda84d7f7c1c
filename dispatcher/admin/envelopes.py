"""Strict JSON: what Python's reader lets pass although JSON forbids it, or means two things, is refused with a path."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events.problems import refuse, step


class _Odd:
    """Stands in the parsed value for a number that JSON does not have."""

    def __init__(self, word: str) -> None:
        self.word = word


class _Twice(dict[str, Any]):
    """An object in which names occur more than once."""

    names: tuple[str, ...] = ()


def parse_json(text: str) -> Any:
    """The value of one JSON text.

    Raises:
        InvalidEvent: It is no JSON, nests too deeply, holds NaN, Infinity or a number out of range, or names a field
            of an object twice. Every problem with its path; no value is quoted.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_Odd, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise InvalidEvent([Problem("$", f"is not JSON: {_reason(error)} (character {error.pos + 1})")]) from None
    except RecursionError:
        raise InvalidEvent([Problem("$", "nests too deeply")]) from None
    except ValueError:  # an integer of more than some thousand digits
        raise InvalidEvent([Problem("$", "holds a number that is too long")]) from None
    found = _odd_ones(value)
    first = next(found, None)
    if first is not None:
        raise refuse([first, *found])
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    twice = _Twice(values)
    twice.names = tuple(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
    return twice


def _finite(text: str) -> float | _Odd:
    value = float(text)
    return value if math.isfinite(value) else _Odd("a number out of range")


def _reason(error: json.JSONDecodeError) -> str:
    return error.msg.lower().removesuffix(" at")  # the reader's own words; they quote nothing of the text


def _odd_ones(value: Any) -> Iterator[Problem]:
    waiting: list[tuple[str, Any]] = [("$", value)]  # not recursive: what was read may nest deeper than Python calls
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, _Odd):
            yield Problem(path, f"is {part.word}, which JSON does not have")
        elif isinstance(part, dict):
            if isinstance(part, _Twice):
                yield from (Problem(path + step(name), "is there more than once") for name in part.names)
            waiting += [(path + step(name), item) for name, item in reversed(part.items())]
        elif isinstance(part, list):
            waiting += [(f"{path}[{index}]", item) for index, item in reversed(list(enumerate(part)))]
