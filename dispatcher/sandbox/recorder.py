"""Every request that arrived, in order of arrival."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from dispatcher.sandbox.rules import lead_of

KEY_FIELDS = ("cf_order_id", "cf_cart_id", "identifier", "conversion_identifier")
"""Where an event's own name is looked for, in this order."""


@dataclass(slots=True)
class Arrival:
    """One event that arrived, or one request without an event.

    Attributes:
        number: The request's number, from 1, in order of arrival; a batch's events share it.
        index: The event's place in its batch; 0 otherwise.
        at: When, by the sandbox's clock.
        seconds: The same moment on its monotonic clock; differences are window arithmetic.
        method: The HTTP method.
        path: The path, without the query (it may hold an API key).
        account: Whose credential came with it; None if the credential is unknown.
        token: The name of the access token, `<account>-<n>`; never the token.
        event_type: As sent; None if it is no text.
        lead: The e-mail (or phone) as sent, trimmed and lower-cased.
        body: The parsed JSON of this event or request; None if it was not JSON.
        status: What was answered; None while it is being answered, and if no answer was sent.
        accepted: True if RD Station would have stored the event, whatever the client was told.
        event_uuid: Its receipt, whether or not the client saw it.
        fault: The fault that was played, if any.
        dropped: Of an accepted event, the payload fields that RD Station would not have stored, without a word.
    """

    number: int
    index: int
    at: datetime
    seconds: float
    method: str
    path: str
    account: str | None = None
    token: str | None = None
    event_type: str | None = None
    lead: str | None = None
    body: object = None
    status: int | None = None
    accepted: bool = False
    event_uuid: str | None = None
    fault: str | None = None
    dropped: tuple[str, ...] = ()

    def field(self, name: str) -> object:
        """A field of the event's payload; None if there is none."""
        payload = self.body.get("payload") if isinstance(self.body, dict) else None
        return payload.get(name) if isinstance(payload, dict) else None

    @property
    def key(self) -> str | None:
        """The order, cart or other id of the event."""
        for name in KEY_FIELDS:
            if isinstance(value := self.field(name), str):
                return value
        return None

    def as_dict(self) -> dict[str, object]:
        """The form of `GET /sandbox/arrivals`."""
        return {**asdict(self), "at": self.at.isoformat(), "key": self.key}


class Recorder:
    """The arrivals, oldest first, and counts that outlive them. Not thread-safe: the provider's lock guards it."""

    def __init__(self, keep: int) -> None:
        self.arrivals: deque[Arrival] = deque(maxlen=keep)
        self.counts: Counter[tuple[str, int | None]] = Counter()
        """Requests by `METHOD /path` and status; None where no answer was sent."""
        self.requests = 0

    def record(
        self, method: str, path: str, events: Sequence[object], *, at: datetime, seconds: float
    ) -> list[Arrival]:
        """Number a request and remember each event in it."""
        self.requests += 1
        recorded = [
            Arrival(
                self.requests, index, at, seconds, method, path,
                event_type=_event_type(event), lead=lead_of(event), body=event,
            )
            for index, event in enumerate(events or (None,))
        ]  # fmt: skip
        self.arrivals.extend(recorded)
        return recorded

    def answered(self, recorded: Sequence[Arrival], status: int | None) -> None:
        """The request was answered, or is never going to be."""
        for arrival in recorded:
            arrival.status = status
        self.counts[f"{recorded[0].method} {recorded[0].path}", status] += 1

    def select(
        self,
        event_type: str | None = None,
        key_field: str | None = None,
        key: object = None,
        accepted: bool | None = None,
    ) -> list[Arrival]:
        """The arrivals that fit: of a type, with a payload field, with that field equal to `key`, accepted or not."""
        return [
            arrival
            for arrival in self.arrivals
            if (event_type is None or arrival.event_type == event_type)
            and (key_field is None or arrival.field(key_field) is not None)
            and (key is None or (arrival.field(key_field) if key_field else arrival.key) == key)
            and (accepted is None or arrival.accepted is accepted)
        ]


def _event_type(event: object) -> str | None:
    named = event.get("event_type") if isinstance(event, dict) else None
    return named if isinstance(named, str) else None
