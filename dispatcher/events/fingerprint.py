"""Whether two payloads say the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

VERSION = "v1"
"""Rises when the rule below changes; fingerprints of different versions compare as the same."""


def fingerprint(payload: dict[str, Any]) -> str:
    """`v1:` and the SHA-256 of the validated payload, in a form that ignores what means nothing.

    The order of keys means nothing, null is the same as absent, 5.0 the same as 5. Text is compared as it is,
    without Unicode normalisation.
    """
    text = _ENCODER.encode(_canonical(payload))
    return f"{VERSION}:{hashlib.sha256(text.encode()).hexdigest()}"


def _canonical(value: Any) -> Any:
    """Of plain JSON values, as pydantic dumps them."""
    if isinstance(value, dict):
        return {
            name: item if type(item) is str else _canonical(item) for name, item in value.items() if item is not None
        }
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
