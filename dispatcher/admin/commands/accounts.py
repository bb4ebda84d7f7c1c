"""`pause`, `resume` and `account list|add|remove`; `account login|set|reseal` join them from files of their own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from pydantic import SecretStr

from dispatcher.admin.choosing import account_name
from dispatcher.admin.commands.login import login
from dispatcher.admin.commands.resealing import reseal
from dispatcher.admin.commands.setting import set_
from dispatcher.admin.documents import account_document
from dispatcher.admin.giving import give_key
from dispatcher.admin.options import Account, By, Json, Note, Yes
from dispatcher.admin.root import opened
from dispatcher.admin.tables import accounts_table
from dispatcher.admin.terminal import may_ask, note, print_json, print_text
from dispatcher.admin.trying import give_access_token, give_refresh_token
from dispatcher.errors import DispatcherError
from dispatcher.outbox import pausing, ringing
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.overview import overview
from dispatcher.outbox.pausing import Switched
from dispatcher.outbox.transaction import reading

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.command()(login)
app.command("set")(set_)
app.command()(reseal)

Which = Annotated[
    str | None, typer.Argument(metavar="ACCOUNT", help="The account; `default` if there is none.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Every account there is.")]
AccountName = Annotated[str, typer.Argument(metavar="NAME", help="The account.")]


def pause(
    by: By,
    which: Which = None,
    why: Note = None,
    account: Account = "default",
    *,
    every: All = False,
    as_json: Json = False,
) -> None:
    """Stop sending for an account. Enqueueing goes on, and nothing is lost.

    What is in flight is finished. Waiting spends no retry budget, and the time does not count as age. The account
    stays paused until `dispatcher resume`.
    """
    names = _which(which, account, every=every)
    with opened() as root:
        switched = pausing.pause(root.engine, names, Signature(by, why))
    _tell(switched, "paused", "was paused already", as_json=as_json)


def resume(
    by: By,
    which: Which = None,
    why: Note = None,
    account: Account = "default",
    *,
    every: All = False,
    as_json: Json = False,
) -> None:
    """Let a paused account go on.

    An account that the system has suspended stays so until its probe succeeds.
    """
    names = _which(which, account, every=every)
    with opened() as root:
        switched = pausing.resume(root.engine, names, Signature(by, why))
        ringing.ring([entry.account for entry in switched if entry.changed])
    _tell(switched, "resumed", "was not paused", as_json=as_json)


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List the accounts: their state, what waits for them, whether they have credentials and which key holds those."""
    with opened() as root:
        seen = reading(root.engine, lambda connection: overview(connection, limits=root.limits))
        seals = (
            root.credentials.seals() if any(view.has_credentials or view.has_api_key for view in seen.accounts) else {}
        )
    if as_json:
        print_json([account_document(view) | {"seal": seals.get(view.account)} for view in seen.accounts])
    else:
        print_text(accounts_table(seen.accounts, seen.at, seals) if seen.accounts else "no accounts yet")


@app.command()
def add(
    name: AccountName,
    *,
    access_only: Annotated[
        bool, typer.Option("--access-token", help="Give an access token instead of a refresh token.")
    ] = False,
    api_key: Annotated[
        bool, typer.Option("--api-key", help="Give an API key, which RD Station takes for conversions only.")
    ] = False,
) -> None:
    """Give an account its credentials, or new ones.

    Asks for the refresh token without showing it; without a terminal it is read from the first line of stdin, so
    that it never stands in a command line. RD Station is asked whose it is; what it refuses is not stored, and where
    it gives no answer, the token is stored untried. An API key cannot be tried without sending a conversion. All are
    stored encrypted. A suspended account is probed at once.
    """
    name = account_name(name)
    if access_only and api_key:
        raise typer.BadParameter("give one of them at a time", param_hint="--api-key")
    kind = "API key" if api_key else "access token" if access_only else "refresh token"
    secret = SecretStr(_secret(f"{kind} of {name}"))
    with opened() as root:
        if api_key:
            give_key(root, name, secret)
            tried = None
        else:
            tried = (give_access_token if access_only else give_refresh_token)(root, name, secret)
    note(f"stored the {kind} of {name}")
    if tried is not None and tried.name is not None:
        note(f"RD Station's account is: {tried.name}")
    elif tried is not None:
        note(f"it was not tried: {tried.untried}; `dispatcher check` tries it")


@app.command()
def remove(name: AccountName, *, yes: Yes = False) -> None:
    """Take an account's credentials away. Its events stay and wait."""
    name = account_name(name)
    if not yes:
        if not may_ask():
            raise typer.BadParameter("nothing was changed: add --yes to do it", param_hint="--yes")
        typer.confirm(f"Remove the credentials of {name}?", abort=True, err=True)
    with opened() as root:
        removed = [root.credentials.remove(name), root.api_keys.remove(name)]
    if not any(removed):
        raise DispatcherError(f"the account {name!r} has no credentials; `dispatcher account list` shows which have")
    note(f"removed the credentials of {name}")


def _secret(prompt: str) -> str:
    given = typer.prompt(prompt, hide_input=True, err=True) if may_ask() else sys.stdin.readline()
    if not (secret := given.strip()):
        raise typer.BadParameter("give the token on the first line of stdin", param_hint="stdin")
    return secret


def _which(which: str | None, account: str, *, every: bool) -> list[str] | None:
    if every and which is not None:
        raise typer.BadParameter("name one account or give --all, not both", param_hint="ACCOUNT")
    return None if every else [account_name(which or account)]


def _tell(switched: list[Switched], done: str, already: str, *, as_json: bool) -> None:
    if as_json:
        print_json([{"account": entry.account, "changed": entry.changed} for entry in switched])
        return
    for entry in switched:
        typer.echo(f"{entry.account} {'is ' + done if entry.changed else already}")
