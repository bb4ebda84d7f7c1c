"""Settling: what became of the attempts, written in one short transaction, fenced by their numbers.

The worker settles what it sent, the sweep what a dead worker left; both bring decisions, this applies them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

import sqlalchemy as sa

from dispatcher.lifecycle import Reason
from dispatcher.outbox import account_rows, dead_letters, permits, transitions
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.candidates import belongs_to
from dispatcher.outbox.dead_letters import Letter
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.tables import attempts, events
from dispatcher.outbox.transitions import Held, Later
from dispatcher.outbox.wake import wake
from dispatcher.policy import streaks
from dispatcher.policy.decision import Bury, Complete, Decision, Release, Reschedule
from dispatcher.policy.effects import (
    CloseWindow,
    Effect,
    Effects,
    FeedBreaker,
    ParkLead,
    Proven,
    RejectedAlike,
    RestBreaker,
    StrangeAnswer,
    SuspendAccount,
    SuspendType,
    TypeRetired,
)
from dispatcher.policy.outcome import Outcome
from dispatcher.policy.verdict import Verdict

_TEXT_CAP = 2000
_UNPARK_AT_MOST = 1000
_STRANGE = "*"  # the key of strange answers in the account's streaks; no event type is called so


@dataclass(frozen=True, slots=True)
class Settlement:
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

    @property
    def sent(self) -> bool:
        """True if a byte of the request may have left: its permit is used."""
        if self.outcome is None:
            return self.verdict not in {Verdict.RELEASED, Verdict.MALFORMED}
        return self.outcome.stage.may_have_arrived


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
        notices: Account effects worth an operator's attention.
    """

    done: list[Settlement] = field(default_factory=list)
    lost: list[Settlement] = field(default_factory=list)
    busy: list[Settlement] = field(default_factory=list)
    owed: list[int] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def settle(
    connection: sa.Connection,
    settlements: Sequence[Settlement],
    *,
    quota: Quota,
    probe_every: timedelta,
    worker: str,
) -> Settled:
    """Apply decisions and effects. The caller commits.

    Nothing here waits for a shop's transaction: rows that somebody else has locked are answered as `busy`.
    """
    result = Settled()
    asked = {settlement.held: settlement for settlement in settlements}  # an old and a new attempt may come together
    locked = connection.execute(
        sa.select(events.c.id, events.c.attempt, events.c.cancel_reason, events.c.available_at)
        .where(events.c.id.in_(sorted({held.id for held in asked})), events.c.state == transitions.IN_FLIGHT)
        .order_by(events.c.id)
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    rows = {held: row for row in locked if (held := Held(row.id, row.attempt)) in asked}
    ours = [asked[held] for held in rows]
    _sort_out_the_rest(connection, [s for s in asked.values() if s.held not in rows], result)
    if not ours:
        return result
    now = read_clock(connection)
    ours = _apply_effects(connection, ours, now, probe_every, result)
    _write_states(connection, ours, rows, now)
    _write_attempts(connection, ours, now, worker)
    answered = [s.held for s in ours if s.sent and s.outcome is not None]  # the others count from their lease's end
    permits.use(connection, answered, quota=quota, now=now)
    permits.give_back(connection, [s.held for s in ours if not s.sent], quota=quota)
    result.done = ours
    result.owed = wake(connection, [s.held.id for s in ours])
    return result


def _sort_out_the_rest(connection: sa.Connection, missing: Sequence[Settlement], result: Settled) -> None:
    if not missing:
        return
    query = sa.select(events.c.id, events.c.attempt).where(
        events.c.id.in_([s.held.id for s in missing]), events.c.state == transitions.IN_FLIGHT
    )
    still_ours = {Held(row.id, row.attempt) for row in connection.execute(query)}
    for settlement in missing:
        (result.busy if settlement.held in still_ours else result.lost).append(settlement)


def _write_states(connection: sa.Connection, ours: Iterable[Settlement], rows: dict[Held, Any], now: datetime) -> None:
    completed: dict[Reason | None, dict[Held, str | None]] = defaultdict(dict)
    buried: dict[Held, Reason] = {}
    letters: list[Letter] = []
    again: list[Later] = []
    back: list[Later] = []
    withdrawn: list[Held] = []
    for s in ours:
        row = rows[s.held]
        if row.cancel_reason is not None and not isinstance(s.decision, Complete):
            withdrawn.append(s.held)
            continue
        match s.decision:
            case Complete(event_uuid, reason):
                completed[reason][s.held] = event_uuid
            case Reschedule(delay, failed, streak, _):
                later = now + timedelta(seconds=delay)
                again.append(Later(s.held, later, failed=failed, postponed=streak, reason=s.verdict.value))
            case Release():
                parked = [effect.seconds for effect in s.effects if isinstance(effect, ParkLead)]
                due = now + timedelta(seconds=parked[0]) if parked else row.available_at
                reason_word = None if s.verdict is Verdict.RELEASED else s.verdict.value
                back.append(Later(s.held, due, failed=False, postponed=0, reason=reason_word))
            case Bury(reason, why):
                buried[s.held] = reason
                errors = s.outcome.errors if s.outcome else ()
                letters.append(
                    Letter(s.held.id, s.account, s.event_type, reason, why[:_TEXT_CAP], s.held.attempt, errors)
                )
            case _:
                assert_never(s.decision)
    for reason, group in completed.items():
        transitions.complete(connection, group, now=now, reason=reason)
    transitions.reschedule(connection, again)
    transitions.release(connection, back)
    transitions.bury(connection, buried, now=now)
    transitions.withdraw(connection, withdrawn, now=now)
    dead_letters.open_letters(connection, letters)


def _write_attempts(connection: sa.Connection, ours: Iterable[Settlement], now: datetime, worker: str) -> None:
    rows = [
        {
            "event": s.held.id,
            "attempt": s.held.attempt,
            "verdict": s.verdict.value,
            "stage": None if s.outcome is None else s.outcome.stage.name.lower(),
            "status": None if s.outcome is None else s.outcome.status,
            "detail": (s.why or (s.outcome.detail if s.outcome else None) or "")[:_TEXT_CAP] or None,
            "errors": json.dumps([error.as_dict() for error in s.outcome.errors])
            if s.outcome and s.outcome.errors
            else None,
            "excerpt": None if s.outcome is None else s.outcome.excerpt,
            "worker": worker,
            "seconds": None if s.outcome is None else s.outcome.seconds,
            "ended_at": now,
        }
        for s in ours
    ]
    connection.execute(sa.insert(attempts), rows)


def _apply_effects(
    connection: sa.Connection,
    ours: Sequence[Settlement],
    now: datetime,
    probe_every: timedelta,
    result: Settled,
) -> list[Settlement]:
    """Write what the attempts mean for their accounts; a rejection that suspends its type becomes a release."""
    settled: list[Settlement] = []
    by_account: dict[str, list[Settlement]] = defaultdict(list)
    for s in ours:
        by_account[s.account].append(s)
    for account, group in sorted(
        by_account.items()
    ):  # in one order everywhere, so that two settlements cannot deadlock
        office = _Office(connection, account, now, probe_every, result.notices.append)
        settled += [office.receive(s) for s in group]
        office.close()
    return settled


class _Office:
    """One account's side of a settlement. Locks the account's row only if there is something to write there."""

    def __init__(
        self,
        connection: sa.Connection,
        account: str,
        now: datetime,
        probe_every: timedelta,
        notify: Callable[[Notice], None],
    ) -> None:
        self._connection = connection
        self._account = account
        self._now = now
        self._probe_at = now + probe_every
        self._notify = notify
        self._row: AccountRow | None = None
        self._proven = False

    def receive(self, settlement: Settlement) -> Settlement:
        """Apply the effects; answers the settlement, changed if an effect changes what becomes of the event."""
        for effect in settlement.effects:
            settlement = self._apply(effect, settlement)
        return settlement

    def close(self) -> None:
        """Write what was collected."""
        if self._row is not None and self._row.streaks_changed:
            account_rows.write_streaks(self._connection, self._row)
        if self._proven:
            account_rows.prove(self._connection, self._account, self._now)

    @property
    def _locked(self) -> AccountRow:
        if self._row is None:
            self._row = account_rows.lock(self._connection, self._account)
        return self._row

    def _apply(self, effect: Effect, settlement: Settlement) -> Settlement:
        match effect:
            case Proven(event_type):
                self._proven = True
                self._rest(event_type)
            case CloseWindow(seconds):
                account_rows.throttle(self._connection, self._account, self._now + timedelta(seconds=seconds))
            case SuspendAccount():
                self._suspend(effect)
            case SuspendType():
                self._suspend_type(effect)
            case StrangeAnswer():
                count, over = streaks.advance_strange(int(self._locked.streaks.get(_STRANGE, 0)))
                self._locked.set_streak(_STRANGE, count)
                if over:
                    self._suspend(effect.suspension())
            case RejectedAlike(event_type, signature, lead, _):
                streak, over = streaks.advance(self._locked.streak(event_type), signature, lead)
                self._locked.set_streak(event_type, streak.as_dict())
                if over:
                    self._suspend_type(effect.suspension())
                    return replace(settlement, decision=Release(effect.why))
                self._reopen(event_type)
            case TypeRetired() | ParkLead() | FeedBreaker() | RestBreaker():
                pass  # parked in `_write_states`; the others are remembered from the next issue on
            case _:
                assert_never(effect)
        return settlement

    def _rest(self, event_type: str) -> None:
        """A success: what was counted in a row starts again."""
        if self._row is None and not account_rows.has_marks(self._connection, self._account):
            return
        self._locked.clear_streaks(_STRANGE, event_type)
        self._reopen(event_type)

    def _reopen(self, event_type: str) -> None:
        if event_type in self._locked.types.types:
            account_rows.open_type(self._connection, self._locked, event_type)
            account_rows.make_due(self._connection, [self._account])
            unpark(self._connection, self._account, event_type)
            self._notify(Notice(self._account, "type.opened", event_type))

    def _suspend(self, effect: SuspendAccount) -> None:
        newly = account_rows.suspend(
            self._connection,
            self._account,
            reason=effect.cause.value,
            detail=effect.why[:_TEXT_CAP],
            now=self._now,
            probe_at=self._probe_at,
        )
        if newly:
            self._notify(Notice(self._account, "account.suspended", f"{effect.cause}: {effect.why}"))

    def _suspend_type(self, effect: SuspendType) -> None:
        newly = effect.event_type not in self._locked.types.types
        account_rows.suspend_type(
            self._connection,
            self._locked,
            effect.event_type,
            reason=effect.cause.value,
            detail=effect.why[:_TEXT_CAP],
            probe_at=self._probe_at,
        )
        if newly:
            self._notify(Notice(self._account, "type.suspended", f"{effect.event_type}: {effect.cause}: {effect.why}"))


def unpark(connection: sa.Connection, account: str, event_type: str, *, at_most: int = _UNPARK_AT_MOST) -> int:
    """Make events of a suspended type candidates again: the oldest few.

    More than an account sends between two sweeps; `sweep.Repair` brings the others, and those locked by somebody.
    """
    parked = (
        sa.select(events.c.id)
        .where(
            belongs_to(connection.dialect.name, account),
            events.c.event_type == event_type,
            events.c.state == transitions.PENDING,
            events.c.ready_at.is_(None),
            events.c.reason == account_rows.PARKED,
        )
        .order_by(events.c.line_at, events.c.id)
    )
    ids = list(connection.scalars(parked.limit(at_most).with_for_update(skip_locked=True, key_share=True)))
    if ids:
        statement = sa.update(events).where(events.c.id.in_(ids))
        connection.execute(statement.values(ready_at=events.c.available_at, behind=0, reason=None))
    return len(ids)
