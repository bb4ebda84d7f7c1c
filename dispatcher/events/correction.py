"""What a person writes to mend a dead event (`dispatcher dead replay --payload FILE`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcher.events.envelope import parse_event
from dispatcher.events.event import Event


def corrected(
    content: Mapping[str, Any], *, event_type: str, payload: object, attached: Mapping[str, Any] | None
) -> Event:
    """The event that a correction makes of a stored one.

    Args:
        content: One of

            - a payload;
            - `{"attached": {…}}`, with `"payload"` beside it or not: without one the stored payload stays;
            - a whole envelope, with `"attached"` beside its payload or not.

            A field given in `attached` replaces the stored one, null takes it away, the others stay.
        event_type: The stored type; a whole envelope may name another (whether it may is the caller's judgement).
        payload: The stored payload, however broken.
        attached: What is stored beside it; not taken over into another type.

    Raises:
        InvalidEvent: With every problem of what came of it.
    """
    parts = content if content.keys() & {"payload", "attached"} else {"payload": dict(content)}
    envelope = {"event_type": event_type, "event_family": "CDP", "payload": payload, **parts}
    given = envelope.pop("attached", None)
    kept = attached if attached and envelope["event_type"] == event_type else {}
    if given is None or isinstance(given, Mapping):
        given = {**kept, **(given or {})}
    return parse_event(envelope, attached=given)
