"""The same correction for many events: paths and values, such as `payload.currency` and `BRL`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dispatcher.errors import InvalidEvent, Problem

_ROOT = "payload."


def with_set(stored: str, corrections: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The stored content with these paths set; None takes a field away.

    Args:
        stored: A payload, or a whole envelope that was filed because it is invalid; JSON.
        corrections: Paths in the payload, such as `payload.name` or `payload.items.0.price`, and their values.

    Raises:
        InvalidEvent: It is no JSON object, or a path leads through something that has no fields.
    """
    try:
        content = json.loads(stored)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InvalidEvent([Problem("$", "is no JSON object: correct it with a whole envelope (--payload)")])
    payload = content["payload"] if isinstance(content.get("payload"), dict) and "event_type" in content else content
    for path, value in corrections:
        _set(payload, path, value)
    return content


def check_path(path: str) -> None:
    """See that a path can be one, before anything is done.

    Raises:
        ValueError: With what is accepted.
    """
    if not path.startswith(_ROOT) or not all(path.split(".")):
        raise ValueError("write payload.FIELD=VALUE, such as payload.currency=BRL")


def _set(payload: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.removeprefix(_ROOT).split(".")
    place: Any = payload
    for step in way:
        place = _step(place, step, path)
    if isinstance(place, dict):
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    elif isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    else:
        raise InvalidEvent([Problem(f"$.{path}", "leads to nothing that could be set")])


def _step(place: Any, step: str, path: str) -> Any:
    if isinstance(place, dict) and step in place:
        return place[step]
    if isinstance(place, list) and step.isdigit() and int(step) < len(place):
        return place[int(step)]
    raise InvalidEvent([Problem(f"$.{path}", f"leads through {step!r}, which is not there")])
