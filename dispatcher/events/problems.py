"""pydantic's errors in the words of this library: a path, a rule, never the refused value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from pydantic import ValidationError

from dispatcher.errors import InvalidEvent, Problem

MAX_PROBLEMS = 200
"""Problems listed per event; one more says how many there are beyond it, so that a hostile body stays a short text."""

MAX_GUESSES = 20
"""Unknown names for which the nearest known one is looked up; each look-up takes about 100 µs."""

LINE_TEXT = r"^[^\x00]*$"
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"

PATTERNS: dict[str, str] = {
    LINE_TEXT: "must not hold NUL characters",
    NOT_BLANK: "must not be blank, nor hold NUL characters",
}
"""What a pattern of `fields.py` asks for, in words; each pattern is entered where it is defined."""

_MESSAGES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is required",
    "string_type": lambda _: "must be text (a JSON string)",
    "string_unicode": lambda _: "must be valid Unicode text; it holds a lone surrogate",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda ctx: f"must have at most {ctx['max_length']} characters",
    "string_pattern_mismatch": lambda ctx: PATTERNS.get(ctx["pattern"], "does not have the documented form"),
    "int_type": lambda _: "must be a whole number",
    "bool_type": lambda _: "must be true or false",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']}",
    "too_long": lambda ctx: f"must have at most {ctx['max_length']} items",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "model_type": lambda _: "must be an object",
    "extra_forbidden": lambda _: "is not a documented field; remove it",
    "invalid_key": lambda _: "is not a documented field; field names are text",
}


def step(name: object) -> str:
    """One step of a path: `.name`, `[0]`, `["odd name"]`.

    A name that could itself be personal data (an e-mail, a long number) is written as `["…"]`.
    """
    if isinstance(name, int):
        return f"[{name}]" if abs(name) < 10**6 else '["…"]'
    if not isinstance(name, str) or len(name) > 64 or "@" in name or re.search(r"\d{5}", name):
        return '["…"]'
    return f".{name}" if name.isascii() and name.isidentifier() else f"[{json.dumps(name)}]"


def from_pydantic(error: ValidationError, root: str, elsewhere: Collection[str] = ()) -> Iterator[Problem]:
    """Each error of pydantic's as a `Problem` under `root`; fields named in `elsewhere` stand by themselves."""
    for item in error.errors(include_url=False, include_input=False):
        location = item["loc"]
        if location and location[0] in elsewhere:
            path = str(location[0]) + "".join(map(step, location[1:]))
        else:
            path = root + "".join(map(step, location))
        say = _MESSAGES.get(item["type"])
        if say is not None:
            message = say(item.get("ctx", {}))
        else:  # only our own sentences are known to be free of the value
            message = item["msg"] if item["type"] == "refused" else "is not valid"
        yield Problem(path, message)


def unknown_fields(names: Iterable[object], known: Collection[str], event_type: str, root: str) -> Iterator[Problem]:
    """A problem for each name that the type does not document (rdstation-api.md §12, row 23)."""
    for count, name in enumerate(names):
        guess = isinstance(name, str) and len(name) <= 64 and count < MAX_GUESSES
        close = get_close_matches(str(name), known, n=1) if guess else []
        hint = f"did you mean {close[0]}?" if close else "remove it"
        yield Problem(root + step(name), f"is not a field of {event_type}; {hint}")


def refuse(problems: Iterable[Problem]) -> InvalidEvent:
    """The error for these problems, of which there may be very many."""
    remaining = iter(problems)
    listed = list(islice(remaining, MAX_PROBLEMS))
    more = sum(1 for _ in remaining)
    return InvalidEvent([*listed, Problem("$", f"and {more} more problems")] if more else listed)
