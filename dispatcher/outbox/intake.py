"""From what the shop passes to the row that is written: validated, named and hashed, without touching a database."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events import Event, fact_of, fingerprint, lead_hash, parse_event, validate_key
from dispatcher.events.succession import whole_key
from dispatcher.events.supersede import Subject, subject_of

Ordering = Literal["lead", "none"]
OnConflict = Literal["keep", "raise", "replace"]
OnInvalid = Literal["raise", "dead_letter"]

_ORDERINGS, _ON_CONFLICT, _ON_INVALID = get_args(Ordering), get_args(OnConflict), get_args(OnInvalid)
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_LONGEST_DELAY = timedelta(days=366)


class Entry(NamedTuple):
    """One event, ready to be written.

    Attributes:
        values: Columns of `outbox_events`; due times are seconds from the statement's time (`delay`, `life`).
        problems: Why it is filed as a dead letter at once; empty for a good event.
    """

    event_id: UUID
    account: str
    key: str
    fact: str
    fingerprint: str | None
    event_type: str
    lead: str
    ordering: Ordering
    subject: Subject | None
    payload: str
    attached: str | None
    whole: str | None
    delay: float
    life: float | None
    problems: tuple[Problem, ...] = ()
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """The keyword arguments of `enqueue`, see there."""

    account: str = "default"
    key: str | None = None
    delay: timedelta | None = None
    expires_in: timedelta | None = None
    ordering: Ordering = "lead"
    on_conflict: OnConflict = "keep"
    on_invalid: OnInvalid = "raise"
    traceparent: str | None = None


def prepare(
    event: Event | Mapping[str, Any],
    options: Options,
    secret: bytes,
    new_id: Callable[[], UUID],
    seal: Callable[[str], str] = str,
) -> Entry:
    """Check everything about one event, at once. `seal` is what its content goes through before it is stored.

    Raises:
        InvalidEvent: With every problem of the event and of the options. With `on_invalid="dead_letter"` the
            problems of a raw envelope are kept in the entry instead; those of the options are the caller's own
            mistakes and always raised.
    """
    found = list(_option_problems(options))
    typed, key = None, options.key
    try:
        typed = event if isinstance(event, Event) else parse_event(event)
        if key is None:
            key = typed.key()
            if key is None:
                found.append(Problem("key", f"is required for {typed.event_type}: {typed.rules.key_advice}"))
    except InvalidEvent as invalid:
        if options.on_invalid == "dead_letter" and not isinstance(event, Event) and not found:
            from dispatcher.outbox.quarantine import quarantined  # see there

            return quarantined(event, invalid.problems, options, secret, new_id, seal)
        found = [*invalid.problems, *found]
    if found or typed is None or key is None:
        raise InvalidEvent(found)
    life = options.expires_in if options.expires_in is not None else typed.rules.expires_in
    payload, attached, lead = typed.payload(), typed.attached(), lead_hash(typed.email, secret)
    return Entry(
        event_id=new_id(),
        account=options.account,
        key=key,
        fact=fact_hash(key),
        fingerprint=fingerprint(payload),
        event_type=typed.event_type,
        lead=lead,
        ordering=options.ordering,
        subject=subject_of(typed, lead),
        payload=seal(typed.payload_json()),
        attached=seal(json.dumps(attached, ensure_ascii=False, sort_keys=True)) if attached else None,
        whole=whole_hash(typed.event_type, payload) if typed.rules.retired else None,
        delay=options.delay.total_seconds() if options.delay else 0.0,
        life=life.total_seconds() if life else None,
        traceparent=options.traceparent,
    )


def fact_hash(key: str) -> str:
    """What `outbox_events.fact` holds: SHA-256 of the fact the key names, in hex.

    A hash and not the key itself, because MySQL's collations would take keys that differ in a trailing blank for one.
    """
    return hashlib.sha256(fact_of(key).encode()).hexdigest()


def whole_hash(event_type: str, payload: Mapping[str, Any]) -> str | None:
    """What `outbox_events.whole` holds: one hash for an order or cart of a retired type and all its lines.

    It is the fact of the whole's default key, so the row of its successor has it as `fact`. None for other types, and
    where the payload does not name the whole.
    """
    key = whole_key(event_type, payload)
    return None if key is None else fact_hash(key)


def validate_account(account: str) -> str:
    """The account's name, if it can be one.

    Raises:
        InvalidEvent: With the path `account`.
    """
    if not _ACCOUNT.fullmatch(account):
        accepted = "must be 1 to 64 letters, digits, '.', '_', ':' or '-', such as shop-17"
        raise InvalidEvent([Problem("account", accepted)])
    return account


def _option_problems(options: Options) -> list[Problem]:
    found: list[Problem] = []
    try:
        validate_account(options.account)
    except InvalidEvent as invalid:
        found += invalid.problems
    try:
        if options.key is not None:
            validate_key(options.key)
    except InvalidEvent as invalid:
        found += invalid.problems
    if options.delay is not None and not timedelta(0) <= options.delay <= _LONGEST_DELAY:
        found.append(Problem("delay", f"must be between 0 and {_LONGEST_DELAY.days} days"))
    if options.expires_in is not None and not timedelta(0) < options.expires_in <= _LONGEST_DELAY:
        found.append(Problem("expires_in", f"must be more than 0 and at most {_LONGEST_DELAY.days} days"))
    found += [
        Problem(name, f"must be one of {', '.join(allowed)}")
        for name, value, allowed in (
            ("ordering", options.ordering, _ORDERINGS),
            ("on_conflict", options.on_conflict, _ON_CONFLICT),
            ("on_invalid", options.on_invalid, _ON_INVALID),
        )
        if value not in allowed
    ]
    return found
