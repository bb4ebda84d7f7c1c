"""The browser's part of a login: where it is sent, and what it brings back (rdstation-api.md §5.1). No network."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs, urlencode, urlsplit

from pydantic import SecretStr

from dispatcher.rdstation.base_url import BaseUrl

DIALOG_PATH = "/auth/dialog"

_LONGEST = 2_048
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Spelling(StrEnum):
    """The name of the parameter with the redirect address."""

    REDIRECT_URI = "redirect_uri"
    """As documented."""
    REDIRECT_URL = "redirect_url"
    """As in RD Station's official Ruby code."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """What a browser brought back, not yet trusted.

    Attributes:
        code: Buys tokens, once.
        state: Tells our own question from somebody else's; None if the redirect had none.
        error: RD Station's word if the person did not agree.
    """

    code: SecretStr | None
    state: SecretStr | None
    error: str | None = None

    @classmethod
    def read(cls, target: str) -> Redirect:
        """From a redirect's URL or the target of its request; whatever does not fit is left out. Never raises."""
        try:
            given = parse_qs(urlsplit(target).query, max_num_fields=50)
        except ValueError:
            return cls(None, None)
        error = _single(given, "error")
        return cls(
            code=_secret(_single(given, "code")),
            state=_secret(_single(given, "state")),
            error=error if error is None or _WORD.fullmatch(error) else "an error without a known name",
        )

    def answers(self, state: SecretStr) -> bool:
        """True if it answers the question that was asked with this state; anything else may be a forgery."""
        if self.state is None:
            return False
        return secrets.compare_digest(self.state.get_secret_value().encode(), state.get_secret_value().encode())


def new_state() -> SecretStr:
    """A fresh state: nobody can guess it."""
    return SecretStr(secrets.token_urlsafe(32))


def dialog_url(
    base_url: BaseUrl,
    *,
    client_id: str,
    redirect_uri: str,
    state: SecretStr,
    spelling: Spelling = Spelling.REDIRECT_URI,
) -> str:
    """Where the person agrees. The redirect address must be registered with the app, letter by letter."""
    asked = {"client_id": client_id, spelling.value: redirect_uri, "state": state.get_secret_value()}
    return f"{base_url}{DIALOG_PATH}?{urlencode(asked)}"


def is_code(text: str) -> bool:
    """True if the text can be a code by itself, not a URL or a sentence around it."""
    return 0 < len(text) <= _LONGEST and text.isascii() and text.isprintable() and not set(text) & set(" /?&=#")


def _single(given: dict[str, list[str]], name: str) -> str | None:
    values = given.get(name, [])
    return values[0] if len(values) == 1 else None


def _secret(text: str | None) -> SecretStr | None:
    return None if text is None or not 0 < len(text) <= _LONGEST else SecretStr(text)
