"""Keys: the name of a fact, the same each time the fact is told."""

from __future__ import annotations

import unicodedata

from dispatcher.errors import InvalidEvent, Problem

MAX_KEY_LENGTH = 255

_SHARED_ENTRY = {"ECOMMERCE_ORDER_PLACED": "ORDER_PLACED", "ECOMMERCE_CART_ABANDONED": "CART_ABANDONED"}
"""Successor to retired type, the shorter name, so that a fact never outgrows its key."""


def key_problem(key: object) -> str | None:
    """What is wrong with a key, or None."""
    if not isinstance(key, str):
        return "must be text"
    if not key.strip():
        return "must not be empty"
    if len(key) > MAX_KEY_LENGTH:
        return f"must have at most {MAX_KEY_LENGTH} characters"
    if "@" in key:
        return "must not hold an @: keys are shown and logged, so no e-mail may be part of one"
    if not key.isprintable() and any(unicodedata.category(char) in ("Cc", "Cs") for char in key):
        return "must not hold control characters, NUL or lone surrogates"
    return None


def validate_key(key: str) -> str:
    """The key itself, if it can be one.

    Raises:
        InvalidEvent: With the path `key`.
    """
    problem = key_problem(key)
    if problem is not None:
        raise InvalidEvent([Problem("key", problem)])
    return key


def join_key(event_type: str, parts: tuple[str, ...]) -> str:
    """The default key. Every part but the last has `%` and `:` escaped, so that no two facts share a key."""
    *inner, last = parts
    return ":".join([event_type, *(part.replace("%", "%25").replace(":", "%3A") for part in inner), last])


def fact_of(key: str) -> str:
    """The name under which a key is remembered: a retired type and its successor share one.

    `ECOMMERCE_ORDER_PLACED:1001` is the fact `ORDER_PLACED:1001`, so that a shop that moves to the new types does
    not tell old orders again. Pure, never longer than the key, and any text is answered.
    """
    event_type, colon, rest = key.partition(":")
    return f"{_SHARED_ENTRY.get(event_type, event_type)}{colon}{rest}"
