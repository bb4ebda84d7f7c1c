"""Accounts and their credentials: access tokens, refresh tokens, codes and API keys (rdstation-api.md §5)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypedDict

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105  # the sandbox's own, published on purpose
ACCESS_TOKEN = "sandbox-access-default"  # noqa: S105  # as above
REFRESH_TOKEN = "sandbox-refresh-default"  # noqa: S105  # as above
API_KEY = "sandbox-api-key-default"
CRM_API_KEY = "sandbox-crm-api-key"
"""A key of an RD Station CRM account: 400 `UNABLE_TO_LOAD_CDP_SCHEMA` (§2.3)."""

CODE_SECONDS = 3_600
_REFRESH_PREFIX = "sandbox-refresh-"


class AccountSpec(TypedDict, total=False):
    """What an account may set for itself; without it, the tokens end in the account's name.

    `account_per_minute`, `lead_per_day`, `legacy` and `ecommerce_plan` go before the sandbox's options.
    """

    access_token: str
    refresh_token: str
    api_key: str
    name: str
    account_per_minute: int
    lead_per_day: int
    legacy: Literal["accept", "reject"]
    ecommerce_plan: Literal["accept", "refuse"]


class TokenState(Enum):
    """What an access token is worth."""

    VALID = "valid"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class AccessToken:
    """One issued access token; `name` is what the recorder keeps in its place."""

    account: str
    name: str
    expires_at: float
    revoked: bool = False
    supersedes: str | None = None
    """The refresh token that dies when this one is first used (`rotated_with_grace`)."""


@dataclass(slots=True)
class RefreshToken:
    """One refresh token; it does not expire, it is revoked or rotated away."""

    account: str
    revoked: bool = False
    rotated: bool = False
    supersedes: str | None = None


@dataclass(slots=True)
class Code:
    """One authorization code, for one use within an hour."""

    account: str
    expires_at: float
    used: bool = False


@dataclass(slots=True)
class Issued:
    """The answer to a code or a refresh."""

    access_token: str
    expires_in: int
    refresh_token: str


@dataclass(slots=True)
class Credentials:
    """Every credential the sandbox knows. Not thread-safe: the provider's lock guards it."""

    rng: random.Random
    accounts: dict[str, AccountSpec] = field(default_factory=dict)
    access: dict[str, AccessToken] = field(default_factory=dict)
    refresh: dict[str, RefreshToken] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    api_keys: dict[str, str] = field(default_factory=dict)
    _serial: int = 0

    def add_account(self, account: str, spec: AccountSpec, *, now: float, token_seconds: float) -> None:
        """Register an account with its first tokens; a known one keeps its tokens, and its API key is deactivated."""
        self.accounts[account] = spec
        token = spec.get("access_token", f"sandbox-access-{account}")
        self.access[token] = AccessToken(account, f"{account}-0", now + token_seconds)
        self.refresh[spec.get("refresh_token", _REFRESH_PREFIX + account)] = RefreshToken(account)
        self.api_keys = {key: owner for key, owner in self.api_keys.items() if owner != account}
        self.api_keys[spec.get("api_key", f"sandbox-api-key-{account}")] = account

    def state(self, token: str, now: float) -> tuple[TokenState, AccessToken | None]:
        """What the access token is worth now, and whose it is; a revoked one is as unknown as a made-up one."""
        known = self.access.get(token)
        if known is None or known.revoked:
            return TokenState.UNKNOWN, known
        return (TokenState.VALID if now < known.expires_at else TokenState.EXPIRED), known

    def used(self, token: AccessToken | RefreshToken) -> None:
        """A token of a new pair was used: under `rotated_with_grace` its predecessor dies now."""
        if token.supersedes is not None:
            self.refresh[token.supersedes].rotated = True
            token.supersedes = None

    def refreshable(self, refresh_token: str, *, now: float, token_seconds: float) -> RefreshToken | None:
        """The refresh token if it is good; `sandbox-refresh-<name>` of an unknown account opens that account."""
        known = self.refresh.get(refresh_token)
        account = refresh_token.removeprefix(_REFRESH_PREFIX)
        if known is None and refresh_token.startswith(_REFRESH_PREFIX) and account and account not in self.accounts:
            self.add_account(account, {}, now=now, token_seconds=token_seconds)
            known = self.refresh[refresh_token]
        return None if known is None or known.revoked or known.rotated else known

    def issue(self, account: str, refresh_token: str, *, now: float, token_seconds: int, rotation: str) -> Issued:
        """A fresh access token, and the refresh token that goes with it under this kind of rotation."""
        self._serial += 1
        access = AccessToken(account, f"{account}-{self._serial}", now + token_seconds)
        access_token = f"sandbox-access-{account}-{self.rng.getrandbits(96):024x}"
        self.access[access_token] = access
        if rotation != "fixed":
            old, refresh_token = refresh_token, f"{_REFRESH_PREFIX}{account}-{self.rng.getrandbits(96):024x}"
            successor = self.refresh[refresh_token] = RefreshToken(account)
            if rotation == "rotated":
                self.refresh[old].rotated = True
            else:
                access.supersedes = successor.supersedes = old
        return Issued(access_token, token_seconds, refresh_token)

    def refresh_token_of(self, account: str) -> str:
        """The account's newest living refresh token, for the answer to a code; a new one if all are dead."""
        for token, known in reversed(self.refresh.items()):
            if known.account == account and not known.revoked and not known.rotated:
                return token
        token = f"{_REFRESH_PREFIX}{account}-{self.rng.getrandbits(96):024x}"
        self.refresh[token] = RefreshToken(account)
        return token

    def issue_code(self, account: str, *, now: float) -> str:
        """An authorization code, as `GET /auth/dialog` would send it to the redirect address."""
        code = f"sandbox-code-{self.rng.getrandbits(64):016x}"
        self.codes[code] = Code(account, now + CODE_SECONDS)
        return code

    def expire(self, account: str, now: float) -> None:
        """Every access token of the account is as old as it can get; refreshing helps."""
        for token in self._access_of(account):
            token.expires_at = min(token.expires_at, now)

    def revoke(self, account: str, *, refresh: bool = True, access: bool = True) -> None:
        """As when the app is uninstalled: nothing of the account is accepted until `restore`."""
        for token in self._access_of(account) if access else ():
            token.revoked = True
        for known in self.refresh.values() if refresh else ():
            known.revoked = known.revoked or known.account == account

    def restore(self, account: str) -> None:
        """Take the revocation back; what had expired or was rotated away stays so."""
        for token in self._access_of(account):
            token.revoked = False
        for known in self.refresh.values():
            known.revoked = known.revoked and known.account != account

    def _access_of(self, account: str) -> Iterable[AccessToken]:
        return [token for token in self.access.values() if token.account == account]


def with_default(accounts: Mapping[str, AccountSpec] | None) -> dict[str, AccountSpec]:
    """The accounts to start with: `default` if none are named."""
    return dict(accounts) if accounts else {"default": {}}
