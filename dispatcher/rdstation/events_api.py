"""`POST /platform/events` and `/platform/conversions` (rdstation-api.md §2.1, §2.3): one event out, the facts back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import SecretStr

from dispatcher.clock import Clock
from dispatcher.policy.outcome import Outcome
from dispatcher.rdstation.error_bodies import parse_json
from dispatcher.rdstation.outcomes import outcome_of
from dispatcher.rdstation.transport import Request, Transport

EVENTS_PATH = "/platform/events"
CONVERSIONS_PATH = "/platform/conversions"

_EVENT_TYPE = re.compile(r"[A-Z][A-Z0-9_]*")
_RECEIPT = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def build_body(event_type: str, payload_json: str) -> bytes:
    """The envelope around a payload that is JSON already; it is not parsed again.

    Raises:
        ValueError: The type is not of RD Station's form, or the payload holds lone surrogates.
    """
    if not _EVENT_TYPE.fullmatch(event_type):
        raise ValueError("an event type has upper-case letters, digits and underscores, as in ORDER_PLACED")
    return f'{{"event_type":"{event_type}","event_family":"CDP","payload":{payload_json}}}'.encode()


class EventsApi:
    """The event endpoint.

    Args:
        transport: What sends requests.
        clock: For a `Retry-After` that names a date.
    """

    def __init__(self, transport: Transport, *, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock

    def post_event(
        self, access_token: SecretStr, body: bytes, *, seconds: float | None = None, private: Iterable[str] = ()
    ) -> Outcome:
        """Send one event. Raises nothing for anything that the network or RD Station does.

        Args:
            access_token: For `Authorization: Bearer`.
            body: From `build_body`.
            seconds: A limit below the total timeout, for this request only.
            private: Values to remove from every stored text, above all the event's own e-mail.

        Returns:
            The facts, not judged. A 2xx has `event_uuid`, or an excerpt of what came in its place.
        """
        return self._post(Request("POST", EVENTS_PATH, body, access_token), access_token, seconds, private)

    def post_conversion(
        self, api_key: SecretStr, body: bytes, *, seconds: float | None = None, private: Iterable[str] = ()
    ) -> Outcome:
        """Send one CONVERSION with an account's API key; otherwise as `post_event`. `Outcome.by_key` is set."""
        outcome = self._post(Request("POST", CONVERSIONS_PATH, body, api_key=api_key), api_key, seconds, private)
        return outcome._replace(by_key=True)

    def _post(self, request: Request, secret: SecretStr, seconds: float | None, private: Iterable[str]) -> Outcome:
        reply = self._transport.send(request, seconds=seconds)
        accepted = reply.status is not None and reply.status // 100 == 2
        event_uuid = receipt_in(parse_json(reply.body)) if accepted else None
        return outcome_of(
            reply, now=self._clock.now, event_uuid=event_uuid, private=(secret.get_secret_value(), *private)
        )


def receipt_in(document: object) -> str | None:
    """RD Station's receipt for one event; None if there is none, or if it does not look like one."""
    event_uuid = document.get("event_uuid") if isinstance(document, dict) else None
    return event_uuid if isinstance(event_uuid, str) and _RECEIPT.fullmatch(event_uuid) else None
