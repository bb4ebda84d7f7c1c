"""Do an account's stored credentials work? One cheap request, and a renewed token where the stored one has ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dispatcher.clock import Clock
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.oauth import AccountInfo, OAuthApi, Refused


class Standing(Enum):
    """What RD Station says of an account's credentials."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNRECOGNISED = "unrecognised"
    """A 200 that names no account: something else than RD Station may be answering."""
    UNKNOWN = "unknown"
    """No answer, or none that says anything about the credentials."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it.

    Attributes:
        standing: See `Standing`.
        name: The account's name as RD Station shows it; set exactly if the credentials were accepted.
        why_not: One sentence without secrets; set exactly if they were not.
    """

    standing: Standing
    name: str | None = None
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class CredentialCheck:
    """`GET /marketing/account_info` (rdstation-api.md §9) for stored credentials. Spends no event.

    Attributes:
        tokens: Where access tokens come from, and how they are renewed: once for the whole fleet, stored before use.
        oauth: What asks.
        clock: For the deadline.
    """

    tokens: AccessTokens
    oauth: OAuthApi
    clock: Clock

    def check(self, account: str, *, seconds: float) -> Checked:
        """Ask, within so many seconds for everything. Only the store's errors are raised."""
        deadline = self.clock.monotonic() + seconds

        def remaining() -> float:
            return deadline - self.clock.monotonic()

        found = self.tokens.token_for(account, remaining=remaining)
        if found.token is None:
            return Checked(Standing.REFUSED if found.refused else Standing.UNKNOWN, why_not=found.why_not)
        token = found.token
        answer = self.oauth.account_info(token, seconds=remaining())
        if isinstance(answer, Refused):
            found = self.tokens.renew(account, token, remaining=remaining)
            if found.token is None:
                why_not = f"RD Station refused the access token with {answer.error_type}; {found.why_not}"
                return Checked(Standing.REFUSED, why_not=why_not)
            token = found.token
            answer = self.oauth.account_info(token, seconds=remaining())
        match answer:
            case AccountInfo(name) if name is not None:
                self.tokens.worked(account, token)
                return Checked(Standing.ACCEPTED, name=name)
            case AccountInfo():
                why_not = "the answer to the credential check names no account: something else may be answering"
                return Checked(Standing.UNRECOGNISED, why_not=why_not)
            case Refused(error_type):
                why_not = f"RD Station refused the credential check with {error_type}"
                return Checked(Standing.REFUSED, why_not=why_not)
            case _:
                status, failure = answer.outcome.status, answer.outcome.failure
                said = f"it answered {status}" if status is not None else f"no answer: {failure}"
                return Checked(Standing.UNKNOWN, why_not=f"the credential check got no usable answer ({said})")
