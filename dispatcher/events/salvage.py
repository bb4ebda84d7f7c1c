"""What is kept of an envelope that no event can be made of, so that it can be filed as a dead letter."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from dispatcher.events.fields import EMAIL

MAX_TEXT_BYTES: Final = 190_000
"""ASCII bytes of the kept text, whatever came in."""

MAX_DEPTH: Final = 32

_RESERVE = 64 * (MAX_DEPTH + 2)
"""Bytes for the notes on what was cut: at most one per level, and one string."""

_EVENT_TYPE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_EMAIL = re.compile(EMAIL)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The storable remains of any object.

    Attributes:
        text: Valid JSON in ASCII of at most `MAX_TEXT_BYTES`: NUL and lone surrogates are escapes; NaN, Infinity and
            values that JSON does not know are strings. Holds personal data, as every payload does.
        event_type: The envelope's, if it has the form of one, else `INVALID`.
        email: The lead's address, if there is a plausible one.
        key: `INVALID:` and the SHA-256 of `text`: the same remains are filed once.
        truncated: True if something was too long or too deep; the text says `[cut` where.
    """

    text: str
    event_type: str
    email: str | None
    key: str
    truncated: bool


def salvage(envelope: object) -> Salvaged:
    """What can be kept of any object. Never raises."""
    copy = _Copy(MAX_TEXT_BYTES - _RESERVE)
    try:
        text = json.dumps(copy.of(envelope, MAX_DEPTH), allow_nan=False)
        event_type, email = _event_type(envelope), _email(envelope)
    except Exception:  # noqa: BLE001  # an object may raise anything when looked at, and the shop's order goes on
        text, event_type, email = json.dumps(f"<unreadable {type(envelope).__name__}>"), "INVALID", None
    return Salvaged(text, event_type, email, f"INVALID:{hashlib.sha256(text.encode()).hexdigest()}", copy.cut)


def _event_type(envelope: object) -> str:
    found = envelope.get("event_type") if isinstance(envelope, dict) else None
    return str(found) if isinstance(found, str) and _EVENT_TYPE.fullmatch(found) else "INVALID"


def _email(envelope: object) -> str | None:
    payload = envelope.get("payload") if isinstance(envelope, dict) else None
    found = payload.get("email") if isinstance(payload, dict) else None
    if not isinstance(found, str) or len(found) > 512:
        return None
    found = found.strip()
    return found if len(found) <= 254 and _EMAIL.fullmatch(found) else None


class _Copy:
    """Copies an object into plain JSON values until the budget of ASCII bytes is used up."""

    def __init__(self, budget: int) -> None:
        self.left = budget
        self.cut = False

    def of(self, value: object, depth: int) -> Any:
        """The copy; containers deeper than `depth` are left out."""
        if isinstance(value, BaseModel):
            value = value.__dict__
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth == 0:
                return self._note("deeper levels")
            return self._object(value, depth) if isinstance(value, Mapping) else self._array(value, depth)
        return self._scalar(value)

    def _scalar(self, value: object) -> Any:
        if value is None or isinstance(value, bool):
            self.left -= 6
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float):
            plain = float(value)
            self.left -= len(repr(plain)) + 2
            return plain if math.isfinite(plain) else repr(plain)
        if isinstance(value, int):
            if abs(value) >= 2**63:  # as text, and in hex: Python refuses to write very long ones in decimal
                return self._text(hex(value))
            self.left -= len(f"{value:d}")
            return int(value)
        if isinstance(value, bytes | bytearray):
            return self._text(value.decode("utf-8", "backslashreplace"))
        if isinstance(value, Decimal | date | datetime | time | UUID):
            return self._text(str(value))
        return self._text(f"<{type(value).__name__}>")

    def _text(self, value: str) -> str:
        kept = value[: max(self.left, 0)]
        while (cost := len(json.dumps(kept)) + 2) > self.left and kept:
            kept = kept[: min(len(kept) - 1, len(kept) * max(self.left, 0) // cost)]
        self.left -= cost
        if len(kept) == len(value):
            return kept
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return kept + self._note(f"{len(value)} characters, sha256 {digest}")

    def _array(self, values: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any], depth: int) -> list[Any]:
        kept: list[Any] = []
        self.left -= 2
        for value in values:
            if self.left <= 0:
                kept.append(self._note(f"{len(values) - len(kept)} more"))
                break
            self.left -= len(", ")
            kept.append(self.of(value, depth - 1))
        return sorted(kept, key=json.dumps) if isinstance(values, set | frozenset) else kept

    def _object(self, values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        self.left -= 2
        for name, value in values.items():
            if self.left <= 0:
                kept[self._note("")] = f"{len(values) - len(kept)} more"
                break
            self.left -= len(": , ")
            label = self._text(name) if isinstance(name, str) else f"<{type(name).__name__}> {self.of(name, 0)}"
            kept[label] = self.of(value, depth - 1)
        return kept

    def _note(self, what: str) -> str:
        self.cut = True
        self.left -= len(what) + 10
        return f"[cut: {what}]" if what else "[cut]"
