"""Why an event is where it is: the one thing that holds it back, and what to do about it.

Pure: `outbox.facts` reads what is known in one look, `explain` names the first thing that applies. What only a person
can end comes before what time ends, and of two waits the longer one is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dispatcher.lifecycle import Reason, State

SILENT_AFTER = timedelta(minutes=2)
"""A worker that has neither claimed nor found nothing for so long does not count as alive."""


class Cause(StrEnum):
    """What holds an event back, or how it ended. A stable word for scripts."""

    NEVER_ENQUEUED = "never_enqueued"
    PRUNED = "pruned"

    DELIVERED = "delivered"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    DISCARDED = "discarded"
    FORGOTTEN = "forgotten"
    MERGED_LATE = "merged_late"

    LEASED = "leased"
    LEASE_OVER = "lease_over"

    PAUSED = "paused"
    SUSPENDED = "suspended"
    TYPE_SUSPENDED = "type_suspended"
    SCHEDULED = "scheduled"
    RETRY = "retry"
    LEAD_LIMITED = "lead_limited"
    NO_WORKER = "no_worker"
    BREAKER_OPEN = "breaker_open"
    THROTTLED = "throttled"
    BEHIND = "behind"
    ACCOUNT_LIMITED = "account_limited"
    AWAITS_PARTS = "awaits_parts"
    AWAITS_WHOLE = "awaits_whole"
    UNREADABLE = "unreadable"
    PROVING = "proving"
    TURN = "turn"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The one cause.

    Attributes:
        until: When it ends by itself; None: not by time, or not known.
        by: The person, worker or event that holds it.
        says: One sentence for people; holds no personal data.
        advice: What to do, as an instruction; says so if that is nothing.
    """

    cause: Cause
    says: str
    advice: str
    until: datetime | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """An account or a type that is not sent: by a person (`by`) or by the system."""

    since: datetime | None
    reason: str | None
    by: str | None = None
    probe_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventNow:
    """The event's row. `ahead` is the key of the event of its lead that goes first; `winner` of what supersedes it.

    `sealed`: no key at hand opens its content.
    """

    key: str
    event_type: str
    state: State
    reason: str | None
    attempt: int
    available_at: datetime
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    lease_until: datetime | None = None
    leased_by: str | None = None
    cancel_reason: str | None = None
    event_uuid: str | None = None
    ahead: str | None = None
    winner: str | None = None
    last_try: str | None = None
    letter: str | None = None
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the ledger keeps of a pruned event."""

    state: str
    reason: str | None
    first_seen: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known, at one moment of the database's clock.

    Attributes:
        name: The KEY or ID that was asked for.
        account: The account's name.
        event: None: no such row.
        pruned: The ledger's entry, if there is no row any more.
        throttled_until: No claims of the account until then, by a 429 or by the breaker.
        breaker_open: The breaker is not closed.
        lead_free_at: The lead's window is used up until then.
        account_free_at: The account's window is used up until then.
        proving: The account's credentials are not trusted, and one event of it is out to prove them.
        worker_seen: The last progress of any worker.
    """

    now: datetime
    name: str
    account: str
    event: EventNow | None = None
    pruned: Remembered | None = None
    paused: Stopped | None = None
    suspended: Stopped | None = None
    type_suspended: Stopped | None = None
    throttled_until: datetime | None = None
    breaker_open: bool = False
    lead_free_at: datetime | None = None
    account_free_at: datetime | None = None
    proving: bool = False
    worker_seen: datetime | None = None

    @property
    def worker_alive(self) -> bool:
        """True if a worker made progress lately."""
        return self.worker_seen is not None and self.now - self.worker_seen < SILENT_AFTER


def explain(facts: Facts) -> Explanation:
    """The one thing that holds the event back."""
    event = facts.event
    if event is None:
        return _absent(facts)
    match event.state:
        case State.PENDING:
            return _pending(facts, event)
        case State.IN_FLIGHT:
            return _in_flight(facts, event)
        case _:
            return _ended(event)


def _absent(facts: Facts) -> Explanation:
    if facts.pruned is None:
        return Explanation(
            Cause.NEVER_ENQUEUED,
            f"account {facts.account!r} has never had an event {facts.name!r}",
            "look whether the shop's transaction was committed, whether the key is spelled as the shop spells it, and "
            "whether it belongs to another account (--account)",
        )
    ended = facts.pruned.state + (f" ({facts.pruned.reason})" if facts.pruned.reason else "")
    ended += f" on {facts.pruned.ended_at:%Y-%m-%d}" if facts.pruned.ended_at else ""
    return Explanation(
        Cause.PRUNED,
        f"it ended as {ended} and was pruned after its retention; its key is still recognised",
        "nothing: enqueuing the same fact again sends nothing",
    )


