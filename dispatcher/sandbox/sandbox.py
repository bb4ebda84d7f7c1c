"""What a user of the sandbox holds."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

from dispatcher.clock import Clock, SystemClock
from dispatcher.errors import ConfigurationError
from dispatcher.sandbox.clock import AdjustableClock
from dispatcher.sandbox.control import Control
from dispatcher.sandbox.faults import Fault, FaultKind, Faults, FaultSchedule
from dispatcher.sandbox.messages import Answer, Request
from dispatcher.sandbox.options import Options
from dispatcher.sandbox.provider import Provider
from dispatcher.sandbox.recorder import Arrival, Recorder
from dispatcher.sandbox.server import SandboxServer
from dispatcher.sandbox.tokens import (
    ACCESS_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    REFRESH_TOKEN,
    AccountSpec,
    Credentials,
    with_default,
)
from dispatcher.sandbox.windows import Violations
from dispatcher.sandbox.world import World


class Sandbox:
    """A local RD Station. Use it as a context manager, or call `start` and `stop`; what it knows outlives a stop.

    Args:
        clock: Arrivals, windows and token expiry go by it; `advance` moves the sandbox ahead of it.
        options: The switches.
        accounts: The accounts to know from the start; `{"default": {}}` if left out.
        schedule: Faults at random, see `faults_schedule`.
        rng: Makes tokens and uuids.
        host: Where to listen; loopback unless there is a reason.
        port: 0 picks a free one, which a later `start` keeps.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        options: Options | None = None,
        accounts: Mapping[str, AccountSpec] | None = None,
        schedule: FaultSchedule | None = None,
        rng: random.Random | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.clock = AdjustableClock(clock or SystemClock())
        options = options or Options()
        rng = rng or random.Random()  # noqa: S311  # made-up tokens protect nothing
        self._world = World(options, self.clock, rng, Faults(schedule), Credentials(rng), Recorder(options.keep))
        for account, spec in with_default(accounts).items():
            self.add_account(account, spec)
        self._provider = Provider(self._world)
        self._host, self._port = host, port
        self._server: SandboxServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: The port is taken, or the host is not this machine's.
        """
        try:
            self._server = SandboxServer((self._host, self._port), self._provider, Control(self), SystemClock())
        except OSError as refused:
            raise ConfigurationError(
                f"the sandbox cannot listen on {self._host}:{self._port} ({refused.strerror}); choose another --port"
            ) from refused
        self._port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="rd-sandbox", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and end every connection; harmless if it is not running."""
        if self._server is not None and self._thread is not None:
            self._server.close()
            self._thread.join()
            self._server = self._thread = None

    def answer(self, request: Request) -> Answer:
        """Answer one request in this process, without a socket and without `start`.

        For simulated time. `Answer.wire` and `Answer.wait_seconds` say how it would go onto the wire.
        """
        exchange = self._provider.receive(request)
        self._provider.leave(exchange)
        return exchange.answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        host = "127.0.0.1" if self._host in ("0.0.0.0", "::", "") else self._host  # noqa: S104  # compared, not bound
        return f"http://{host}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point a worker, or a shop's own test, to the account `default` of this sandbox."""
        values = {
            "RD_BASE_URL": self.url,
            "RD_CLIENT_ID": CLIENT_ID,
            "RD_CLIENT_SECRET": CLIENT_SECRET,
            "RD_REFRESH_TOKEN": REFRESH_TOKEN,
            "RD_ACCESS_TOKEN": ACCESS_TOKEN,
        }
        return {f"DISPATCHER_{name}": value for name, value in values.items()}

    # What arrived

    def arrivals(
        self,
        event_type: str | None = None,
        key_field: str | None = None,
        key: object = None,
        accepted: bool | None = None,
    ) -> list[Arrival]:
        """What arrived, in order: of this type; with this payload field; with that field (or the id) equal to `key`.

        A batch gives one arrival per event. Requests without an event (`/auth/token`) have no `event_type`.
        """
        with self._world.lock:
            return self._world.recorder.select(event_type, key_field, key, accepted)

    def wait_for(
        self,
        count: int,
        event_type: str | None = None,
        key_field: str | None = None,
        key: object = None,
        accepted: bool | None = None,
        seconds: float = 10.0,
    ) -> list[Arrival]:
        """Wait until at least so many such arrivals were decided on, and answer them; for tests.

        Raises:
            TimeoutError: They did not come within `seconds` of real time.
        """
        found: list[Arrival] = []

        def enough() -> bool:
            found[:] = self._world.recorder.select(event_type, key_field, key, accepted)
            return len(found) >= count

        with self._world.lock:
            if not self._world.lock.wait_for(enough, seconds):
                raise TimeoutError(f"{len(found)} of {count} arrivals after {seconds} seconds")
        return found

    def copies(
        self, key_field: str | None = None, event_type: str | None = None, accepted: bool | None = True
    ) -> Counter[object]:
        """How often each order, cart or other id was accepted; more than one means a duplicate."""
        found = self.arrivals(event_type, key_field, accepted=accepted)
        return Counter(one.field(key_field) if key_field else one.key for one in found if one.event_type)

    def counts(self) -> dict[str, Any]:
        """`{"requests": {"POST /platform/events": {"200": n}}, "max_per_minute": {account: n}, "total": n}`."""
        with self._world.lock:
            requests: dict[str, dict[str, int]] = {}
            for (request, status), times in sorted(self._world.recorder.counts.items(), key=str):
                requests.setdefault(request, {})[str(status or "none")] = times
            per_minute = {one.account: one.max_in_window for one in self._world.violations().accounts}
            return {"requests": requests, "max_per_minute": per_minute, "total": self._world.recorder.requests}

    def count(self, path: str, status: int | None = None, method: str = "POST") -> int:
        """Requests to a path, of one status or of all."""
        by_status = self.counts()["requests"].get(f"{method} {path}", {})
        return sum(by_status.values()) if status is None else by_status.get(str(status), 0)

    def violations(self) -> Violations:
        """What arrived above a limit, by the sandbox's own windows."""
        with self._world.lock:
            return self._world.violations()

    def summary(self) -> str:
        """One sentence for people: what was accepted, and what was wrong with it."""
        violations, found = self.violations(), self.arrivals(accepted=True)
        accepted = sum(one.event_type is not None for one in found)
        limits = f"{violations.total} above a limit" if violations.total else "no limit exceeded"
        return f"{accepted} events accepted, {limits}, {violations.lead_overlaps} times two events of one lead at once"

    def reset(self) -> None:
        """Forget arrivals, counts, windows and faults; tokens, switches and the clock stay."""
        with self._world.lock:
            self._world.forget_traffic()
            self._world.faults.clear()

    # What goes wrong

    def break_with(self, fault: Fault | FaultKind, **details: Any) -> None:
        """Play a fault: `break_with(FaultKind.STATUS, status=503, times=2, key_contains="1001")`."""
        with self._world.lock:
            self._world.faults.add(fault if isinstance(fault, Fault) else Fault(fault, **details))

    def schedule(self, schedule: FaultSchedule | None) -> None:
        """Play faults by a schedule from now on; None ends it."""
        with self._world.lock:
            self._world.faults.schedule = schedule

    def clear_faults(self) -> None:
        """All is well again. What hangs already goes on hanging until its client leaves."""
        with self._world.lock:
            self._world.faults.clear()

    @property
    def waiting_faults(self) -> tuple[Fault, ...]:
        """The faults still to be played."""
        with self._world.lock:
            return self._world.faults.waiting

    # What can be changed

    @property
    def options(self) -> Options:
        """The switches as they stand."""
        return self._world.options

    def switch(self, **changes: object) -> None:
        """Change switches or limits: `switch(legacy="reject", account_per_minute=500)`.

        Raises:
            ConfigurationError: A name or value is unknown; nothing was changed.
        """
        with self._world.lock:
            self._world.options = self._world.options.switched(changes)

    def advance(self, seconds: float) -> None:
        """Let time pass for tokens, codes and windows, without waiting."""
        with self._world.lock:
            self.clock.advance(seconds)

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts known."""
        with self._world.lock:
            return tuple(self._world.credentials.accounts)

    def add_account(self, account: str, spec: AccountSpec | Mapping[str, object] | None = None) -> None:
        """Add an account, or give a known one other credentials and limits.

        Raises:
            ConfigurationError: The spec has a key that no account has.
        """
        if unknown := set(spec or {}) - set(AccountSpec.__annotations__):
            known = ", ".join(AccountSpec.__annotations__)
            raise ConfigurationError(f"{', '.join(sorted(unknown))}: no such setting of an account; there are {known}")
        with self._world.lock:
            self._world.credentials.add_account(
                account,
                cast("AccountSpec", dict(spec or {})),
                now=self.clock.monotonic(),
                token_seconds=self._world.options.token_seconds,
            )

    def expire_tokens(self, account: str = "default") -> None:
        """The account's access tokens have expired; refreshing helps."""
        with self._world.lock:
            self._world.credentials.expire(account, self.clock.monotonic())

    def revoke_tokens(self, account: str = "default", *, access: bool = True, refresh: bool = True) -> None:
        """As when the app is uninstalled; until `restore_tokens` nothing helps."""
        with self._world.lock:
            self._world.credentials.revoke(account, access=access, refresh=refresh)

    def restore_tokens(self, account: str = "default") -> None:
        """Take the revocation back."""
        with self._world.lock:
            self._world.credentials.restore(account)

    def issue_code(self, account: str = "default") -> str:
        """An authorization code for `POST /auth/token`."""
        with self._world.lock:
            return self._world.credentials.issue_code(account, now=self.clock.monotonic())

    def others_send(self, events: int, account: str = "default") -> None:
        """Another app of the account uses a part of its minute, now."""
        with self._world.lock:
            self._world.windows.of_account(account).taken_by_others(self.clock.monotonic(), events)
