"""RD Station's error bodies, all ten shapes (rdstation-api.md §7.2), in the one form of `ProviderError`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice

from dispatcher.policy.outcome import ProviderError
from dispatcher.rdstation.redaction import Redactor

UNKNOWN = "UNKNOWN"
"""The `error_type` of a text that came without one."""
TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
"""What the official client calls a 429 that carries no `error_type`."""

_MOST = 20
_PATH_CHARS = 200
_LEVELS = 3  # errors -> field -> language -> list: nothing documented nests deeper
_ERROR_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def parse_json(body: bytes) -> object:
    """The body as JSON; None if it is none. Never raises, however deep or broken it is."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def provider_errors(document: object, status: int | None, redactor: Redactor) -> tuple[ProviderError, ...]:
    """Every error the parsed body names, at most 20; empty if it names none. Never raises."""
    found = dict.fromkeys(islice(_errors(document, status, redactor), _MOST))
    return tuple(found)


def _errors(document: object, status: int | None, redactor: Redactor) -> Iterator[ProviderError]:
    if isinstance(document, list):
        yield from _listed(document, None, redactor)
    elif isinstance(document, dict):
        if "errors" in document:
            yield from _wrapped(document["errors"], None, redactor, _LEVELS)
        elif "error_type" in document:
            yield _one(document, None, redactor)
        else:
            yield from _bare(document, status, redactor)


def _wrapped(value: object, path: str | None, redactor: Redactor, levels: int) -> Iterator[ProviderError]:
    """Shapes 1 to 5: an object, a list, or objects keyed by field and perhaps by language."""
    if isinstance(value, list):
        yield from _listed(value, path, redactor)
    elif isinstance(value, str):
        yield _text(value, path, redactor)
    elif isinstance(value, dict):
        if isinstance(value.get("error_type"), str):
            yield _one(value, path, redactor)
        elif levels:
            for key, inner in value.items():
                yield from _wrapped(inner, f"{path or 'body'}.{key}", redactor, levels - 1)


def _listed(items: list[object], path: str | None, redactor: Redactor) -> Iterator[ProviderError]:
    for item in items:
        if isinstance(item, dict):
            yield _one(item, path, redactor)
        elif isinstance(item, str):
            yield _text(item, path, redactor)


def _one(error: dict[str, object], path: str | None, redactor: Redactor) -> ProviderError:
    own_path = error.get("path")
    where = own_path if isinstance(own_path, str) and own_path else path
    message = error.get("error_message")
    return ProviderError(
        _word(error.get("error_type"), redactor) or UNKNOWN,
        redactor.text(message) if isinstance(message, str) else "",
        redactor.text(where, _PATH_CHARS) if where else None,
    )


def _text(text: str, path: str | None, redactor: Redactor) -> ProviderError:
    return ProviderError(UNKNOWN, redactor.text(text), redactor.text(path, _PATH_CHARS) if path else None)


def _bare(document: dict[str, object], status: int | None, redactor: Redactor) -> Iterator[ProviderError]:
    """Shapes 8 and 9: a limiter's or a gateway's object, without RD Station's own words."""
    error, message = document.get("error"), document.get("message")
    description = document.get("error_description")
    if isinstance(error, str) and error:
        word = _word(error, redactor)
        if isinstance(description, str):
            yield ProviderError(word or UNKNOWN, redactor.text(description))
        elif status == 429 or "remaining_time" in document:
            yield ProviderError(TOO_MANY_REQUESTS, redactor.text(error))
        else:
            yield ProviderError(word or UNKNOWN, redactor.text(error))
    elif isinstance(message, str) and message:
        yield ProviderError(TOO_MANY_REQUESTS if status == 429 else UNKNOWN, redactor.text(message))


def _word(value: object, redactor: Redactor) -> str | None:
    """RD Station's word as it is, if it is a word: a sentence, an address or a token in its place is not passed on."""
    is_word = isinstance(value, str) and _ERROR_TYPE.fullmatch(value) is not None
    return value if isinstance(value, str) and is_word and redactor.text(value) == value else None
