"""Each account's credentials: whether there are some, whether a key opens them, and whether RD Station takes them."""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.admin.checks.finding import Finding, Level, error, ok, warning
from dispatcher.admin.root import Root, credential_check
from dispatcher.errors import ConfigurationError
from dispatcher.outbox.overview import AccountView, Overview
from dispatcher.rdstation.credential_check import Checked, Standing
from dispatcher.settings import Settings


def examine(root: Root, seen: Overview) -> Iterator[Finding]:
    """Look at every account. RD Station is asked about each that has tokens, until it gives no answer once."""
    with credential_check(root) as credentials:
        answers = True
        for account in seen.accounts:
            held = _held(root, account)
            yield held
            if answers and account.has_credentials and held.level is not Level.ERROR:
                checked = credentials.check(account.account, seconds=root.settings.lease_seconds)
                answers = checked.standing is not Standing.UNKNOWN
                yield _taken(root.settings, account.account, checked)


def _held(root: Root, account: AccountView) -> Finding:
    name, settings = account.account, root.settings
    if account.has_api_key and not account.has_credentials:
        return ok(
            "credentials.key_only", f"the account {name!r} has an API key and no tokens: it sends conversions only"
        )
    if not account.has_credentials:
        return _missing(settings, name)
    try:
        tokens = root.credentials.load(name)
    except ConfigurationError as refused:
        return error("credentials.sealed", f"the account {name!r}: {refused}", "set the key that sealed them as well")
    if tokens is not None and tokens.refresh is None:
        return warning(
            "credentials.no_refresh",
            f"the account {name!r} has an access token only, which ends within 24 hours",
            f"run `dispatcher account add {name}` with a refresh token",
        )
    if settings.rd_client_id is None or settings.rd_client_secret is None:
        return error(
            "credentials.no_client",
            f"the refresh token of the account {name!r} is of no use without the app it belongs to",
            "set DISPATCHER_RD_CLIENT_ID and DISPATCHER_RD_CLIENT_SECRET",
        )
    return ok("credentials.stored", f"the account {name!r} has credentials, and a key at hand opens them")


def _missing(settings: Settings, name: str) -> Finding:
    if name == "default" and (settings.rd_refresh_token or settings.rd_access_token):
        return ok(
            "credentials.seed",
            "the account 'default' takes its credentials from the environment at a worker's start; RD Station can be "
            "asked about them after that",
        )
    return error(
        "credentials.missing",
        f"the account {name!r} has no credentials: its events wait",
        f"run `dispatcher account add {name}`"
        + (", or set DISPATCHER_RD_REFRESH_TOKEN and start a worker" if name == "default" else ""),
    )


def _taken(settings: Settings, name: str, checked: Checked) -> Finding:
    match checked.standing:
        case Standing.ACCEPTED:
            return ok(
                "credentials.accepted",
                f"RD Station takes the credentials of the account {name!r}; there it is called {checked.name!r}",
            )
        case Standing.REFUSED:
            return error(
                "credentials.refused",
                f"RD Station does not take the credentials of the account {name!r}: {checked.why_not}",
                f"run `dispatcher account login {name}`, or `dispatcher account add {name}` with a good refresh token",
            )
        case Standing.UNRECOGNISED:
            return error(
                "provider.unrecognised",
                f"asked about the account {name!r}, {settings.rd_base_url} did not answer as RD Station does: "
                f"{checked.why_not}",
                "compare DISPATCHER_RD_BASE_URL, and any proxy between here and RD Station",
            )
        case Standing.UNKNOWN:
            return warning(
                "credentials.unchecked",
                f"the credentials of the account {name!r} could not be checked, nor those of accounts after it: "
                f"{checked.why_not}",
                f"see that {settings.rd_base_url} can be reached from here, and run it again in a minute",
            )
