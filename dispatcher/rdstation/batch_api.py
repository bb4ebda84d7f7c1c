"""`POST /platform/events/batch` (rdstation-api.md §2.2): several events out, the facts of each back, by position.

How RD Station answers a batch with a bad event is not known, so every form that has been thought of is read: all or
nothing, with the positions in the error paths or without them; results of both kinds in a 2xx; and fewer or more
results than events.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import SecretStr

from dispatcher.clock import Clock
from dispatcher.policy.batch import BatchOutcome
from dispatcher.policy.outcome import LimitScope, Outcome, ProviderError
from dispatcher.rdstation.error_bodies import parse_json, provider_errors
from dispatcher.rdstation.events_api import receipt_in
from dispatcher.rdstation.outcomes import outcome_of
from dispatcher.rdstation.redaction import Redactor
from dispatcher.rdstation.transport import Reply, Request, Transport

BATCH_PATH = "/platform/events/batch"

_INDEX = re.compile(r"^(?:\$|body)?\.?\[(\d{1,6})\]")
_LIMITED_KEY = re.compile(r"\bfor key '(.*)'", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event of a batch.

    Attributes:
        body: From `events_api.build_body`. Kept out of the repr: it holds personal data.
        private: Values to remove from every stored text, above all the event's e-mail, as JSON spells them.
    """

    body: bytes = field(repr=False)
    private: tuple[str, ...] = field(repr=False)


def is_object(payload: str) -> bool:
    """True if the stored payload is a JSON object: anything else could spoil a body that it shares with others."""
    try:
        return isinstance(json.loads(payload), dict)
    except (ValueError, RecursionError):
        return False


class BatchApi:
    """The batch endpoint.

    Args:
        transport: What sends requests.
        clock: For a `Retry-After` that names a date.
    """

    def __init__(self, transport: Transport, *, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock

    def post_events(
        self, access_token: SecretStr, envelopes: Sequence[Envelope], *, seconds: float | None = None
    ) -> BatchOutcome:
        """Send events in one request. Raises nothing for anything that the network or RD Station does.

        Args:
            access_token: For `Authorization: Bearer`.
            envelopes: In the order in which the outcome's positions count them.
            seconds: A limit below the total timeout, for this request only.

        Returns:
            The facts, not judged. No private value of any of the events is in any text.
        """
        body = b"[" + b",".join(envelope.body for envelope in envelopes) + b"]"
        reply = self._transport.send(Request("POST", BATCH_PATH, body, access_token), seconds=seconds)
        document = parse_json(reply.body)
        private = (access_token.get_secret_value(), *(value for envelope in envelopes for value in envelope.private))
        if reply.status is not None and reply.status // 100 == 2:
            return self._accepted(reply, document, private, len(envelopes))
        whole = outcome_of(reply, now=self._clock.now, private=private)
        lead = whole.limit is not None and reply.status == 429 and whole.limit.scope is LimitScope.LEAD
        return BatchOutcome(
            whole,
            blamed=_by_position(whole.errors, len(envelopes)),
            limited=_limited(document, envelopes) if lead else (),
        )

    def _accepted(self, reply: Reply, document: object, private: Sequence[str], count: int) -> BatchOutcome:
        results = document.get("events") if isinstance(document, dict) else None
        if not isinstance(results, list):
            return BatchOutcome(outcome_of(reply, now=self._clock.now, private=private))
        receipts = [receipt_in(result) for result in results]
        bare = Outcome(reply.stage, status=reply.status, seconds=reply.seconds)
        if len(results) == count and all(receipts):
            return BatchOutcome(bare, count, tuple(bare._replace(event_uuid=receipt) for receipt in receipts))
        whole = outcome_of(reply, now=self._clock.now, private=private)
        if len(results) != count:
            return BatchOutcome(whole, len(results))
        redactor = Redactor(private)
        items = (
            bare._replace(event_uuid=receipt)
            if receipt
            else bare._replace(errors=_without_index(provider_errors(result, reply.status, redactor)))
            for receipt, result in zip(receipts, results, strict=True)
        )
        return BatchOutcome(whole, count, tuple(items))


def _by_position(errors: Sequence[ProviderError], count: int) -> dict[int, tuple[ProviderError, ...]] | None:
    """The errors of each position, their paths as those of a single event; None unless every error names one."""
    blamed: dict[int, tuple[ProviderError, ...]] = defaultdict(tuple)
    for error in errors:
        found = _INDEX.match(error.path or "")
        if found is None or int(found[1]) >= count:
            return None
        blamed[int(found[1])] += _without_index([error])
    return dict(blamed) or None


def _without_index(errors: Sequence[ProviderError]) -> tuple[ProviderError, ...]:
    return tuple(replace(error, path=error.path and _INDEX.sub("$", error.path)) for error in errors)


def _limited(document: object, envelopes: Sequence[Envelope]) -> tuple[int, ...]:
    """The positions of the lead that the limiter's sentence names. The name itself goes no further than here."""
    sentence = document.get("error") if isinstance(document, dict) else None
    found = _LIMITED_KEY.search(sentence) if isinstance(sentence, str) else None
    if found is None:
        return ()
    lead = _normalised(found[1])
    return tuple(
        position
        for position, envelope in enumerate(envelopes)
        if any(_normalised(_spelled_out(value)) == lead for value in envelope.private)
    )


def _normalised(email: str) -> str:
    return email.strip().lower()


def _spelled_out(value: str) -> str:
    """A JSON string's content without its escapes; as it is, if it is none."""
    try:
        return str(json.loads(f'"{value}"'))
    except ValueError:
        return value
