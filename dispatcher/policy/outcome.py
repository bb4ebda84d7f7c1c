"""The facts of one attempt, without judgement.

The HTTP client fills an `Outcome`; `verdict.py` judges it. Everything here is safe to store: bodies are redacted
and capped before they get in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Stage(IntEnum):
    """How far a request got. From `PARTLY_WRITTEN` on, RD Station may have seen it."""

    NOT_CONNECTED = 0
    """No connection: name lookup, connect, TLS or pool failed, or nothing was tried."""
    CONNECTED = 1
    """A connection stood, no byte of the request was written."""
    PARTLY_WRITTEN = 2
    """Some bytes were written, not all."""
    WRITTEN = 3
    """The whole request was handed to the system; no byte of an answer came."""
    ANSWER_BEGUN = 4
    """Part of an answer came, not enough to know the status or the body's end."""
    ANSWERED = 5
    """The status line and headers are known (`Outcome.status`)."""

    @property
    def may_have_arrived(self) -> bool:
        """True if RD Station may have accepted the event although no answer says so."""
        return self >= Stage.PARTLY_WRITTEN


class TransportFailure(StrEnum):
    """Why no answer could be read."""

    NAME = "name"
    CONNECT = "connect"
    TLS = "tls"
    POOL = "pool"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    RESET = "reset"
    PROTOCOL = "protocol"
    REQUEST = "request"
    """The request could not be built or was refused locally (for example a redirect or an invalid header)."""
    CREDENTIALS = "credentials"
    """No usable access token could be had, so nothing was sent; the account is at fault, not the event."""


class LimitScope(StrEnum):
    """Which of RD Station's limiters said no (rdstation-api.md §6)."""

    ACCOUNT = "account"
    LEAD = "lead"


@dataclass(frozen=True, slots=True)
class ProviderError:
    """One error of RD Station's, in the one form all ten body shapes are parsed into (rdstation-api.md §7.2).

    Attributes:
        error_type: RD Station's word, for example `INVALID_OPTION`; never empty.
        message: RD Station's sentence, redacted and capped.
        path: The field, for example `$.payload.email`; None if the error names none.
    """

    error_type: str
    message: str
    path: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The form in which it is stored and shown."""
        return {"error_type": self.error_type, "message": self.message, "path": self.path}


@dataclass(frozen=True, slots=True)
class LimitHint:
    """What a 429 says about itself.

    Attributes:
        scope: Which limiter answered.
        seconds: The provider's wait, unit-normalised but not capped; None if it named none.
    """

    scope: LimitScope
    seconds: float | None


class Outcome(NamedTuple):
    """What happened to one request.

    Attributes:
        stage: How far it got.
        status: The HTTP status, or None without an answer.
        event_uuid: RD Station's receipt, from a 2xx.
        errors: RD Station's own errors, normalised.
        limit: Present on a 429.
        failure: Why there is no answer; None if there is one.
        detail: One redacted sentence for people: the exception's class and text, or a note.
        excerpt: The start of the response body, redacted and capped; None if there was none worth keeping.
        seconds: How long the request took, by the monotonic clock.
        by_key: True if it went, or should have gone, by an account whose credential for this is its API key: a refusal
            concerns the type only.
        refreshed: True if a 401 was answered by a successful token refresh before this (second) request.
    """

    stage: Stage
    status: int | None = None
    event_uuid: str | None = None
    errors: tuple[ProviderError, ...] = ()
    limit: LimitHint | None = None
    failure: TransportFailure | None = None
    detail: str | None = None
    excerpt: str | None = None
    seconds: float = 0.0
    refreshed: bool = False
    by_key: bool = False
