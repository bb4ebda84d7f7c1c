"""RD Station's token endpoint and the credential check (rdstation-api.md §5, §9). Facts only: nothing is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import SecretStr

from dispatcher.clock import Clock
from dispatcher.policy.outcome import Outcome
from dispatcher.rdstation.error_bodies import UNKNOWN, parse_json
from dispatcher.rdstation.outcomes import outcome_of
from dispatcher.rdstation.transport import Reply, Request, Transport

TOKEN_PATH = "/auth/token"  # noqa: S105  # a path
CODE_PATH = f"{TOKEN_PATH}?token_by=code"
"""As documented; the official Ruby client leaves the query out, and both are taken (§5.1)."""
ACCOUNT_INFO_PATH = "/marketing/account_info"
INVALID_REFRESH_TOKEN = "INVALID_REFRESH_TOKEN"  # noqa: S105  # RD Station's word
EXPIRED_CODE_GRANT = "EXPIRED_CODE_GRANT"
ACCESS_DENIED = "ACCESS_DENIED"

_TOKEN_CHARS = 8_192
_NAME_CHARS = 255
_REFUSALS = frozenset({400, 401, 403})


@dataclass(frozen=True, slots=True)
class App:
    """The application, as registered with RD Station, in whose name tokens are renewed."""

    client_id: SecretStr
    client_secret: SecretStr

    @classmethod
    def of(cls, client_id: str | None, client_secret: SecretStr | None) -> App | None:
        """From the settings; None unless both are set."""
        if client_id is None or client_secret is None:
            return None
        return cls(SecretStr(client_id), client_secret)


@dataclass(frozen=True, slots=True)
class Granted:
    """A new access token.

    Attributes:
        access_token: The new one.
        refresh_token: Set if the answer had one; whether it replaces the old one is not documented, so it does.
        expires_in: Seconds; None if the answer named no sensible number.
    """

    access_token: SecretStr
    refresh_token: SecretStr | None
    expires_in: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """RD Station refuses what it was shown.

    The word is `INVALID_REFRESH_TOKEN`, `EXPIRED_CODE_GRANT` (used, or older than an hour), `ACCESS_DENIED` (client,
    code or redirect address) or `UNAUTHORIZED`; `UNKNOWN` if there was none.
    """

    error_type: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer, or none that says anything about the credentials."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """The token works. `name` is the account's, as RD Station shows it; None if the answer had none."""

    name: str | None


RefreshAnswer = Granted | Refused | Unavailable
ExchangeAnswer = Granted | Refused | Unavailable
AccountInfoAnswer = AccountInfo | Refused | Unavailable


class OAuthApi:
    """The token endpoint. Raises nothing for anything that the network or RD Station does.

    Args:
        transport: What sends requests.
        clock: For a `Retry-After` that names a date.
    """

    def __init__(self, transport: Transport, *, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock

    def refresh(self, app: App, refresh_token: SecretStr, *, seconds: float | None = None) -> RefreshAnswer:
        """Ask for a new access token. `seconds` limits the request below the total timeout."""
        return self._ask(app, TOKEN_PATH, "refresh_token", refresh_token, seconds)

    def exchange(self, app: App, code: SecretStr, *, seconds: float | None = None) -> ExchangeAnswer:
        """Buy the first tokens with the code that a person's browser brought back.

        The code is spent by the first request that arrives, whether or not the answer does: after `Unavailable` the
        person has to authorise again.
        """
        return self._ask(app, CODE_PATH, "code", code, seconds)

    def account_info(self, access_token: SecretStr, *, seconds: float | None = None) -> AccountInfoAnswer:
        """The cheapest request that tells whether an access token works."""
        reply = self._transport.send(Request("GET", ACCOUNT_INFO_PATH, bearer=access_token), seconds=seconds)
        if reply.status == 200:
            document = parse_json(reply.body)
            name = document.get("name") if isinstance(document, dict) else None
            return AccountInfo(name[:_NAME_CHARS] if isinstance(name, str) and name.isprintable() else None)
        return self._not_granted(reply, access_token.get_secret_value())

    def _ask(
        self, app: App, path: str, grant: str, secret: SecretStr, seconds: float | None
    ) -> Granted | Refused | Unavailable:
        fields = {
            "client_id": app.client_id.get_secret_value(),
            "client_secret": app.client_secret.get_secret_value(),
            grant: secret.get_secret_value(),
        }
        reply = self._transport.send(Request("POST", path, json.dumps(fields).encode()), seconds=seconds)
        granted = _granted(reply)
        if granted is not None:
            return granted
        return self._not_granted(reply, *fields.values())

    def _not_granted(self, reply: Reply, *private: str) -> Refused | Unavailable:
        # Whatever a 2xx holds may be a token that we failed to recognise: none of it is kept.
        kept = reply if reply.status is None or reply.status // 100 != 2 else _without_body(reply)
        outcome = outcome_of(kept, now=self._clock.now, private=private)
        if reply.status in _REFUSALS:
            return Refused(outcome.errors[0].error_type if outcome.errors else UNKNOWN, outcome)
        return Unavailable(outcome)


def _granted(reply: Reply) -> Granted | None:
    document = parse_json(reply.body) if reply.status is not None and reply.status // 100 == 2 else None
    if not isinstance(document, dict):
        return None
    access_token = _token(document.get("access_token"))
    if access_token is None:
        return None
    return Granted(access_token, _token(document.get("refresh_token")), _seconds(document.get("expires_in")))


def _token(value: object) -> SecretStr | None:
    fits = isinstance(value, str) and 0 < len(value) <= _TOKEN_CHARS and value.isascii() and value.isprintable()
    return SecretStr(str(value)) if fits and " " not in str(value) else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    a_century = 3.2e9
    return float(value) if 0 < value < a_century else None  # neither NaN nor a number beyond floats is between them


def _without_body(reply: Reply) -> Reply:
    detail = "the answer holds no access token"
    return Reply(reply.stage, status=reply.status, headers=reply.headers, detail=detail, seconds=reply.seconds)
