"""`account reseal`."""

from __future__ import annotations

import typer

from dispatcher.admin.options import Json
from dispatcher.admin.root import opened
from dispatcher.admin.terminal import note, print_json
from dispatcher.errors import DispatcherError
from dispatcher.outbox.vault import Seal

_CAME_TO = {
    Seal.OLDER: "is sealed with the first key now",
    Seal.CURRENT: "was sealed with the first key already",
    Seal.UNREADABLE: "was left as it is",
}


def reseal(*, as_json: Json = False) -> None:
    """Encrypt stored credentials anew with the first key, so that older keys can be dropped.

    To change the key: put the new one in front in DISPATCHER_ENCRYPTION_KEYS, for every process; restart the workers;
    run this; drop the old key once `dispatcher account list` shows none that needs it. Safe to run at any time.
    """
    with opened() as root:
        seals = root.credentials.reseal()
    if as_json:
        print_json([_document(account, seal) for account, seal in seals.items()])
    else:
        for account, seal in seals.items():
            typer.echo(f"{account} {_CAME_TO[seal]}")
        if not seals:
            note("no account has credentials")
    if lost := [account for account, seal in seals.items() if seal is Seal.UNREADABLE]:
        raise DispatcherError(
            f"no key at hand opens the credentials of {', '.join(lost)}: put the key that sealed them behind the first "
            "one in DISPATCHER_ENCRYPTION_KEYS, or log in again with `dispatcher account login`"
        )


def _document(account: str, seal: Seal) -> dict[str, object]:
    changed = seal is Seal.OLDER
    return {"account": account, "changed": changed, "seal": Seal.CURRENT if changed else seal}