def _ended(event: EventNow) -> Explanation:
    if event.state is State.DELIVERED:
        unsure = " without an event_uuid" if event.event_uuid is None else ""
        return Explanation(
            Cause.DELIVERED,
            f"RD Station accepted it{unsure}",
            "look into the lead's timeline and the automation in RD Station: what happens from there on is theirs",
        )
    if event.state is State.DEAD:
        return Explanation(
            Cause.DEAD,
            f"it is a dead letter ({event.reason}): {event.letter or 'its letter says no more'}",
            f"put the cause right, then `dispatcher dead replay {event.key}`, or give it up with `dispatcher dead "
            f"discard {event.key}`",
        )
    says, advice = _ENDS[Reason(event.reason or Reason.CANCELLED)]
    winner = event.winner if event.reason == Reason.SUPERSEDED else None
    return Explanation(Cause(event.reason or Reason.CANCELLED), says.format(by=winner or "it"), advice, by=winner)


_ENDS: dict[Reason, tuple[str, str]] = {
    Reason.CANCELLED: ("the shop took it back before it was sent", "nothing; enqueue it again if that was wrong"),
    Reason.SUPERSEDED: ("another event made it moot before it was sent: {by}", "nothing: that is what is wanted"),
    Reason.EXPIRED: (
        "its business age had passed before it could be sent",
        "see `dispatcher status` for what delayed it then; it cannot be sent any more",
    ),
    Reason.DISCARDED: ("a person gave it up", "`dispatcher show` says who and why"),
    Reason.FORGOTTEN: ("the person it was about asked to be forgotten", "nothing: its content is gone for good"),
    Reason.MERGED_LATE: (
        "it came too late: its fact had been known and pruned, or its order or cart had ended without this line",
        "nothing can add it any more; enqueue lines with their order, or pass line_items to it",
    ),
}


def _in_flight(facts: Facts, event: EventNow) -> Explanation:
    if event.lease_until is not None and event.lease_until > facts.now:
        follows = f"; it will end as {event.cancel_reason} if this attempt fails" if event.cancel_reason else ""
        return Explanation(
            Cause.LEASED,
            f"attempt {event.attempt} is being made{follows}",
            "wait: it is settled, or free again, when the lease ends",
            until=event.lease_until,
            by=event.leased_by,
        )
    if not facts.worker_alive:
        return _no_worker(facts)
    return Explanation(
        Cause.LEASE_OVER,
        f"the lease of attempt {event.attempt} has ended without a settlement: the worker died, or cannot reach the "
        "database",
        "wait for the next sweep, which ends it within seconds",
        by=event.leased_by,
    )


def _pending(facts: Facts, event: EventNow) -> Explanation:
    stopped = _stopped(facts, event)
    if stopped is not None:
        return stopped
    if event.expires_at is not None and event.expires_at <= facts.now:
        return Explanation(
            Cause.EXPIRED,
            "its business age has passed: the next sweep or claim ends it unsent",
            "nothing: sent now, it would do harm",
        )
    if event.winner is not None:
        return Explanation(
            Cause.SUPERSEDED,
            f"{event.winner} has made it moot: it ends when it is due, unsent",
            "nothing: that is what is wanted",
            by=event.winner,
        )
    if event.sealed or event.reason == Cause.UNREADABLE:
        return Explanation(
            Cause.UNREADABLE,
            "its content is sealed with a key that is not at hand, here or for the workers; it waits unsent",
            "add the key that sealed it to DISPATCHER_ENCRYPTION_KEYS of every process, and restart the workers",
        )
    waits = [wait for wait in (_due_later(facts, event), _closed(facts)) if wait is not None]
    if waits:
        longest = max(waits, key=lambda wait: wait.until or facts.now)
        return longest if facts.worker_alive or longest.cause is Cause.SCHEDULED else _no_worker(facts)
    if not facts.worker_alive:
        return _no_worker(facts)
    return _in_line(facts, event)


