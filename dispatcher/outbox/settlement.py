"""What a settlement is given, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dispatcher.outbox.permits import NO_LIMITS, Quota
from dispatcher.outbox.transitions import Held
from dispatcher.policy.decision import Decision
from dispatcher.policy.effects import Effects
from dispatcher.policy.outcome import Outcome
from dispatcher.policy.verdicts import Verdict


class Settlement(NamedTuple):
    """One attempt with its judgement.

    Attributes:
        held: The attempt, and the fence.
        account: The event's account.
        event_type: Its type.
        key: Its idempotency key, for the log.
        verdict: What the attempt came to.
        decision: What becomes of the event.
        effects: What it means for everything else.
        outcome: The facts; None if nothing was sent or nobody knows.
        why: One redacted sentence, kept with the attempt.
        quota: The limits that its permit was reserved under.
        sent_as: The type of the request, where it was not the event's own but its successor.
    """

    held: Held
    account: str
    event_type: str
    key: str
    verdict: Verdict
    decision: Decision
    effects: Effects = ()
    outcome: Outcome | None = None
    why: str = ""
    quota: Quota = NO_LIMITS
    sent_as: str | None = None

    @property
    def sent(self) -> bool:
        """True if a byte of the request may have left: its permit is used."""
        if self.outcome is None:
            return self.verdict not in {Verdict.RELEASED, Verdict.MALFORMED}
        return self.outcome.stage.may_have_arrived

    @property
    def answered(self) -> bool:
        """True if the request was sent and nothing more will come of it: its window runs from now on."""
        return self.sent and self.outcome is not None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator wants to hear about, once."""

    account: str
    name: str
    detail: str


@dataclass(slots=True)
class Settled:
    """What a settlement did.

    Attributes:
        done: Settled now.
        lost: No longer ours: a later attempt or a person came first. Nothing was changed.
        busy: Still ours, but the row is locked by somebody else; settle them again soon.
        owed: Events whose lead's next event could not be woken yet; call `wake` with them soon.
        again: Accounts that may have something to claim, or sooner than was known: hint at them. Of the others of
            `done` nothing is known that waits; whoever makes it wait rings, or gives them a turn.
        notices: Account effects worth an operator's attention.
    """

    done: list[Settlement] = field(default_factory=list)
    lost: list[Settlement] = field(default_factory=list)
    busy: list[Settlement] = field(default_factory=list)
    owed: list[int] = field(default_factory=list)
    again: set[str] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)
