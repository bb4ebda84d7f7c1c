"""Keeps the access tokens of accounts fresh: read from the store, renewed once for the whole fleet."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from pydantic import SecretStr

from dispatcher import telemetry
from dispatcher.clock import Clock
from dispatcher.policy.tokens import REFRESH_RETRY_SECONDS, Tokens, Turn, should_refresh
from dispatcher.rdstation.oauth import INVALID_REFRESH_TOKEN, App, Granted, OAuthApi, Refused, Unavailable
from dispatcher.rdstation.token_store import TokenStore

CACHE_SECONDS = 10.0
"""How long a process trusts what it read: the time in which new credentials from a person are noticed."""
LEASE_SECONDS = 45.0
"""Longer than a refresh can take, including the second try with the previous token."""

_TAKEN_AWAY = "the account's tokens were taken away meanwhile; log it in"
_POLL_SECONDS = 0.25
_REFRESH_SECONDS = LEASE_SECONDS / 3
_SHORTEST_REFRESH = 5.0
"""With less time a refresh is not begun: one that is cut off may have rotated the token all the same."""

Remaining = Callable[[], float]
"""Seconds that are left for all of it, by the caller's clock."""


class Renewal(NamedTuple):
    """What came of asking for a token other than the refused one.

    Attributes:
        token: One worth trying; None if there is none.
        why_not: Set exactly if there is none.
        refused: RD Station itself has refused to renew the token; waiting does not help.
    """

    token: SecretStr | None
    why_not: str | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Cached:
    tokens: Tokens | None
    read_at: float


