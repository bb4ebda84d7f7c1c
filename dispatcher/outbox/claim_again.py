"""Claiming anew, and at once, events that have just come back from a refused batch: each try needs its own permit.

The ordinary claim would do, but another worker's could come in between and take the batch apart. So this is done in
the transaction that settles the refused attempts, while their rows are still locked; whatever stops it (limits,
holds, another event of the lead) leaves the event to the ordinary claim, which sends it alone.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from dispatcher.outbox import account_rows, transitions
from dispatcher.outbox.allowance import allowances_of
from dispatcher.outbox.candidates import Candidate
from dispatcher.outbox.claimed import ALONE, Claimed, ClaimRules
from dispatcher.outbox.lease import lease_free
from dispatcher.outbox.looking import sort_out
from dispatcher.outbox.moment import read_clock
from dispatcher.outbox.tables import events
from dispatcher.outbox.window import candidate_columns


def claim_again(
    connection: sa.Connection, rules: ClaimRules, account: str, ids: Collection[int], *, worker: str
) -> list[Claimed]:
    """Lease those of an account's events that may go again now. The caller commits, and sends only afterwards.

    Args:
        connection: In the transaction that has just given these events back.
        rules: Leases, limits and ages.
        account: Whose they are.
        ids: Events that a refused batch held.
        worker: Who holds the leases.

    Returns:
        The leased events, each with a new attempt, lease and permit. The others stay as they are: pending.
    """
    row = account_rows.lock(connection, account)
    now = read_clock(connection)  # after the lock: an old window must not be seen
    if row.is_held() or row.is_throttled(now) or not row.trusted(now):
        return []
    quota = rules.quota_of(row)
    query = (
        sa.select(*candidate_columns(quota.lead > 0))
        .where(
            events.c.id.in_(sorted(ids)),
            events.c.account == account,
            events.c.state == transitions.PENDING,
            events.c.ready_at <= sa.bindparam("now"),
            events.c.reason == ALONE,
        )
        .order_by(events.c.id)
        .with_hint(events, "FORCE INDEX (PRIMARY)", "mysql")  # as the claim does, to lock no other account's row
        .with_hint(events, "FORCE INDEX (PRIMARY)", "mariadb")
        .with_for_update(skip_locked=True, key_share=True)
    )
    rows = connection.execute(query, {"now": now}).all()
    (allowance,) = allowances_of(connection, [row], rules, now)
    most = len(rows) if allowance.most is None else allowance.most
    look = sort_out([Candidate._make(found) for found in rows], row, rules, now, most)
    taken = lease_free(connection, [(row, look)], rules, worker=worker, now=now)
    if row.types.changed:
        account_rows.write_probe_times(connection, row)
    return taken
