"""The lines of `dead export` and `dead import`: written, and read back strictly, with every problem at once.

What is told for the person's eyes may stand in a line or not; it is not read. What names the letter must be as it was
exported. Only `action`, `note` and the content are for editing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from uuid import UUID

from dispatcher.admin.envelopes import parse_json
from dispatcher.admin.lines import Line, read_lines
from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events.problems import step
from dispatcher.outbox.edits import Action, Edit, Exported

_FOR_THE_EYE = {"account", "key", "event_type", "reason", "detail", "errors"}
_READ = {"event_id", "letter", "version", "action", "note", "payload", "attached", "envelope"}
_LONGEST_NOTE = 2_000
_LARGEST_ROW = 2**63 - 1


def line_of(letter: Exported) -> dict[str, Any]:
    """What one dead letter is exported as."""
    told: dict[str, Any] = {
        "event_id": str(letter.event_id),
        "account": letter.account,
        "key": letter.key,
        "event_type": letter.event_type,
        "reason": letter.reason,
        "detail": letter.detail,
        "errors": json.loads(letter.errors) if letter.errors else [],
        "letter": letter.letter,
        "version": letter.version,
        "action": Action.REPLAY.value,
        "note": None,
    }
    if letter.invalid:
        return told | {"envelope": _decoded(letter.payload)}
    told["payload"] = _decoded(letter.payload)
    return told | ({"attached": _decoded(letter.attached)} if letter.attached else {})


@dataclass(slots=True)
class Edited:
    """A file that was read.

    Attributes:
        digest: Of all its bytes.
        edits: Its lines.
        problems: By line; if there are any, the file does nothing.
    """

    digest: str = ""
    edits: list[Edit] = field(default_factory=list)
    problems: list[tuple[int, Problem]] = field(default_factory=list)


class _Digesting:
    """A stream that digests what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def readline(self, size: int = -1) -> bytes:
        raw = self._stream.readline(size)
        self.sha256.update(raw)
        return raw


def read_edits(stream: BinaryIO) -> Edited:
    """Read a whole file. Raises nothing, whatever it holds."""
    found, source = Edited(), _Digesting(stream)
    letters: dict[int, int] = {}
    for line in read_lines(source):  # type: ignore[arg-type]  # only `readline` is used
        edit = _edit_of(line, found.problems)
        if edit is None:
            continue
        first = letters.setdefault(edit.letter, line.number)
        if first != line.number:
            found.problems.append((line.number, Problem("$.letter", f"is in line {first} already")))
        found.edits.append(edit)
    found.digest = source.sha256.hexdigest()
    return found


def _edit_of(line: Line, problems: list[tuple[int, Problem]]) -> Edit | None:
    if line.text is None:
        problems += [(line.number, line.problem)] if line.problem else []
        return None
    try:
        told = parse_json(line.text)
    except InvalidEvent as invalid:
        problems += [(line.number, problem) for problem in invalid.problems]
        return None
    wrong = [Problem("$", "must be an object")] if not isinstance(told, dict) else list(_problems(told))
    if wrong:
        problems += [(line.number, problem) for problem in wrong]
        return None
    return Edit(
        line.number,
        UUID(told["event_id"]),
        told["letter"],
        told["version"],
        Action(told["action"]),
        _content(told),
        told.get("note") or None,
    )


def _content(told: Mapping[str, Any]) -> Mapping[str, Any]:
    if "envelope" in told:
        return told["envelope"] if isinstance(told["envelope"], dict) else {"payload": told["envelope"]}
    return {"payload": told["payload"], "attached": told.get("attached")}


def _problems(told: Mapping[str, Any]) -> Iterator[Problem]:
    for name in told.keys() - _READ - _FOR_THE_EYE:
        yield Problem("$" + step(name), "is not a field of an exported dead letter; remove it")
    yield from _names(told)
    if told.get("action") not in tuple(Action):
        yield Problem("$.action", f"must be one of {', '.join(Action)}")
    note = told.get("note")
    if note is not None and (not isinstance(note, str) or len(note) > _LONGEST_NOTE or "\0" in note):
        yield Problem("$.note", f"must be text of at most {_LONGEST_NOTE} characters, or null")
    yield from _content_problems(told)


def _names(told: Mapping[str, Any]) -> Iterator[Problem]:
    """What names the letter."""
    forms = {"event_id": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "version": r"[0-9a-f]{32}"}
    for name, form in forms.items():
        value = told.get(name)
        if not isinstance(value, str) or not re.fullmatch(form, value):
            yield Problem(f"$.{name}", "must be as it was exported")
    letter = told.get("letter")
    if type(letter) is not int or not 0 < letter <= _LARGEST_ROW:
        yield Problem("$.letter", "must be as it was exported")


def _content_problems(told: Mapping[str, Any]) -> Iterator[Problem]:
    if "envelope" in told:
        if told.keys() & {"payload", "attached"}:
            yield Problem("$.envelope", "stands for payload and attached: give it alone")
        elif told.get("action") == Action.REPLAY and not isinstance(told["envelope"], dict):
            yield Problem("$.envelope", "must be an object; it is what was enqueued, corrected")
        return
    if "payload" not in told:
        yield Problem("$.payload", "is required")
    elif told.get("action") == Action.REPLAY and not isinstance(told["payload"], dict):
        yield Problem("$.payload", "must be an object")
    if not isinstance(told.get("attached"), dict | None):
        yield Problem("$.attached", "must be an object, or null")


def _decoded(stored: str) -> Any:
    """The stored JSON; as text if it is none, for a row written by hand may hold anything."""
    try:
        return json.loads(stored, parse_constant=str)
    except (ValueError, RecursionError):
        return stored
