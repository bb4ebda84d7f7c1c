"""Claiming: lease due events, fairly over accounts, in order per lead, with a permit for each.

Accounts queue by `turn_at`: the one that has waited longest is served first and goes to the end with what it has
left, if others wait. So an account with a million events waiting takes its turn between the others, and one without
work is not looked at. Claims of one account happen one after another under its row's lock; producers never touch that
row.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from dispatcher.outbox import account_rows, fleet, opening, parts_waiting, turns
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.allowance import allowances_of
from dispatcher.outbox.claimed import Batch, ClaimRules
from dispatcher.outbox.lease import lease_free, set_aside
from dispatcher.outbox.looking import Look, sort_out
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.visit import Visit, share_out
from dispatcher.outbox.window import (
    EVERYTHING,
    Found,
    Front,
    Lanes,
    Window,
    front_of,
    next_ready,
    soonest,
    windows,
)

_STAYS_FOR = timedelta(seconds=2)
"""An account keeps its turn so long at most: how old the turns are that are due says how busy the fleet is."""


def claim(
    connection: sa.Connection,
    rules: ClaimRules,
    *,
    worker: str,
    room: int,
    hints: Collection[str] = (),
    busy: Mapping[str, int] | None = None,
    cap: int | None = None,
    fronts: Mapping[str, Front] | None = None,
) -> Batch:
    """Lease up to `room` events. The caller commits, and sends only afterwards.

    Args:
        connection: In a transaction of its own, READ COMMITTED.
        rules: Leases, limits and ages.
        worker: Who holds the leases, for the operator.
        room: How many events the caller can send soon.
        hints: Accounts said to have work, looked at even if their turn is not known yet. Those in the queue wait.
        busy: Events of each account that the caller is sending already.
        cap: The most that the caller sends of one account at a time; None: no cap.
        fronts: Where the caller's last claims met the candidates of these accounts. What has become a candidate
            before is looked for only if nothing is due from there on: give a front for some seconds only.

    Raises:
        ConfigurationError: Payloads are sealed and this process lacks the key: it can send nothing. Roll back.
    """
    busy = busy or {}
    full = [account for account, count in busy.items() if cap is not None and count >= cap]
    batch = Batch()
    if room <= 0:
        return batch
    rows = turns.take_turns(connection, room=room, hints=hints, leave_out=full)
    batch.passed_over = sorted(set(hints).intersection(full))
    if not rows:
        return batch
    everybody, now, first = opening.ask(connection, [row.account for row in rows], fronts or {})
    asking = not everybody.outage.breaker.is_closed()
    if asking:
        locked = fleet.lock_for_probe(connection)
        if locked is None:
            return batch
        everybody, now = locked, read_clock(connection)
    if everybody.closed_until(now) is not None:
        return batch
    for row in rows:
        row.holds += everybody.all_holds()
    claiming = _Claim(connection, rules, worker, busy, cap, fronts or {}, first, now, asking, len(rows) == 1, batch)
    moved = False
    alone = not asking and len(rows) < turns.places(room)  # nobody free waits whom this claim does not visit
    for some in [[row] for row in rows] if asking else [rows]:
        moved |= claiming.visit(some, 1 if asking else room, alone=alone)
        if asking and batch.events:  # one event asks for all accounts
            fleet.send_probe(connection, batch.events[0].held, now + rules.lease)
            break
    if moved:  # else whoever tried the others again would meet the same, and try for ever; so it is during an outage
        batch.passed_over = sorted(set(hints) - {row.account for row in rows})
    batch.more |= moved and len(rows) >= turns.places(room)  # there may be others whose turn it is
    return batch


@dataclass(frozen=True, slots=True)
class _Claim:
    """One claim, and the batch that it fills. Its statements are about all accounts that it visits side by side."""

    connection: sa.Connection
    rules: ClaimRules
    worker: str
    busy: Mapping[str, int]
    cap: int | None
    fronts: Mapping[str, Front]
    known: Mapping[str, Lanes]
    now: datetime
    asking: bool
    of_one: bool
    batch: Batch

    def visit(self, rows: Sequence[AccountRow], room: int, *, alone: bool) -> bool:
        """Claim from these accounts; False if that has changed nothing: what is due is locked, and its turn is now.

        `alone`: There are no others, so none of them has to go behind them.
        """
        visits = self._begin(rows, room)
        moved = len(visits) < len(rows)
        hungry, left = visits, room
        while hungry and left > 0:
            share_out(hungry, left)
            self._look(hungry)
            left = room - sum(visit.taken for visit in visits)
            hungry = [visit for visit in hungry if visit.wants_more()]
        fronts = {visit.account.account: front_of(visit.first, self.now) for visit in visits}
        self.batch.fronts |= fronts
        staying = self._staying(visits, fronts) if alone else set()
        unqueued = {visit.account.account for visit in visits if self._can_wait(visit)} if self.of_one else set()
        self.batch.unqueued += sorted(unqueued)
        leaving = {name: front for name, front in fronts.items() if name not in staying | unqueued}
        next_turns = turns.queue_again(self.connection, leaving, self.now) | dict.fromkeys(staying, self.now)
        for visit in visits:
            following = next_turns.get(visit.account.account)
            self.batch.more |= visit.cut and following == self.now
            if not visit.taken and following == self.now and self._hides(visit.account.account):
                self.batch.more, self.batch.fronts[visit.account.account] = True, EVERYTHING
            moved |= visit.taken > 0 or following != self.now
            if visit.account.types.changed:
                account_rows.write_probe_times(self.connection, visit.account)
        return moved

    def _staying(self, visits: Sequence[Visit], fronts: Mapping[str, Front]) -> set[str]:
        """The accounts that have more to claim now, as their turns say already: their rows stay as they are.

        A drain of one shop would change its row with each claim, and while somebody else holds a transaction open,
        whoever looks the account up passes all that it has been.
        """
        due = [visit.account for visit in visits if visit.cut and visit.taken]
        lately = self.now - _STAYS_FOR
        names = [row.account for row in due if row.turn_at is not None and lately < row.turn_at <= self.now]
        first = next_ready(self.connection, {name: fronts[name] for name in names})
        return {name for name, lanes in first.items() if soonest(lanes, self.now) == self.now}

    def _can_wait(self, visit: Visit) -> bool:
        """True if the account's next turn may be looked for once its events are on their way, not before.

        It came by a hint, so it loses no place in the queue, and nothing that it could send now was left to it. Asked
        where a claim is of one account: its event has nobody to wait for.
        """
        emptied = 0 < visit.taken < visit.want and not visit.cut and not visit.freed
        return emptied and (visit.account.turn_at is None or visit.account.turn_at > self.now)

    def _begin(self, rows: Sequence[AccountRow], room: int) -> list[Visit]:
        """A visit to each account that may be claimed from now; the others get their next turns."""
        turn_of = {row.account: row.throttled_until for row in rows if row.is_throttled(self.now)}
        turn_of |= {row.account: None for row in rows if row.is_held()}
        first = self._first([row.account for row in rows if row.account not in turn_of])
        turn_of |= {name: soonest(lanes, self.now) for name, lanes in first.items()}
        due = [row for row in rows if turn_of[row.account] == self.now]
        for row in due:
            if row.share is not None and row.share.is_over(self.rules.quota_of(row).account, self.now):
                account_rows.write_share(self.connection, row, None)
        visits: list[Visit] = []
        for row, allowance in zip(due, allowances_of(self.connection, due, self.rules, self.now), strict=True):
            if allowance.most == 0:
                turn_of[row.account] = allowance.next_at
            else:
                most = room if self.cap is None else min(room, self.cap - self.busy.get(row.account, 0))
                visits.append(Visit(row, first[row.account], min(most, allowance.most or most)))
                del turn_of[row.account]
        known = {row.account: row.turn_at for row in rows}
        turns.set_turns(self.connection, {name: turn for name, turn in turn_of.items() if turn != known[name]})
        return visits

    def _first(self, names: Sequence[str]) -> dict[str, Lanes]:
        """When the first candidates of these accounts are due; before their fronts only where nothing is behind."""
        first = {name: self.known[name] for name in names if name in self.known}
        asked = {name: self.fronts.get(name, EVERYTHING) for name in names if name not in first}
        first |= next_ready(self.connection, asked)
        unsure = [name for name, lanes in first.items() if self._hides(name) and soonest(lanes, self.now) != self.now]
        return first | next_ready(self.connection, dict.fromkeys(unsure, EVERYTHING))

    def _hides(self, account: str) -> bool:
        return self.fronts.get(account, EVERYTHING) != EVERYTHING

    def _look(self, visits: Sequence[Visit]) -> None:
        """Read the windows of these visits side by side, and act on what each holds before the next is read."""
        looks = [(visit, visit.look(self.now)) for visit in visits]
        wanted = [(visit, look, window) for visit, look in looks if (window := next(look, None))]
        while wanted:
            per_lead = any(self.rules.quota_of(visit.account).lead for visit, _, _ in wanted)
            found = windows(self.connection, [window for _, _, window in wanted], self.now, per_lead=per_lead)
            self._act([visit for visit, _, _ in wanted], found)
            told = [(visit, look, _tell(look, held)) for (visit, look, _), held in zip(wanted, found, strict=True)]
            wanted = [(visit, look, window) for visit, look, window in told if window is not None]

    def _act(self, visits: Sequence[Visit], found: Sequence[Found]) -> None:
        """Lease what is free in these windows, and set the others aside."""
        looks: list[tuple[AccountRow, Look]] = []
        for visit, window in zip(visits, found, strict=True):
            row = visit.account
            apart, left_a_line = parts_waiting.set_apart(self.connection, row, window.free, self.rules.legacy, self.now)
            look = sort_out(apart, row, self.rules, self.now, visit.want - visit.taken)
            visit.taken += len(look.free)
            looks.append((row, look))
            visit.freed |= left_a_line or bool(look.gone())  # whoever stood behind them is a candidate now
            self.batch.more |= visit.freed
            self.batch.expired += len(look.expired)
            self.batch.superseded += len(look.superseded)
            self.batch.outlived += len(look.outlived)
        self.batch.events += lease_free(
            self.connection, looks, self.rules, worker=self.worker, now=self.now, asking=self.asking
        )
        self.batch.owed += set_aside(self.connection, looks, self.now)


def _tell(look: Generator[Window, Found], held: Found) -> Window | None:
    """Tell a look what its window held; answers the next that it wants."""
    try:
        return look.send(held)
    except StopIteration:
        return None
