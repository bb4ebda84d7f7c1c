"""The states of an event and every way between them, declared once.

The store's guards, the tests and the diagram in `docs/lifecycle.md` are derived from here. A state is left only by
a transition of this table, and each transition is one function in `dispatcher.outbox`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where an event stands. The values are what the database holds."""

    PENDING = "pending"
    """Due at `available_at`: new, scheduled, or waiting for a retry. A claim moves it on; a person or another event
    may end it; too old by `MAX_AGE_SECONDS`, it becomes a dead letter."""

    IN_FLIGHT = "in_flight"
    """Leased to one attempt. Its worker settles it; if the worker dies, the sweep does so once the lease has ended."""

    DELIVERED = "delivered"
    """RD Station answered 2xx, or a person found that it had arrived. Stays until retention prunes it."""

    DEAD = "dead"
    """An open dead letter exists. Only people move it on: replay or discard."""

    CANCELLED = "cancelled"
    """Ended without being sent by us; `reason` says why. Stays until retention prunes it."""


class Reason(StrEnum):
    """Why an event is `cancelled`, or why it is held or dead. A stable word for scripts; details stand beside it."""

    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    DISCARDED = "discarded"
    FORGOTTEN = "forgotten"
    MERGED_LATE = "merged_late"

    REJECTED = "rejected"
    TYPE_RETIRED = "type_retired"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    INVALID = "invalid"
    TOO_MANY_FAILURES = "too_many_failures"
    TOO_OLD = "too_old"
    HELD_UNCERTAIN = "held_uncertain"

    UUID_UNKNOWN = "uuid_unknown"
    MERGED = "merged"
    ARRIVED = "arrived"


CANCEL_REASONS = frozenset(
    {
        Reason.CANCELLED,
        Reason.SUPERSEDED,
        Reason.EXPIRED,
        Reason.DISCARDED,
        Reason.FORGOTTEN,
        Reason.MERGED_LATE,
    }
)
"""The reasons a `cancelled` row may carry; a CHECK constraint holds the same list."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One way from one or more states into one.

    Attributes:
        name: The verb, also the name of the store's function.
        sources: The states it may start from.
        target: The state it ends in.
        by: Who may do it.
        why: When it happens, for the diagram and the docs.
        fenced: True if the attempt number must match as well, so that a late worker changes nothing.
    """

    name: str
    sources: frozenset[State]
    target: State
    by: str
    why: str
    fenced: bool = False


def _one(state: State) -> frozenset[State]:
    return frozenset({state})


CLAIM = Transition("claim", _one(State.PENDING), State.IN_FLIGHT, "worker", "it is due and a permit is free")
COMPLETE = Transition(
    "complete", _one(State.IN_FLIGHT), State.DELIVERED, "worker", "RD Station accepted it", fenced=True
)
RESCHEDULE = Transition(
    "reschedule",
    _one(State.IN_FLIGHT),
    State.PENDING,
    "worker, sweep",
    "worth another try later",
    fenced=True,
)
RELEASE = Transition(
    "release", _one(State.IN_FLIGHT), State.PENDING, "worker, sweep", "given back untouched", fenced=True
)
BURY = Transition("bury", _one(State.IN_FLIGHT), State.DEAD, "worker, sweep", "no try can succeed", fenced=True)
WITHDRAW = Transition(
    "withdraw",
    _one(State.IN_FLIGHT),
    State.CANCELLED,
    "worker, sweep",
    "it was cancelled while in flight and was not delivered",
    fenced=True,
)
DEFER = Transition("defer", _one(State.PENDING), State.PENDING, "claim", "its lead has used up its window")
AWAIT_PARTS = Transition(
    "await_parts", _one(State.PENDING), State.PENDING, "claim", "a moment for the lines of a retired order or cart"
)
AWAIT_WHOLE = Transition(
    "await_whole", _one(State.PENDING), State.PENDING, "claim", "a retired line goes only with its order or cart"
)
CANCEL = Transition("cancel", _one(State.PENDING), State.CANCELLED, "shop", "the shop took it back")
SUPERSEDE = Transition("supersede", _one(State.PENDING), State.CANCELLED, "claim", "another event made it moot")
RECOGNISE = Transition("recognise", _one(State.PENDING), State.CANCELLED, "claim", "its fact was known, and is pruned")
EXPIRE = Transition("expire", _one(State.PENDING), State.CANCELLED, "claim, sweep", "its business age has passed")
OUTLIVE = Transition("outlive", _one(State.PENDING), State.DEAD, "claim", "it waited longer than MAX_AGE_SECONDS")
MERGE_LATE = Transition(
    "merge_late", _one(State.PENDING), State.CANCELLED, "claim", "its order or cart has ended without this line"
)
STRAND = Transition("strand", _one(State.PENDING), State.DEAD, "claim", "a retired line whose order or cart never came")
REPLACE = Transition("replace", _one(State.PENDING), State.PENDING, "shop", "the same key came with other content")
REVIVE = Transition(
    "revive", _one(State.CANCELLED), State.PENDING, "shop", "taken back before it could arrive, enqueued again"
)
CONFIRM = Transition("confirm", _one(State.DEAD), State.DELIVERED, "operator", "a person found that it had arrived")
REPLAY = Transition("replay", _one(State.DEAD), State.PENDING, "operator", "a person asked for another try")
DISCARD = Transition(
    "discard", frozenset({State.DEAD, State.PENDING}), State.CANCELLED, "operator", "a person gave it up"
)
FORGET = Transition(
    "forget", frozenset({State.DEAD, State.PENDING}), State.CANCELLED, "operator", "its lead asked to be forgotten"
)

TRANSITIONS: tuple[Transition, ...] = (
    CLAIM, COMPLETE, RESCHEDULE, RELEASE, BURY, WITHDRAW, DEFER, AWAIT_PARTS, AWAIT_WHOLE, CANCEL, SUPERSEDE, RECOGNISE,
    EXPIRE, OUTLIVE, MERGE_LATE, STRAND, REPLACE, REVIVE, CONFIRM, REPLAY, DISCARD, FORGET,
)  # fmt: skip
"""Every transition there is."""
