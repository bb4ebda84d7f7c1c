"""`cancel`: the shop takes a waiting event back, in its own transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dispatcher.events import validate_key
from dispatcher.lifecycle import Reason, State
from dispatcher.outbox import transitions
from dispatcher.outbox.intake import fact_hash, validate_account
from dispatcher.outbox.tables import events
from dispatcher.outbox.wake import owe, wake

if TYPE_CHECKING:  # the async half of SQLAlchemy is loaded only by shops that use it
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


def cancel(session: Session | sa.Connection, key: str, *, account: str = "default") -> bool:
    """End a waiting event as cancelled, in the transaction of `session`, which the caller commits.

    An event that is being sent at this moment may arrive; it is marked, so that nothing is sent again for it.

    Returns:
        True if it was waiting and is cancelled; False if nothing was waiting under this key.

    Raises:
        InvalidEvent: The key or the account's name cannot be one.
    """
    fact = fact_hash(validate_key(key))
    connection = session if isinstance(session, sa.Connection) else session.connection()
    query = sa.select(events.c.id, events.c.state).where(
        events.c.account == validate_account(account), events.c.fact == fact
    )
    row = connection.execute(query.with_for_update(key_share=True)).one_or_none()
    if row is None:
        return False
    if row.state == State.IN_FLIGHT:
        transitions.mark_cancelled(connection, [row.id], Reason.CANCELLED)
        return False
    if not transitions.cancel(connection, [row.id]):
        return False
    owe(connection, wake(connection, [row.id]).owed)
    return True


async def cancel_async(session: AsyncSession | AsyncConnection, key: str, *, account: str = "default") -> bool:
    """`cancel` for SQLAlchemy's async `AsyncSession` and `AsyncConnection`."""
    return await session.run_sync(lambda sync: cancel(sync, key, account=account))