class AccessTokens:
    """See the module. Serves many threads; one per process.

    Args:
        store: Where tokens live.
        oauth: What renews them.
        app_of: The application an account was authorised for; None if it is not known.
        clock: For expiry, waiting and the cache's age.
        rng: For the jitter of renewals ahead of time.
        owner: Names this process in the store; unique in the fleet.
    """

    def __init__(
        self,
        store: TokenStore,
        oauth: OAuthApi,
        *,
        app_of: Callable[[str], App | None],
        clock: Clock,
        rng: random.Random,
        owner: str,
    ) -> None:
        self._store = store
        self._oauth = oauth
        self._app_of = app_of
        self._clock = clock
        self._rng = rng
        self._owner = owner
        self._cache: dict[str, _Cached] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._never = threading.Event()

    def token_for(self, account: str, *, remaining: Remaining) -> Renewal:
        """A token worth trying, renewed ahead of its end where that is possible without waiting for others."""
        tokens = self._tokens(account)
        if tokens is None:
            return Renewal(None, "the account has no tokens; log it in")
        if tokens.access is None:
            return self.renew(account, None, remaining=remaining)
        if tokens.refresh is not None and should_refresh(tokens.expires_at, self._clock.now(), self._rng):
            ahead = self._renew(account, tokens, tokens.access, remaining, wait=False)
            return ahead if ahead.token is not None else Renewal(tokens.access)
        return Renewal(tokens.access)

    def prepare(self, accounts: Collection[str]) -> None:
        """Read at once what the sends of these accounts would read one by one; lets go of what is too old.

        Asked for one by one, the tokens of hundreds of shops would take a connection for each sender thread. The
        store's errors pass.
        """
        now = self._clock.monotonic()
        for name, known in list(self._cache.items()):
            if now - known.read_at >= CACHE_SECONDS:
                self._cache.pop(name, None)
        unknown = set(accounts) - self._cache.keys()
        for name, tokens in self._store.load_all(unknown).items() if unknown else ():
            self._cache.setdefault(name, _Cached(tokens, now))  # a sender may have renewed it meanwhile

    def has_tokens(self, account: str) -> bool:
        """True if the account has any, good or not."""
        return self._tokens(account) is not None

    def renew(self, account: str, refused: SecretStr | None, *, remaining: Remaining) -> Renewal:
        """A token other than the refused one: the one another process has stored meanwhile, or a new one.

        One refresh per account runs at a time, in the whole fleet; the others wait for its result, at most `remaining`
        seconds. After a refresh that brought nothing there is none for a minute.

        Args:
            account: Whose.
            refused: What RD Station answered with a 401; None if there was no token to try.
            remaining: See `Remaining`.
        """
        tokens = self._reload(account)
        if tokens is None:
            return Renewal(None, "the account has no tokens; log it in")
        if tokens.access is not None and tokens.access != refused:
            return Renewal(tokens.access)
        return self._renew(account, tokens, refused, remaining, wait=True)

    def worked(self, account: str, token: SecretStr) -> None:
        """RD Station took this token: the refresh token before the last rotation is of no more use."""
        cached = self._cache.get(account)
        tokens = cached.tokens if cached else None
        if tokens is not None and tokens.previous_refresh is not None and tokens.access == token:
            self._store.forget_previous(account, version=tokens.version)
            self._reload(account)

    def refused_anew(self, account: str) -> None:
        """A token fresh from a refresh was refused as well: another refresh would bring no better one for now."""
        self._store.end_refresh(account, owner=self._owner, retry_seconds=REFRESH_RETRY_SECONDS)

    def _tokens(self, account: str) -> Tokens | None:
        cached = self._cache.get(account)
        if cached is None or self._clock.monotonic() - cached.read_at >= CACHE_SECONDS:
            return self._reload(account)
        return cached.tokens

    def _reload(self, account: str) -> Tokens | None:
        read_at = self._clock.monotonic()
        tokens = self._store.load(account)
        self._cache[account] = _Cached(tokens, read_at)
        return tokens

    def _renew(
        self, account: str, seen: Tokens, refused: SecretStr | None, remaining: Remaining, *, wait: bool
    ) -> Renewal:
        app = self._app_of(account)
        if app is None or seen.refresh is None:
            missing = "refresh token" if app is not None else "client id and secret"
            return Renewal(None, f"the account has no {missing}, so its access token cannot be renewed; log it in")
        # Folds the threads of this process, so that only one of them polls the store.
        turn = self._turns.setdefault(account, threading.Lock())
        if not turn.acquire(timeout=max(0.0, remaining()) if wait else 0):
            return Renewal(None, "a refresh by another thread did not end in time")
        try:
            return self._in_turn(account, app, seen, refused, remaining, wait=wait)
        finally:
            turn.release()

    def _in_turn(
        self, account: str, app: App, seen: Tokens, refused: SecretStr | None, remaining: Remaining, *, wait: bool
    ) -> Renewal:
        version = seen.version
        while remaining() >= _SHORTEST_REFRESH:
            match self._store.begin_refresh(
                account, seen_version=version, owner=self._owner, lease_seconds=LEASE_SECONDS
            ):
                case Turn.GRANTED:
                    return self._refresh(account, app, remaining)
                case Turn.NEWER:
                    tokens = self._reload(account)
                    if tokens is None:
                        return Renewal(None, _TAKEN_AWAY)
                    if tokens.access is not None and tokens.access != refused:
                        return Renewal(tokens.access)
                    version = tokens.version  # what is new is the refresh token
                case Turn.NOT_YET:
                    return Renewal(None, "the last token refresh brought nothing; the next one is not due yet")
                case Turn.WAIT if wait:
                    self._clock.wait(self._never, min(_POLL_SECONDS, remaining()))
                case Turn.WAIT:
                    return Renewal(None, "another process is refreshing the token")
        return Renewal(None, "there was too little time left to refresh the token")

    def _newer(self, account: str) -> Renewal:
        tokens = self._reload(account)
        if tokens is None or tokens.access is None:
            return Renewal(None, _TAKEN_AWAY)
        return Renewal(tokens.access)

    def _refresh(self, account: str, app: App, remaining: Remaining) -> Renewal:
        tokens = self._reload(account)
        if tokens is None or tokens.refresh is None:
            return self._nothing(account, _TAKEN_AWAY)
        answer = self._oauth.refresh(app, tokens.refresh, seconds=min(remaining(), _REFRESH_SECONDS))
        used = tokens.refresh
        if isinstance(answer, Refused) and answer.error_type == INVALID_REFRESH_TOKEN:
            # Before believing it: somebody whose lease we took over may have rotated the token meanwhile, ...
            current = self._reload(account)
            if current is None or current.version != tokens.version:
                return self._newer(account)
            # ... or the rotation itself never became valid.
            if tokens.previous_refresh is not None:
                used = tokens.previous_refresh
                answer = self._oauth.refresh(app, used, seconds=min(remaining(), _REFRESH_SECONDS))
        match answer:
            case Granted():
                return self._keep(account, tokens, used, answer)
            case Refused():
                if answer.error_type == INVALID_REFRESH_TOKEN:
                    telemetry.emit("token.refused", account=account)
                why_not = f"RD Station refused the token refresh with {answer.error_type}"
                return self._nothing(account, why_not, refused=True)
            case Unavailable():
                status = answer.outcome.status
                said = f"answered {status}" if status is not None else f"gave no answer ({answer.outcome.failure})"
                return self._nothing(account, f"RD Station's token endpoint {said}")

    def _keep(self, account: str, tokens: Tokens, used: SecretStr, granted: Granted) -> Renewal:
        """Store first, use afterwards: a token in use that nobody has stored is lost with this process."""
        refresh = used if granted.refresh_token is None else granted.refresh_token
        lifetime = granted.expires_in
        renewed = Tokens(
            access=granted.access_token,
            refresh=refresh,
            previous_refresh=used if refresh != used else None,
            expires_at=None if lifetime is None else self._clock.now() + timedelta(seconds=lifetime),
            version=tokens.version + 1,
        )
        if not self._store.store(account, renewed):
            return self._newer(account)
        telemetry.emit("token.refreshed", account=account)
        self._cache[account] = _Cached(renewed, self._clock.monotonic())
        return Renewal(granted.access_token)

    def _nothing(self, account: str, why_not: str, *, refused: bool = False) -> Renewal:
        self._store.end_refresh(account, owner=self._owner, retry_seconds=REFRESH_RETRY_SECONDS)
        return Renewal(None, why_not, refused)
