"""`account login`."""

from __future__ import annotations

import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from dispatcher.admin.choosing import account_name
from dispatcher.admin.giving import give
from dispatcher.admin.login import Authorised, Question, app_of, ask, redeem, require_sealing
from dispatcher.admin.options import Account, Json
from dispatcher.admin.redirects import LoopbackAddress, RedirectListener
from dispatcher.admin.root import opened, rd_station
from dispatcher.admin.terminal import may_ask, note, print_json
from dispatcher.clock import Clock
from dispatcher.errors import DispatcherError
from dispatcher.rdstation.authorization import Spelling

REDIRECT_URI = "http://localhost:8765/callback"

Which = Annotated[
    str | None, typer.Argument(metavar="ACCOUNT", help="The account; `default` if there is none.", show_default=False)
]
RedirectUri = Annotated[
    str,
    typer.Option(
        "--redirect-uri",
        metavar="URL",
        help="Where RD Station sends the browser; registered with your app, exactly so.",
    ),
]
Paste = Annotated[
    bool,
    typer.Option("--paste", help="Ask for the code, or the address at which the browser ended, instead of listening."),
]
Parameter = Annotated[
    Spelling,
    typer.Option("--redirect-parameter", help="The parameter's name, should RD Station not take the documented one."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=1, max=3600, help="How long to wait for the browser.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Store the credentials without asking whether the account is right.")]


def login(
    which: Which = None,
    account: Account = "default",
    *,
    redirect_uri: RedirectUri = REDIRECT_URI,
    paste: Paste = False,
    parameter: Parameter = Spelling.REDIRECT_URI,
    timeout: Timeout = 300,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Log an account in at RD Station, in a browser.

    Prints an address to open and waits for the browser to come back to a port of this machine, which is open only
    meanwhile: register `http://localhost:8765/callback` with your app, or name what is registered. Where the browser
    runs elsewhere, or the registered address leads elsewhere, use `--paste`. The new credentials are checked, shown
    with the name of RD Station's account, and stored encrypted; a suspended account is probed with them at once.
    Needs DISPATCHER_RD_CLIENT_ID and DISPATCHER_RD_CLIENT_SECRET.
    """
    name = account_name(which or account)
    address = _address(redirect_uri, paste=paste)
    if not yes and not may_ask():
        raise typer.BadParameter("nobody is there to say whether the account is right: add --yes", param_hint="--yes")
    with opened() as root, rd_station(root) as oauth:
        app = app_of(root.settings)
        require_sealing(root)
        question = ask(root.settings, redirect_uri, parameter)
        code = _pasted(question) if address is None else _listened(root.clock, question, address, timeout)
        authorised = redeem(oauth, app, code, clock=root.clock)
        _confirm(name, authorised, yes=yes)
        give(root, name, access=authorised.access, refresh=authorised.refresh, expires_at=authorised.expires_at)
    _tell(name, authorised, as_json=as_json)


def _address(redirect_uri: str, *, paste: bool) -> LoopbackAddress | None:
    """Where to listen; None: nowhere, a person pastes."""
    if not _is_address(redirect_uri):
        raise typer.BadParameter("write an http(s) address without a fragment", param_hint="--redirect-uri")
    if paste:
        return None
    address = LoopbackAddress.of(redirect_uri)
    if address is None:
        raise typer.BadParameter(
            "only http:// on this machine with a port can be listened on, such as "
            f"{REDIRECT_URI}; use --paste for an address elsewhere",
            param_hint="--redirect-uri",
        )
    return address


def _is_address(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    plain = uri.isascii() and uri.isprintable() and " " not in uri
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment


def _listened(clock: Clock, question: Question, address: LoopbackAddress, seconds: float) -> SecretStr:
    with RedirectListener(address, question.state) as listener:
        note(f"Open this address on this machine, and agree within {seconds:g} s:\n\n  {question.url}\n")
        redirect = listener.wait(clock, seconds)
    if redirect is None:
        raise DispatcherError(
            f"no browser came back within {seconds:g} s: run it again and open the new address, with a longer "
            "--timeout, or with --paste if the browser runs on another machine"
        )
    return question.code_of(redirect)


def _pasted(question: Question) -> SecretStr:
    """From the terminal without showing it, or from the first line of stdin: the code buys tokens."""
    note(f"Open this address, agree, and paste what the browser comes back with:\n\n  {question.url}\n")
    asked = "code, or the whole address (not shown)"
    given: str = typer.prompt(asked, hide_input=True, err=True) if may_ask() else sys.stdin.readline()
    if not given.strip():
        raise typer.BadParameter("give the code or the address on the first line of stdin", param_hint="stdin")
    return question.code_in(given)


def _confirm(account: str, authorised: Authorised, *, yes: bool) -> None:
    note(f"RD Station's account is: {authorised.name}")
    if not yes:
        typer.confirm(f"Store its credentials for {account}?", abort=True, err=True)


def _tell(account: str, authorised: Authorised, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "account": account,
                "name": authorised.name,
                "renewable": authorised.refresh is not None,
                "token_expires_at": authorised.expires_at,
            }
        )
        return
    note(f"stored the credentials of {account}")
    if authorised.refresh is None:
        note("RD Station gave no refresh token: the account has to be logged in again when the access token ends")
