"""From RD Station's own envelope to a typed event (rdstation-api.md §2.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events import problems
from dispatcher.events.catalogue import CATALOGUE
from dispatcher.events.event import Event
from dispatcher.events.fields import Email

_KEYS = ("event_type", "event_family", "payload")
_ATTACHED = "$.attached"


def parse_event(envelope: object, *, attached: object = None) -> Event:
    """The typed event of an envelope `{"event_type": …, "event_family": "CDP", "payload": {…}}`.

    Takes any object, however broken, and nothing beside the documented fields: what a typed class only attaches
    (`cart_id`) is no part of an envelope.

    Args:
        envelope: Any object.
        attached: What travels beside the payload, an object by field name; null values count as absent.

    Raises:
        InvalidEvent: With every problem of the envelope, of the payload and of `attached`, whose paths begin with
            `$.attached` (`problems.MAX_PROBLEMS` are listed).
    """
    if not isinstance(envelope, dict):
        raise InvalidEvent([Problem("$", "must be an object with event_type, event_family and payload")])
    found = list(_envelope_problems(envelope))
    kind, payload = _kind(envelope.get("event_type")), envelope.get("payload")
    if not isinstance(payload, dict):
        raise problems.refuse(found)
    if kind is None:  # of the payload only this much is known
        raise problems.refuse([*found, *_email_problems(payload)])
    if odd := [name for name in payload if not _is_sent(kind, name)]:
        found.extend(problems.unknown_fields(odd, kind.sent_fields, kind.event_type, "$.payload"))
        payload = {name: value for name, value in payload.items() if _is_sent(kind, name)}
    beside: dict[str, Any] = {}
    if isinstance(attached, Mapping):
        found.extend(_attached_problems(kind, attached))
        beside = {name: value for name, value in attached.items() if name in kind.attached_fields}
    elif attached is not None:
        found.append(Problem(_ATTACHED, "must be an object"))
    try:
        event = kind(**payload, **beside)
    except InvalidEvent as error:
        found.extend(Problem(_rooted(problem.path), problem.message) for problem in error.problems)
    if found:
        raise problems.refuse(found)
    return event


def _rooted(path: str) -> str:
    """A class names its attached fields bare, and their sum `attached`; in a document they stand in an object."""
    if path.startswith("$"):
        return path
    return _ATTACHED if path == "attached" else f"{_ATTACHED}.{path}"


def _attached_problems(kind: type[Event], attached: Mapping[Any, Any]) -> Iterator[Problem]:
    odd = [name for name in attached if name not in kind.attached_fields]
    for name in odd:
        if _is_sent(kind, name):
            yield Problem(_ATTACHED + problems.step(name), "belongs into the payload")
    unknown = [name for name in odd if not _is_sent(kind, name)]
    yield from problems.unknown_fields(unknown, kind.attached_fields, f"{kind.event_type}'s attached data", _ATTACHED)


def _kind(event_type: object) -> type[Event] | None:
    return CATALOGUE.get(event_type) if isinstance(event_type, str) else None


def _is_sent(kind: type[Event], name: object) -> bool:
    return isinstance(name, str) and kind.knows(name) and name not in kind.attached_fields


def _envelope_problems(envelope: dict[Any, Any]) -> Iterator[Problem]:
    for name in _KEYS:
        if envelope.get(name) is None:
            yield Problem(f"$.{name}", "is required")
    event_type = envelope.get("event_type")
    if event_type is not None and _kind(event_type) is None:
        yield Problem("$.event_type", f"is not a type RD Station accepts; use one of {_types_like(event_type)}")
    if envelope.get("event_family") not in (None, "CDP"):
        yield Problem("$.event_family", 'must be "CDP"')
    if not isinstance(envelope.get("payload"), dict | None):
        yield Problem("$.payload", "must be an object")
    for name in envelope:
        if name not in _KEYS:
            yield Problem("$" + problems.step(name), f"is not part of an envelope; it has {', '.join(_KEYS)}")


def _types_like(event_type: object) -> str:
    """Every type, the likeliest first."""
    wanted = event_type.upper().replace("-", "_").replace(" ", "_") if isinstance(event_type, str) else ""
    close = get_close_matches(wanted, CATALOGUE, n=3) if len(wanted) <= 64 else []
    return ", ".join([*close, *(name for name in CATALOGUE if name not in close)])


def _email_problems(payload: dict[Any, Any]) -> list[Problem]:
    if payload.get("email") is None:
        return [Problem("$.payload.email", "is required")]
    try:
        _email().validate_python(payload["email"])
    except ValidationError as error:
        return list(problems.from_pydantic(error, "$.payload.email"))
    return []


@cache
def _email() -> TypeAdapter[str]:
    return TypeAdapter(Email)  # milliseconds that `import dispatcher` need not spend
