"""Logging an account in at RD Station: the OAuth2 code flow (rdstation-api.md §5.1, §5.2), without printing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import SecretStr

from dispatcher.admin.root import Root
from dispatcher.clock import Clock
from dispatcher.errors import ConfigurationError, DispatcherError
from dispatcher.policy.outcome import Outcome
from dispatcher.rdstation.authorization import Redirect, Spelling, dialog_url, is_code, new_state
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.oauth import (
    ACCESS_DENIED,
    EXPIRED_CODE_GRANT,
    AccountInfo,
    App,
    Granted,
    OAuthApi,
    Refused,
    Unavailable,
)
from dispatcher.settings import Settings

_AGAIN = "run `dispatcher account login` again and open the new address"


@dataclass(frozen=True, slots=True)
class Question:
    """What the person is asked in the browser: the address to open, and the state its answer must bring back."""

    url: str
    state: SecretStr

    def code_of(self, redirect: Redirect) -> SecretStr:
        """The code of a redirect.

        Raises:
            DispatcherError: It answers another question, the person did not agree, or there is no code in it.
        """
        if not redirect.answers(self.state):
            raise DispatcherError(
                "the browser's answer does not belong to this login (its `state` is another one), so nothing was "
                f"accepted: it may be an old tab, or a forgery; {_AGAIN}"
            )
        if redirect.error is not None:
            raise DispatcherError(f"RD Station sent the browser back without a code, with {redirect.error}; {_AGAIN}")
        if redirect.code is None:
            raise DispatcherError(f"the browser's answer holds no code; {_AGAIN}")
        return redirect.code

    def code_in(self, pasted: str) -> SecretStr:
        """The code in what a person pasted: the address the browser ended at, or the code alone.

        A bare code carries no state; the person vouches for where it comes from.

        Raises:
            DispatcherError: As `code_of`, or it is neither.
        """
        pasted = pasted.strip()
        if is_code(pasted):
            return SecretStr(pasted)
        if "?" not in pasted:
            raise DispatcherError(
                "that is neither a code nor an address with one: paste the whole address at which the browser ended, "
                "beginning with the redirect address, or what stands in it between `code=` and the next `&`"
            )
        return self.code_of(Redirect.read(pasted))


@dataclass(frozen=True, slots=True)
class Authorised:
    """Credentials that RD Station has just issued and accepted. The repr shows no secret.

    Attributes:
        name: Of RD Station's account, as RD Station shows it.
        access: The access token.
        refresh: None if RD Station gave none: a person has to log in again when `access` ends.
        expires_at: When `access` ends, as far as is known.
    """

    name: str
    access: SecretStr
    refresh: SecretStr | None
    expires_at: datetime | None


def app_of(settings: Settings) -> App:
    """The app in whose name accounts are logged in.

    Raises:
        ConfigurationError: It is not configured; names what is missing.
    """
    client_id, client_secret = settings.rd_client_id, settings.rd_client_secret
    if client_id is None or client_secret is None:
        missing = [
            name for name, value in (("RD_CLIENT_ID", client_id), ("RD_CLIENT_SECRET", client_secret)) if value is None
        ]
        raise ConfigurationError(
            f"{' and '.join(f'DISPATCHER_{name}' for name in missing)} not set: both stand on the page of your app in "
            "RD Station's App Publisher; put them into the environment or .env, here and for the workers"
        )
    return App(SecretStr(client_id), client_secret)


def ask(settings: Settings, redirect_uri: str, spelling: Spelling) -> Question:
    """A new question, with a state of its own."""
    app, state = app_of(settings), new_state()
    base_url = BaseUrl.parse(settings.rd_base_url, allow_insecure_http=settings.allow_insecure_http)
    client_id = app.client_id.get_secret_value()
    url = dialog_url(base_url, client_id=client_id, redirect_uri=redirect_uri, state=state, spelling=spelling)
    return Question(url, state)


def redeem(oauth: OAuthApi, app: App, code: SecretStr, *, clock: Clock) -> Authorised:
    """Buy tokens with the code and check that they work. Stores nothing.

    Raises:
        DispatcherError: RD Station refuses the code or the new token, or does not answer; says what to do.
    """
    asked_at = clock.now()
    granted = oauth.exchange(app, code)
    if not isinstance(granted, Granted):
        raise DispatcherError(_why_no_tokens(granted))
    checked = oauth.account_info(granted.access_token)
    if not isinstance(checked, AccountInfo):
        said = checked.error_type if isinstance(checked, Refused) else _answer(checked.outcome)
        raise DispatcherError(f"RD Station issued tokens, but the check of the new one failed ({said}); {_AGAIN}")
    if checked.name is None:
        raise DispatcherError(
            "the check of the new token names no account, so something else than RD Station may be answering: "
            "compare DISPATCHER_RD_BASE_URL, and any proxy on the way; nothing was stored"
        )
    expires_at = None if granted.expires_in is None else asked_at + timedelta(seconds=granted.expires_in)
    return Authorised(checked.name, granted.access_token, granted.refresh_token, expires_at)


def require_sealing(root: Root) -> None:
    """Make sure, before a person goes to any length, that what comes of it can be stored.

    Raises:
        ConfigurationError: There is no encryption key.
        NotMigrated: The database or its tables are not there.
    """
    root.vault.seal({})
    root.credentials.seals()


def _why_no_tokens(answer: Refused | Unavailable) -> str:
    if isinstance(answer, Unavailable):
        arrived = answer.outcome.stage.may_have_arrived
        spent = "; the code may be spent" if arrived else ""
        return f"RD Station's token endpoint gave no tokens ({_answer(answer.outcome)}){spent}: {_AGAIN}"
    explain = _REFUSALS.get(answer.error_type, _unexpected)
    return explain(answer)


def _expired_code(_: Refused) -> str:
    return (
        "RD Station says that the code has expired (EXPIRED_CODE_GRANT): it was used already, or is older than an "
        f"hour; {_AGAIN}"
    )


def _denied(answer: Refused) -> str:
    told = " ".join(error.message for error in answer.outcome.errors)
    if "redirect" in told:
        return (
            "RD Station refuses the redirect address (ACCESS_DENIED): register exactly the one given as "
            "--redirect-uri on your app's page; an edit there takes up to an hour to apply"
        )
    return (
        "RD Station refuses the client or the code (ACCESS_DENIED): compare DISPATCHER_RD_CLIENT_ID and "
        "DISPATCHER_RD_CLIENT_SECRET with your app's page, and see that the code was copied whole and belongs to that "
        "app; an edit of the app takes up to an hour to apply"
    )


def _unexpected(answer: Refused) -> str:
    told = "; ".join(filter(None, (error.message for error in answer.outcome.errors)))
    return f"RD Station refuses the login with {answer.error_type}{f' ({told})' if told else ''}; {_AGAIN}"


_REFUSALS: dict[str, Callable[[Refused], str]] = {EXPIRED_CODE_GRANT: _expired_code, ACCESS_DENIED: _denied}


def _answer(outcome: Outcome) -> str:
    if outcome.status is not None:
        return f"it answered {outcome.status}"
    return f"no answer: {outcome.failure}"
