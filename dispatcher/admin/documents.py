"""The JSON documents: their fields are fixed, scripts rely on them; new ones may be added."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from dispatcher.outbox.overview import AccountView, Overview
from dispatcher.outbox.queries import EventView, LetterView


def event_document(view: EventView, *, payload: bool = False) -> dict[str, Any]:
    """One event, as `show`, `list` and `dead list` print it. Payloads only on request: they are personal data."""
    document = asdict(view)
    del document["id"], document["payload"]
    document["dead_letters"] = [_letter(letter, payload=payload) for letter in view.dead_letters]
    return document | ({"payload": _decoded(view.payload)} if payload else {})


def overview_document(overview: Overview) -> dict[str, Any]:
    """The outbox as a whole, as `status` prints it."""
    return asdict(overview)


def account_document(view: AccountView) -> dict[str, Any]:
    """One account, as `account list` and `status` print it."""
    return asdict(view)


def _letter(letter: LetterView, *, payload: bool) -> dict[str, Any]:
    document = asdict(letter)
    before = document.pop("payload_before")
    document["corrected"] = before is not None
    return document | ({"payload_before": _decoded(before)} if payload else {})


def _decoded(stored: str | None) -> Any:
    """The payload as JSON; as text if it is none, for a row written by hand may hold anything."""
    if stored is None:
        return None
    try:
        return json.loads(stored, parse_constant=str)
    except (ValueError, RecursionError):
        return stored
