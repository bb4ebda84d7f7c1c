"""`enqueue FILE`: envelopes from JSON lines into the outbox, in batches; a bad line never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from dispatcher.admin.envelopes import parse_json
from dispatcher.admin.lines import Line, read_lines
from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events import Event, parse_event
from dispatcher.outbox import bulk, ringing
from dispatcher.outbox.bulk import Became

if TYPE_CHECKING:  # handed on only
    from sqlalchemy import Engine

BATCH = 200
"""Events in one transaction: what a killed command has not committed is at most so many lines."""


@dataclass(slots=True)
class Counts:
    """What became of the lines so far; blank ones are not counted."""

    lines: int = 0
    enqueued: int = 0
    known: int = 0
    conflicts: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something to say about one line. `refused` is False for a conflict: the fact is in, with other content."""

    line: int
    path: str
    problem: str
    refused: bool = True


def enter_file(
    engine: Engine,
    stream: BinaryIO,
    *,
    account: str,
    complain: Callable[[Complaint], None],
    progress: Callable[[Counts], None] = lambda _: None,
) -> Counts:
    """Enqueue each line's envelope; safe to run again, also after it was killed: what is in is known then.

    Args:
        engine: Ours; each batch is committed, and its bell rung.
        stream: The file.
        account: For all of them.
        complain: Told each problem of each line that is refused, and each conflict.
        progress: Told after each commit.
    """
    counts = Counts()
    waiting: list[tuple[int, Event]] = []
    for line in read_lines(stream):
        counts.lines += 1
        problems, event = _event_of(line)
        if event is None:
            counts.refused += 1
            for problem in problems:
                complain(Complaint(line.number, problem.path, problem.message))
        else:
            waiting.append((line.number, event))
        if len(waiting) >= BATCH:
            _enter(engine, waiting, account, counts, complain)
            waiting.clear()
            progress(counts)
    _enter(engine, waiting, account, counts, complain)
    progress(counts)
    return counts


def _event_of(line: Line) -> tuple[tuple[Problem, ...], Event | None]:
    if line.text is None:
        return ((line.problem,) if line.problem else ()), None
    try:
        event = parse_event(parse_json(line.text))
        if event.key() is None:
            return tuple(_without_key(event)), None
    except InvalidEvent as invalid:
        return invalid.problems, None
    return (), event


def _without_key(event: Event) -> Iterator[Problem]:
    yield Problem(
        "key",
        f"is required for {event.event_type} ({event.rules.key_advice}), and an envelope has no place for it: "
        "enqueue it from Python with enqueue(session, event, key=…)",
    )


def _enter(
    engine: Engine,
    batch: list[tuple[int, Event]],
    account: str,
    counts: Counts,
    complain: Callable[[Complaint], None],
) -> None:
    if not batch:
        return
    entered = bulk.enter(engine, [event for _, event in batch], account=account)
    for (line, _), result in zip(batch, entered, strict=True):
        match result.became:
            case Became.ENQUEUED:
                counts.enqueued += 1
            case Became.KNOWN:
                counts.known += 1
            case Became.CONFLICT:
                counts.conflicts += 1
                told = f"{result.key!r} is known with other content, which was kept"
                complain(Complaint(line, "$", told, refused=False))
            case Became.REFUSED:
                counts.refused += 1
                complain(Complaint(line, "$", result.problem or "is refused"))
    if any(result.became is Became.ENQUEUED for result in entered):
        ringing.ring([account])
