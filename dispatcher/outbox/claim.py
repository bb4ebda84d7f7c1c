"""Claiming: lease due events, fairly over accounts, in order per lead, with a permit for each.

Accounts queue by `turn_at`: the one that has waited longest is served first and goes to the end with what it has
left. So an account with a million events waiting takes its turn between the others, and one without work is not
looked at. Claims of one account happen one after another under its row's lock; producers never touch that row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dispatcher.outbox import account_rows, fleet, looking, parts_waiting, turns
from dispatcher.outbox.account_rows import AccountRow
from dispatcher.outbox.allowance import allowance_of, next_permit
from dispatcher.outbox.claimed import Batch, Claimed, ClaimRules
from dispatcher.outbox.lease import lease_free, set_aside
from dispatcher.outbox.looking import next_ready, soonest, sort_out, window
from dispatcher.outbox.moment import read_clock


def claim(
    connection: sa.Connection,
    rules: ClaimRules,
    *,
    worker: str,
    room: int,
    hints: Collection[str] = (),
    busy: Mapping[str, int] | None = None,
    cap: int | None = None,
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

    Raises:
        ConfigurationError: Payloads are sealed and this process lacks the key: it can send nothing. Roll back.
    """
    busy = busy or {}
    full = [account for account, count in busy.items() if cap is not None and count >= cap]
    batch = Batch()
    if room <= 0:
        return batch
    rows = turns.take_turns(connection, at_most=room, hints=hints, leave_out=full)
    everybody: fleet.FleetRow | None = fleet.read(connection) if rows else None
    asking = everybody is not None and not everybody.outage.breaker.is_closed()
    if asking:
        everybody = fleet.lock_for_probe(connection)
    now = read_clock(connection)  # after the locks: a claim that waited must not see an old window
    if everybody is None or everybody.closed_until(now) is not None:
        return batch
    moved = False
    for place, row in enumerate(rows):
        row.holds += everybody.all_holds()
        share = 1 if asking else -(-(room - len(batch.events)) // (len(rows) - place))
        if cap is not None:
            share = min(share, cap - busy.get(row.account, 0))
        moved |= _claim_account(connection, row, rules, worker=worker, want=share, now=now, asking=asking, batch=batch)
        if asking and batch.events:  # one event asks for all accounts
            fleet.send_probe(connection, batch.events[0].held, now + rules.lease)
            break
    batch.more |= moved and len(rows) >= min(room, turns.AT_MOST)  # there may be others whose turn it is
    return batch


def _claim_account(
    connection: sa.Connection,
    account: AccountRow,
    rules: ClaimRules,
    *,
    worker: str,
    want: int,
    now: datetime,
    asking: bool,
    batch: Batch,
) -> bool:
    """Claim from one account; False if that has changed nothing: its candidates are locked, and its turn is now."""
    if account.is_held():
        turns.set_turn(connection, account.account, None)
        return True
    if account.is_throttled(now):
        turns.set_turn(connection, account.account, account.throttled_until)
        return True
    first = next_ready(connection, account.account)
    if not any(moment is not None and moment <= now for moment in first):
        if (following := soonest(first, now)) != account.turn_at:
            turns.set_turn(connection, account.account, following)
        return True
    quota = rules.quota_of(account)
    if account.share is not None and account.share.is_over(quota.account, now):
        account_rows.write_share(connection, account, None)
    allowance = allowance_of(connection, account, quota, now)
    if not allowance:
        turns.set_turn(connection, account.account, next_permit(connection, account, now))
        return True
    want = min(want, allowance)
    taken: list[Claimed] = []
    cut = False
    for behind, due in enumerate(first):  # events guessed to be behind others come second, but always get a look
        if due is None or due > now:
            continue
        size, seen = want, 0
        after: sa.Row[Any] | None = None
        enough = looking.LOOK_AT_MOST if len(taken) < want else want
        while seen < enough and (len(taken) < want or behind):
            size = min(size, enough - seen)
            found, after, rows = window(connection, account.account, behind, quota, now, after, size)
            rows, left_a_line = parts_waiting.set_apart(connection, account, rows, rules.legacy, now)
            batch.more |= left_a_line
            look = sort_out(rows, account, rules, now, want - len(taken))
            taken += lease_free(connection, account, look, rules, worker=worker, now=now, asking=asking)
            batch.owed += set_aside(connection, account, look, now)
            batch.expired += len(look.expired)
            batch.superseded += len(look.superseded)
            batch.outlived += len(look.outlived)
            batch.more |= bool(look.gone())  # whoever stood behind them is a candidate now
            seen += found
            if found < size:
                break
            size *= 2  # mostly blocked: take longer steps
        else:
            cut = True
    batch.events += taken
    following = soonest(next_ready(connection, account.account), now)
    batch.more |= cut and following == now
    turns.set_turn(connection, account.account, following, account.types)
    return bool(taken) or following != now
