"""What settled attempts mean for their accounts: trust, throttles, suspensions, streaks, the breaker."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, assert_never

import sqlalchemy as sa

from dispatcher.outbox import account_rows, permits, retirement, turns
from dispatcher.outbox.account_rows import AccountRow, Glance
from dispatcher.outbox.parking import unpark
from dispatcher.outbox.settlement import Notice, Settlement
from dispatcher.policy import share, streaks
from dispatcher.policy.decision import Release
from dispatcher.policy.effects import (
    CloseWindow,
    Effect,
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
from dispatcher.policy.verdicts import Verdict

_TEXT_CAP = 2000
_STRANGE = "*"  # the key of strange answers in the account's streaks; no event type is called so
_QUIET = (Proven, RestBreaker, ParkLead)
"""Effects that write to an account's row only if it has marks, or its trust is running out."""


class Applied(NamedTuple):
    """What came of effects.

    Attributes:
        settlements: A rejection that suspends its type has become a release.
        idle: Of their accounts, those that are not in the queue, and into which nothing was let by these effects.
    """

    settlements: list[Settlement]
    idle: set[str]


def apply_effects(
    connection: sa.Connection,
    ours: Sequence[Settlement],
    *,
    now: datetime,
    probe_every: timedelta,
    rng: random.Random,
    notify: Callable[[Notice], None],
) -> Applied:
    """Write what the attempts mean for their accounts. The caller commits."""
    settled: list[Settlement] = []
    opened: set[str] = set()
    by_account: dict[str, list[Settlement]] = defaultdict(list)
    for s in ours:
        by_account[s.account].append(s)
    seen = account_rows.glance(connection, list(by_account))
    written = [account for account, group in by_account.items() if _writes(group, seen.get(account), now)]
    rows = account_rows.lock_all(connection, written)  # in one order everywhere: no deadlock
    for account, group in sorted(by_account.items()):
        if account in rows:
            office = _Office(connection, rows[account], now, probe_every, rng, notify)
            settled += [office.receive(s) for s in group]
            office.close()
            opened |= {account} if office.opened else set()
        else:
            settled += group
    proven = [name for name in written if name in seen and seen[name].is_stale(now) and _proves(by_account[name])]
    account_rows.prove(connection, proven, now)
    queued = {name for name, glance in seen.items() if glance.queued}
    queued |= {name for name, row in rows.items() if row.turn_at is not None} | opened
    return Applied(settled, seen.keys() - queued)


def _writes(group: Sequence[Settlement], seen: Glance | None, now: datetime) -> bool:
    """Whether these settlements have something to write to their account's row; most successes have not."""
    if any(not isinstance(effect, _QUIET) for s in group for effect in s.effects):
        return True
    if seen is None:
        return False
    return (seen.marked and any(s.answered or s.effects for s in group)) or (seen.is_stale(now) and _proves(group))


def _proves(group: Sequence[Settlement]) -> bool:
    return any(isinstance(effect, Proven) for s in group for effect in s.effects)


class _Office:
    """One account's side of a settlement. Its row is locked."""

    def __init__(
        self,
        connection: sa.Connection,
        row: AccountRow,
        now: datetime,
        probe_every: timedelta,
        rng: random.Random,
        notify: Callable[[Notice], None],
    ) -> None:
        self._connection = connection
        self._account = row.account
        self._now = now
        self._probe_at = now + probe_every
        self._rng = rng
        self._notify = notify
        self._row = row
        self._let_in = False
        self.opened = False

    def receive(self, settlement: Settlement) -> Settlement:
        """Apply the effects; answers the settlement, changed if an effect changes what becomes of the event."""
        for effect in settlement.effects:
            settlement = self._apply(effect, settlement)
        self._let_in |= settlement.answered and settlement.verdict is not Verdict.THROTTLED
        return settlement

    def close(self) -> None:
        """Write what was collected."""
        self._raise_share()
        if self._row.streaks_changed:
            account_rows.write_streaks(self._connection, self._row)

    def _apply(self, effect: Effect, settlement: Settlement) -> Settlement:
        match effect:
            case Proven(event_type):
                self._rest(event_type)
            case CloseWindow(seconds):
                self._cut_share(settlement)
                account_rows.throttle(self._connection, self._account, self._now + timedelta(seconds=seconds))
            case SuspendAccount():
                self._suspend(effect)
            case SuspendType():
                self._suspend_type(effect)
            case StrangeAnswer():
                self._count_strange_answer(effect)
            case RejectedAlike():
                return self._count_rejection(effect, settlement)
            case FeedBreaker():
                self._feed_breaker(settlement.why)
            case RestBreaker():
                self._rest_breaker()
            case TypeRetired(event_type):
                self._retire(event_type, settlement.why)
            case ParkLead():
                pass  # with its event
            case _:
                assert_never(effect)
        return settlement

    def _cut_share(self, settlement: Settlement) -> None:
        """Learn from a 429 how much of the window is ours, once for all those that were on their way together."""
        known = self._row.share
        if not settlement.quota.account or (known is not None and self._row.is_throttled(self._now)):
            return
        found = share.cut(permits.accepted(self._connection, self._account, self._now), self._now)
        account_rows.write_share(self._connection, self._row, found)

    def _raise_share(self) -> None:
        """Learn from what RD Station has let in, until all of the window is ours again."""
        if not self._let_in or (known := self._row.share) is None:
            return
        learnt = known.accepted(permits.accepted(self._connection, self._account, self._now), self._now)
        if learnt != known:
            account_rows.write_share(self._connection, self._row, learnt)

    def _count_rejection(self, effect: RejectedAlike, settlement: Settlement) -> Settlement:
        streak, over = streaks.advance(self._row.streak(effect.event_type), effect.signature, effect.lead)
        self._row.set_streak(effect.event_type, streak.as_dict())
        if over:
            self._suspend_type(effect.suspension())
            return settlement._replace(decision=Release(effect.why))
        self._reopen(effect.event_type)
        return settlement

    def _count_strange_answer(self, effect: StrangeAnswer) -> None:
        count, over = streaks.advance_strange(int(self._row.streaks.get(_STRANGE, 0)))
        self._row.set_streak(_STRANGE, count)
        if over:
            self._suspend(effect.suspension())

    def _rest(self, event_type: str) -> None:
        """A success: what was counted in a row starts again."""
        self._row.clear_streaks(_STRANGE, event_type)
        self._reopen(event_type)

    def _retire(self, event_type: str, why: str) -> None:
        if retirement.remember(self._connection, self._row, event_type, self._now):
            self._notify(Notice(self._account, "type.retired", why))

    def _feed_breaker(self, why: str) -> None:
        if account_rows.feed_breaker(self._connection, self._row, self._now, self._rng):
            self._notify(Notice(self._account, "breaker.opened", why))

    def _rest_breaker(self) -> None:
        if account_rows.rest_breaker(self._connection, self._row, self._now):
            self._notify(Notice(self._account, "breaker.closed", "RD Station answers again"))

    def _reopen(self, event_type: str) -> None:
        if event_type in self._row.types.types:
            account_rows.open_type(self._connection, self._row, event_type)
            turns.make_due(self._connection, [self._account])
            self.opened = True
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
        newly = effect.event_type not in self._row.types.types
        account_rows.suspend_type(
            self._connection,
            self._row,
            effect.event_type,
            reason=effect.cause.value,
            detail=effect.why[:_TEXT_CAP],
            probe_at=self._probe_at,
        )
        if newly:
            self._notify(Notice(self._account, "type.suspended", f"{effect.event_type}: {effect.cause}: {effect.why}"))
