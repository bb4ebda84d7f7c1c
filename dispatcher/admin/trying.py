"""Trying credentials that a person gives by hand at RD Station before they are stored (rdstation-api.md §5, §9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from dispatcher.admin.giving import give
from dispatcher.admin.root import Root, rd_station
from dispatcher.errors import DispatcherError
from dispatcher.rdstation.oauth import (
    ACCESS_DENIED,
    INVALID_REFRESH_TOKEN,
    AccountInfo,
    App,
    Granted,
    OAuthApi,
    Refused,
    Unavailable,
)

_UNAUTHORISED = 401


@dataclass(frozen=True, slots=True)
class Tried:
    """What is stored now, and what RD Station said of it.

    Attributes:
        name: Of RD Station's account; None if it was not tried.
        untried: Why not, in one sentence; None if it was.
    """

    name: str | None = None
    untried: str | None = None


def give_refresh_token(root: Root, account: str, refresh: SecretStr) -> Tried:
    """Buy an access token with it, store both, and ask RD Station whose they are.

    What RD Station hands out is stored before it is used: the refresh token may have been exchanged for another one.

    Raises:
        DispatcherError: RD Station refuses it; says what to do. Nothing was stored, unless it says so.
        ConfigurationError: There is no encryption key; RD Station was not asked.
    """
    app = App.of(root.settings.rd_client_id, root.settings.rd_client_secret)
    if app is None:
        give(root, account, refresh=refresh)
        return Tried(untried="DISPATCHER_RD_CLIENT_ID and DISPATCHER_RD_CLIENT_SECRET are not both set")
    root.vault.seal({})
    with rd_station(root) as oauth:
        asked_at = root.clock.now()
        granted = oauth.refresh(app, refresh)
        match granted:
            case Refused():
                raise DispatcherError(_why_refused(account, granted.error_type))
            case Unavailable():
                give(root, account, refresh=refresh)
                return Tried(untried=f"RD Station's token endpoint gave no token ({_said(granted)})")
            case Granted():
                ends = None if granted.expires_in is None else asked_at + timedelta(seconds=granted.expires_in)
                renewed = granted.refresh_token or refresh
                give(root, account, access=granted.access_token, refresh=renewed, expires_at=ends)
                return _tried(oauth, granted.access_token, f"the tokens of {account} are stored all the same")


def give_access_token(root: Root, account: str, access: SecretStr) -> Tried:
    """Ask RD Station whose it is, then store it.

    Raises:
        DispatcherError: RD Station refuses it, and nothing was stored.
        ConfigurationError: There is no encryption key; RD Station was not asked.
    """
    root.vault.seal({})
    with rd_station(root) as oauth:
        tried = _tried(oauth, access, "nothing was stored")
    give(root, account, access=access)
    return tried


def _tried(oauth: OAuthApi, access: SecretStr, stored: str) -> Tried:
    answer = oauth.account_info(access)
    if isinstance(answer, AccountInfo):
        if answer.name is not None:
            return Tried(answer.name)
        return Tried(untried="its answer names no account, so something else than RD Station may be answering")
    if answer.outcome.status == _UNAUTHORISED:
        raise DispatcherError(
            f"RD Station does not take the access token ({_said(answer)}), and {stored}: see that it was copied whole "
            "and has not ended (they last 24 hours)"
        )
    return Tried(untried=f"the check got no usable answer ({_said(answer)})")


def _why_refused(account: str, error_type: str) -> str:
    cause = {
        INVALID_REFRESH_TOKEN: "it was copied in part, revoked, or the app was uninstalled: get a new one with "
        f"`dispatcher account login {account}`",
        ACCESS_DENIED: "DISPATCHER_RD_CLIENT_ID and DISPATCHER_RD_CLIENT_SECRET are not those of the app that it was "
        "given to: compare them with your app's page",
    }.get(error_type, f"`dispatcher account login {account}` gets a new one in a browser")
    return f"RD Station refuses the refresh token with {error_type}, and nothing was stored: {cause}"


def _said(answer: Refused | Unavailable) -> str:
    if isinstance(answer, Refused):
        return answer.error_type
    return f"it answered {answer.outcome.status}" if answer.outcome.status else f"no answer: {answer.outcome.failure}"
