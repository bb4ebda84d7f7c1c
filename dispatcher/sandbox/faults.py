"""What goes wrong, on demand: the next N requests, those that fit, or by a seeded schedule."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum, StrEnum
from itertools import accumulate
from typing import Any, Self

from dispatcher.errors import ConfigurationError
from dispatcher.sandbox import answers
from dispatcher.sandbox.messages import Answer, Wire, json_answer
from dispatcher.sandbox.options import Options
from dispatcher.sandbox.recorder import Arrival


class Stage(Enum):
    """How far a request gets before a fault strikes."""

    UNREAD = "unread"
    GATE = "gate"
    """Refused before anything is counted: it takes nothing from a window."""
    INSIDE = "inside"
    """Past credentials and limits."""


class FaultKind(StrEnum):
    """What happens instead of, or to, the right answer."""

    STATUS = "status"
    """`status` with the JSON body that fits it."""
    HTML = "html"
    """`status` (502) with a proxy's HTML page."""
    EMPTY = "empty"
    """`status` (503) without a body."""
    RATE_LIMIT = "rate_limit"
    """429 in one `shape`: `gateway`, `page` or `lead`; `seconds` is the hint. No violation of ours."""
    REDIRECT = "redirect"
    """302 to another address."""
    SLOW = "slow"
    """The right answer, after `seconds`."""
    DRIBBLE = "dribble"
    """The right answer, byte by byte over `seconds`: no single read times out."""
    HANG = "hang"
    """No answer until the client leaves; with `accept=True` the event is stored all the same."""
    ACCEPT_THEN_DROP = "accept_then_drop"
    """The event is stored, then the connection is reset."""
    DROP_UNREAD = "drop_unread"
    """The connection is reset before the body is read; nothing is stored. Fits by `path` and `account` only."""
    DROP_MID_ANSWER = "drop_mid_answer"
    """The event is stored; the answer breaks off in its `shape`: `body`, `headers` or `status`."""
    NO_UUID = "no_uuid"
    """The event is stored; the 200 has `shape` `html`, `empty` or `json` and no `event_uuid`. `short`: a batch's answer
    lacks its last result."""