def _stopped(facts: Facts, event: EventNow) -> Explanation | None:
    if facts.paused is not None:
        note = f": {facts.paused.reason}" if facts.paused.reason else ""
        return Explanation(
            Cause.PAUSED,
            f"{facts.paused.by} paused the account {facts.account!r}{note}",
            f"`dispatcher resume {facts.account}`, once it may go on",
            by=facts.paused.by,
        )
    if facts.suspended is not None:
        return Explanation(
            Cause.SUSPENDED,
            f"the account {facts.account!r} is suspended ({facts.suspended.reason})",
            'put the cause right (docs/operations.md, "A suspended account"); it is probed and opens by itself',
            until=facts.suspended.probe_at,
        )
    if facts.type_suspended is not None:
        return Explanation(
            Cause.TYPE_SUSPENDED,
            f"the account {facts.account!r} sends no {event.event_type} ({facts.type_suspended.reason})",
            'put the cause right (docs/operations.md, "A suspended type"); one event of the type probes it',
            until=facts.type_suspended.probe_at,
        )
    return None


def _due_later(facts: Facts, event: EventNow) -> Explanation | None:
    if event.available_at <= facts.now:
        return None
    if event.reason in _WAITS_FOR_OTHERS:
        says, advice = _WAITS_FOR_OTHERS[event.reason]
        return Explanation(Cause(event.reason), says, advice, until=event.available_at)
    if event.reason in {"lead_limited", "lead_throttled"}:
        return _lead_limited(event.available_at)
    if event.attempt == 0:
        return Explanation(Cause.SCHEDULED, "the shop asked for a delay", "wait", until=event.available_at)
    return Explanation(
        Cause.RETRY,
        f"attempt {event.attempt} did not succeed ({event.last_try or event.reason}), and it is tried again later",
        "wait; `dispatcher show` has every attempt",
        until=event.available_at,
    )


_WAITS_FOR_OTHERS = {
    "awaits_parts": (
        "it goes out as its successor, and waits some seconds for the events of its lines",
        "wait; CartAbandoned(line_items=...) and OrderPlaced(line_items=...) name the lines at once",
    ),
    "awaits_whole": (
        "it goes out only as a line of its order or cart, which has not been sent yet",
        "`dispatcher explain` its order or cart; a line whose whole never comes becomes a dead letter after an hour",
    ),
}


def _lead_limited(until: datetime) -> Explanation:
    return Explanation(
        Cause.LEAD_LIMITED,
        "its lead has received as many events in 24 h as RD Station takes",
        "wait; if this lead is no test, ask why one person gets so many events",
        until=until,
    )


def _closed(facts: Facts) -> Explanation | None:
    if facts.throttled_until is None or facts.throttled_until <= facts.now:
        return None
    if facts.breaker_open:
        return Explanation(
            Cause.BREAKER_OPEN,
            "RD Station did not answer several times in a row: its breaker is open, and one event at a time asks",
            'wait; if RD Station is well for others, see docs/operations.md, "RD Station is down"',
            until=facts.throttled_until,
        )
    return Explanation(
        Cause.THROTTLED,
        f"RD Station answered that the quota of the account {facts.account!r} is used up",
        "wait; it opens by itself within a minute",
        until=facts.throttled_until,
    )


def _no_worker(facts: Facts) -> Explanation:
    seen = f"; the last progress was at {facts.worker_seen:%Y-%m-%dT%H:%M:%SZ}" if facts.worker_seen else ""
    return Explanation(
        Cause.NO_WORKER, f"no worker has made progress lately{seen}", "start one with `dispatcher worker`"
    )


def _in_line(facts: Facts, event: EventNow) -> Explanation:
    if event.ahead is not None:
        return Explanation(
            Cause.BEHIND,
            f"an event of the same lead goes first: {event.ahead}",
            f"`dispatcher explain {event.ahead}` says what holds that one back",
            by=event.ahead,
        )
    if facts.lead_free_at is not None:
        return _lead_limited(facts.lead_free_at)
    if facts.account_free_at is not None:
        return Explanation(
            Cause.ACCOUNT_LIMITED,
            f"the account {facts.account!r} has used up its permits of this minute",
            "wait: events go out at the permitted rate, those that have waited longest first",
            until=facts.account_free_at,
        )
    if facts.proving:
        return Explanation(
            Cause.PROVING,
            "another event of the account is out to show that the credentials work; then the others follow",
            "wait some seconds",
        )
    return Explanation(
        Cause.TURN, "nothing holds it back: it goes out with one of the next claims", "wait some seconds"
    )
