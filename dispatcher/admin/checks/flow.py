"""Whether events flow: late ones, limits that hold them back, workers that were ended, letters nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.admin.checks.finding import Finding, ok, warning
from dispatcher.admin.moments import span
from dispatcher.admin.root import Root
from dispatcher.outbox import notice_rows
from dispatcher.outbox.overview import AccountState, AccountView, Overview
from dispatcher.outbox.transaction import reading
from dispatcher.policy.notices import NEARLY_ALL

_SKEW_SECONDS = 5.0
_LATE_SECONDS = 300.0
_DRAIN_SECONDS = 900.0
_DAY_SECONDS = 86_400.0
_TRIES = 3


def examine(root: Root, seen: Overview) -> Iterator[Finding]:
    """What the overview shows, and what stands beside it in the database."""
    yield _clocks(root, seen)
    yield from _stalled(seen)
    for account in seen.accounts:
        yield from _flow(account)
    if seen.oldest_dead_seconds > _DAY_SECONDS:
        yield warning(
            "dead.open",
            f"{seen.states['dead']} dead letter(s) are open, the oldest for {span(seen.oldest_dead_seconds)}",
            "look at them with `dispatcher dead list`: correct and replay, or discard",
        )
    untold = reading(root.engine, lambda connection: notice_rows.untold(connection, tries=_TRIES))
    if untold:
        yield warning(
            "notices.untold",
            f"the webhook has not taken {untold} notice(s); they are in the workers' log",
            "correct DISPATCHER_NOTICE_URL, or bring its receiver back",
        )


def _clocks(root: Root, seen: Overview) -> Finding:
    skew = abs((root.clock.now() - seen.at).total_seconds())
    if skew <= _SKEW_SECONDS:
        return ok("clock.skew", "this machine's clock and the database's agree")
    return warning(
        "clock.skew",
        f"this machine's clock and the database's differ by {skew:.0f} s",
        "let both follow a time server; leases and limits use the database's and are right all the same",
    )


def _stalled(seen: Overview) -> Iterator[Finding]:
    ended = sorted(worker.worker for worker in seen.workers if worker.stalled_at is not None)
    if ended:
        yield warning(
            "worker.stalled",
            f"within the last hour a watchdog has ended {', '.join(ended)}: it took no work, although some was due",
            "see that it runs again; if it happens repeatedly, look at the broker and at the worker's queues",
        )


def _flow(account: AccountView) -> Iterator[Finding]:
    name = account.account
    if account.reason == "breaker_open":
        yield warning(
            "breaker.open",
            f"RD Station fails for the account {name!r} again and again; it is asked less often",
            "wait, or look at the way between the workers and RD Station; it closes by itself",
        )
    if account.state is not AccountState.OPEN:
        return
    limits = account.limits
    if limits and limits.allowed and limits.used >= NEARLY_ALL * limits.allowed:
        seconds = 60 * account.due / limits.allowed
        if seconds > _DRAIN_SECONDS:
            yield warning(
                "limits.too_low",
                f"{account.due} events of the account {name!r} are due; at {limits.allowed} a minute the last one goes "
                f"in {span(seconds)}",
                "wait, or raise DISPATCHER_ACCOUNT_PER_MINUTE to what your plan allows",
            )
    elif account.oldest_due_seconds > _LATE_SECONDS:
        yield warning(
            "events.late",
            f"an event of the account {name!r} has been due for {span(account.oldest_due_seconds)}, and nothing holds "
            "the account",
            "see that workers run; `dispatcher explain KEY` says what holds one event",
        )