_DEFAULT_STATUS = {FaultKind.STATUS: 503, FaultKind.HTML: 502, FaultKind.EMPTY: 503}
_STORES = {
    FaultKind.SLOW, FaultKind.DRIBBLE, FaultKind.ACCEPT_THEN_DROP, FaultKind.DROP_MID_ANSWER, FaultKind.NO_UUID,
}  # fmt: skip
_SHAPES = {
    FaultKind.RATE_LIMIT: ("gateway", "page", "lead"),
    FaultKind.DROP_MID_ANSWER: ("body", "headers", "status"),
    FaultKind.NO_UUID: ("html", "empty", "json", "short"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, for the next `times` requests that fit.

    Attributes:
        kind: What happens.
        times: How often; None = until cleared.
        status: For `STATUS` (503), `HTML` (502) and `EMPTY` (503).
        seconds: For `SLOW`, `DRIBBLE` and `RATE_LIMIT`.
        shape: The variant, see `FaultKind`; None = the first.
        accept: Whether the event is stored; None = as the kind says.
        path: Only this path; None = the event endpoints (`/platform/…`), "*" = every path of RD Station's.
        account: Only this account.
        event_type: Only this type.
        key_contains: Only if the event's order, cart or other id contains this.
        lead: Only this lead.
    """

    kind: FaultKind
    times: int | None = 1
    status: int | None = None
    seconds: float = 1.0
    shape: str | None = None
    accept: bool | None = None
    path: str | None = None
    account: str | None = None
    event_type: str | None = None
    key_contains: str | None = None
    lead: str | None = None

    def __post_init__(self) -> None:
        if self.shape is not None and self.shape not in _SHAPES.get(self.kind, ()):
            accepted = ", ".join(_SHAPES.get(self.kind, ())) or "none"
            raise ConfigurationError(f"shape: {self.kind} has the shapes: {accepted}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ConfigurationError("status: must be from 200 to 599")
        if self.times is not None and self.times < 1:
            raise ConfigurationError("times: must be 1 or more, or null for until cleared")
        if not 0 <= self.seconds < math.inf:
            raise ConfigurationError("seconds: must be zero or more")

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """A fault from the control endpoint's JSON.

        Raises:
            ConfigurationError: A name or value is unknown.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(given) - known):
            raise ConfigurationError(f"{', '.join(unknown)}: no such field; there are {', '.join(sorted(known))}")
        try:
            return cls(**{**given, "kind": FaultKind(given.get("kind", ""))})
        except ValueError as mistake:
            raise ConfigurationError(f"kind: must be one of {', '.join(FaultKind)}") from mistake
        except TypeError as mistake:
            raise ConfigurationError("a value has the wrong type; see dispatcher.sandbox.Fault") from mistake

    def as_dict(self) -> dict[str, object]:
        """The form of `GET /sandbox/faults`."""
        return {name: value for name, value in asdict(self).items() if value is not None or name == "times"}

    @property
    def stores(self) -> bool:
        """Whether the event is accepted although the client will not see the right answer."""
        return self.kind in _STORES if self.accept is None else self.accept

    @property
    def stage(self) -> Stage:
        """When it strikes."""
        if self.kind is FaultKind.DROP_UNREAD:
            return Stage.UNREAD
        refused_early = self.kind is FaultKind.REDIRECT or (self.kind is FaultKind.STATUS and self.status == 401)
        return Stage.GATE if refused_early else Stage.INSIDE

    def fits(self, arrivals: Sequence[Arrival]) -> bool:
        """Whether one of the request's events (or the request itself) is meant."""
        return any(self._fits(arrival) for arrival in arrivals)

    def _fits(self, arrival: Arrival) -> bool:
        on_path = arrival.path.startswith("/platform/") if self.path is None else self.path in ("*", arrival.path)
        return (
            on_path
            and (self.account is None or arrival.account == self.account)
            and (self.event_type is None or arrival.event_type == self.event_type)
            and (self.key_contains is None or self.key_contains in (arrival.key or ""))
            and (self.lead is None or arrival.lead == self.lead.strip().lower())
        )

    def answer(self, options: Options, right: Answer, lead: str | None) -> Answer:
        """What the client gets, given the right answer (meaningless unless the fault stores the event)."""
        status = self.status or _DEFAULT_STATUS.get(self.kind, 200)
        shape = self.shape or next(iter(_SHAPES.get(self.kind, ("",))))
        match self.kind:
            case FaultKind.STATUS:
                return answers.of_status(options, status)
            case FaultKind.HTML:
                return answers.html(status)
            case FaultKind.EMPTY:
                return Answer(status, content_type=None)
            case FaultKind.REDIRECT:
                return Answer(302, headers=(("Location", "https://elsewhere.example/"),), content_type=None)
            case FaultKind.RATE_LIMIT if shape == "lead":
                limit = options.lead_per_day
                return answers.lead_limit(options, lead or "", limit, limit + 1, self.seconds)
            case FaultKind.RATE_LIMIT:
                return answers.account_limit(options, options.account_per_minute, self.seconds, shape=shape)
            case FaultKind.NO_UUID:
                return _without_uuid(shape, right) if right.status == 200 else right
            case _:
                return self._on_the_wire(right, shape)

    def _on_the_wire(self, right: Answer, shape: str) -> Answer:
        match self.kind:
            case FaultKind.SLOW:
                return replace(right, wait_seconds=self.seconds)
            case FaultKind.DRIBBLE:
                return replace(right, wire=Wire.DRIBBLE, wait_seconds=self.seconds)
            case FaultKind.HANG:
                return replace(right, wire=Wire.RESET, wait_seconds=math.inf)
            case FaultKind.DROP_MID_ANSWER:
                return replace(right, wire=Wire(f"cut_in_{shape}"))
            case _:
                return replace(right, wire=Wire.RESET)


def _without_uuid(shape: str, right: Answer) -> Answer:
    if shape == "short":
        return json_answer(200, {"events": json.loads(right.body).get("events", [])[:-1]})
    return {"html": answers.html(200), "empty": Answer(200, content_type=None), "json": json_answer(200, {})}[shape]


class FaultSchedule:
    """Faults at given rates, decided by seed, event and how often that event has arrived.

    The order in which threads get in does not matter: the same events meet the same faults in every run.
    """

    def __init__(self, seed: int, faults: Sequence[tuple[Fault, float]]) -> None:
        self._seed = seed
        self._faults = [fault for fault, _ in faults]
        self._thresholds = list(accumulate(rate for _, rate in faults))
        self._seen: Counter[str] = Counter()

    def draw(self, arrivals: Sequence[Arrival]) -> Fault | None:
        """The fault this request meets, if any."""
        first = arrivals[0]
        name = f"{first.path} {first.event_type} {first.key} {first.lead}"
        self._seen[name] += 1
        drawn = random.Random(f"{self._seed} {name} {self._seen[name]}").random()  # noqa: S311  # a seeded schedule
        for fault, threshold in zip(self._faults, self._thresholds, strict=True):
            if drawn < threshold:
                return fault if fault.fits(arrivals) else None
        return None


def faults_schedule(seed: int, rates: Mapping[FaultKind | Fault, float]) -> FaultSchedule:
    """A schedule that meets each request with at most one of these faults, at these rates (0 to 1, sum at most 1).

    Raises:
        ConfigurationError: A rate is negative or they add up to more than one.
    """
    if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1 + 1e-9:
        raise ConfigurationError("rates: each must be 0 or more, and together at most 1")
    return FaultSchedule(
        seed,
        [(Fault(kind, times=None) if isinstance(kind, FaultKind) else kind, rate) for kind, rate in rates.items()],
    )


class Faults:
    """The faults in force: those added, in order, then the schedule. Not thread-safe: the provider's lock guards it."""

    def __init__(self, schedule: FaultSchedule | None = None) -> None:
        self.schedule = schedule
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Play this fault on the next requests that fit, after the faults already waiting for them."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """All is well again, the schedule included."""
        self._waiting.clear()
        self.schedule = None

    @property
    def waiting(self) -> tuple[Fault, ...]:
        """The faults still to be played, with the times left."""
        return tuple(self._waiting)

    def draw(self, arrivals: Sequence[Arrival], stage: Stage) -> Fault | None:
        """Take the first waiting fault for this request that strikes at this stage."""
        for at, fault in enumerate(self._waiting):
            if fault.stage is stage and fault.fits(arrivals):
                if fault.times == 1:
                    del self._waiting[at]
                elif fault.times is not None:
                    self._waiting[at] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def scheduled(self, arrivals: Sequence[Arrival]) -> Fault | None:
        """What the schedule has for this request; ask once per request."""
        return self.schedule.draw(arrivals) if self.schedule else None
