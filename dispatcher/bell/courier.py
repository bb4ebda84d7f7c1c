"""Which bells wait, which are due, and what happens when the broker does not take one. No thread, no sleep."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dispatcher import telemetry
from dispatcher.bell.publisher import Publisher, Unheard
from dispatcher.clock import Clock
from dispatcher.errors import DispatcherError

_LONGEST_FOLD = 4


class Stats(NamedTuple):
    """Bells counted since the process began; those in none of the last three were folded into another, or wait."""

    rung: int = 0
    published: int = 0
    dropped: int = 0
    failed: int = 0


class _Quiet(NamedTuple):
    """After a bell: how long the next one of its account waits at most, and until when."""

    seconds: float
    until: float


class Courier:
    """Carries bells to one broker.

    The first bell of an account is due at once. Those that follow it within `fold_seconds` become one, due at the end
    of that time; while they keep following, the time doubles, four times as long at most. So a busy shop spends little
    on bells, and one that is not waits for none. After a failure every bell is
    dropped for `silence_seconds`: the sweep has the work by then, and nobody waits for a timeout again and again.

    `take` may be called by any thread; `work` by one at a time.
    """

    def __init__(
        self,
        make_publisher: Callable[[], Publisher],
        clock: Clock,
        *,
        capacity: int = 1000,
        fold_seconds: float = 0.01,
        silence_seconds: float = 1.0,
    ) -> None:
        self._make_publisher = make_publisher
        self._clock = clock
        self._capacity = capacity
        self._fold = fold_seconds
        self._silence = silence_seconds
        self._lock = threading.Lock()
        self._waiting: dict[str, float] = {}  # how long it will be quiet after each; in the order in which they came
        self._quiet: dict[str, _Quiet] = {}
        self._silent_until = float("-inf")
        self._publisher: Publisher | None = None
        self._lost_before = False
        self._stats = Stats()

    @property
    def stats(self) -> Stats:
        """The counts so far."""
        return self._stats

    @property
    def waits(self) -> bool:
        """Whether any bell waits."""
        return bool(self._waiting)

    def take(self, accounts: Iterable[str]) -> bool:
        """Note bells for these accounts; answers whether one of them was not waiting yet, so that `work` must know."""
        with self._lock:
            now, waited = self._clock.monotonic(), len(self._waiting)
            for account in accounts:
                self._count(rung=1)
                waits = account in self._waiting
                if now < self._silent_until or (not waits and len(self._waiting) >= self._capacity):
                    self._count(dropped=1)
                elif not waits:
                    self._waiting[account] = self._quiet_after(account, now)
            return len(self._waiting) > waited

    def work(self, *, hurry: bool = False) -> float | None:
        """Publish what is due, or with `hurry` all that waits.

        Returns:
            Seconds until another bell is due; None if none waits.
        """
        while True:
            with self._lock:
                now = self._clock.monotonic()
                account = self._next(now, hurry=hurry)
                if account is None:
                    return min((self._quiet[waiting].until - now for waiting in self._waiting), default=None)
                seconds = self._waiting.pop(account)
                self._quiet[account] = _Quiet(seconds, now + seconds)
            self._carry(account)

    def hang_up(self) -> None:
        """Close the connection, if there is one; the next bell opens another."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                publisher.close()

    def _next(self, now: float, *, hurry: bool) -> str | None:
        for account in [account for account, quiet in self._quiet.items() if quiet.until <= now]:
            del self._quiet[account]
        return next((account for account in self._waiting if hurry or account not in self._quiet), None)

    def _quiet_after(self, account: str, now: float) -> float:
        before = self._quiet.get(account)
        if before is None or before.until <= now:
            return self._fold
        return min(2 * before.seconds, _LONGEST_FOLD * self._fold)

    def _carry(self, account: str) -> None:
        stale = self._publisher is not None  # a broker that restarted looks like this: worth one new connection
        try:
            try:
                self._publish(account)
            except Exception as error:
                if not stale or isinstance(error, Unheard):
                    raise
                self.hang_up()
                self._publish(account)
        except Unheard:
            self._fall_silent(dropped=1)
        except Exception as error:  # noqa: BLE001 - kombu's transports raise what they like; a bell may be lost
            self._fall_silent(failed=1)
            if not self._lost_before:
                self._lost_before = True
                fix = {"problem": str(error)} if isinstance(error, DispatcherError) else {}  # others may show the URL
                telemetry.emit("bell.lost", error=type(error).__name__, **fix)
        else:
            self._lost_before = False
            with self._lock:
                self._count(published=1)

    def _publish(self, account: str) -> None:
        if self._publisher is None:
            self._publisher = self._make_publisher()
        self._publisher.publish(account)

    def _fall_silent(self, *, dropped: int = 0, failed: int = 0) -> None:
        self.hang_up()
        with self._lock:
            self._count(dropped=dropped + len(self._waiting), failed=failed)
            self._waiting.clear()
            self._silent_until = self._clock.monotonic() + self._silence

    def _count(self, **more: int) -> None:
        self._stats = self._stats._replace(**{name: getattr(self._stats, name) + n for name, n in more.items()})
