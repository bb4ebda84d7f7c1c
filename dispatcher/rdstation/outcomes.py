"""From a raw reply to an `Outcome`: parsed, redacted, capped. The edge that private data does not cross."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from dispatcher.policy.outcome import Outcome
from dispatcher.rdstation.error_bodies import parse_json, provider_errors
from dispatcher.rdstation.limits import limit_hint
from dispatcher.rdstation.redaction import Redactor
from dispatcher.rdstation.transport import Reply

_HEADERS_THAT_ASK_TO_WAIT = ("retry-after", "retry-after-quotas")
_CHALLENGES = ("www-authenticate", "x-amzn-remapped-www-authenticate")  # the gateway renames it (§5.2)


def outcome_of(
    reply: Reply, *, now: Callable[[], datetime], event_uuid: str | None = None, private: Iterable[str] = ()
) -> Outcome:
    """The facts of a reply, fit to be stored. Never raises.

    Args:
        reply: What the transport says.
        now: The wall clock.
        event_uuid: RD Station's receipt, if there is one: then nothing else of the body is worth keeping.
        private: Values to remove from every text.
    """
    if event_uuid is not None:
        return Outcome(reply.stage, status=reply.status, event_uuid=event_uuid, seconds=reply.seconds)
    redactor = Redactor(private)
    if reply.status is None:
        detail = redactor.text(reply.detail) if reply.detail else None
        return Outcome(reply.stage, failure=reply.failure, detail=detail, seconds=reply.seconds)
    accepted = reply.status // 100 == 2
    document = parse_json(reply.body)
    limited = reply.status == 429 or any(name in reply.headers for name in _HEADERS_THAT_ASK_TO_WAIT)
    detail = "the access token has expired" if is_expired_token(reply) else reply.detail
    return Outcome(
        reply.stage,
        status=reply.status,
        errors=provider_errors(document, reply.status, redactor),
        limit=limit_hint(document, reply.headers, now()) if limited and not accepted else None,
        detail=redactor.text(detail) if detail else None,
        excerpt=redactor.excerpt(reply.body),
        seconds=reply.seconds,
    )


def is_expired_token(reply: Reply) -> bool:
    """True for a 401 that says the token was good once. Not every expiry says so: any 401 deserves one refresh."""
    return reply.status == 401 and any("expired_token" in reply.headers.get(name, "") for name in _CHALLENGES)
