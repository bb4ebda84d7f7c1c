"""Whether what is stored of people is encrypted as it should be, and whether the keys at hand open it."""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.admin.checks.finding import Finding, error, ok, warning
from dispatcher.admin.root import Root
from dispatcher.errors import ConfigurationError
from dispatcher.outbox import resealing, sealing
from dispatcher.outbox.transaction import reading


def examine(root: Root) -> Iterator[Finding]:
    """Look at the events that have not ended, and at the dead ones. Says nothing where nothing is encrypted."""
    try:
        at_hand = sealing.keys().names
    except ConfigurationError:  # the settings' own finding
        return
    held = reading(root.engine, lambda connection: resealing.held(connection, open_only=True))
    if held.key is None and set(held.events) <= {resealing.PLAIN}:
        return
    if held.unreadable or (held.key is not None and held.key not in at_hand):
        yield error(
            "payloads.unreadable",
            f"no key at hand opens the payloads of {held.unreadable} events, and the outbox seals with "
            f"{held.key or 'none'}: they wait, and a process without that key cannot enqueue",
            "add the key that sealed them to DISPATCHER_ENCRYPTION_KEYS of every process, and restart the workers",
        )
    if held.key is not None and held.plain:
        yield warning(
            "payloads.plain",
            f"{held.plain} open events are in plain text, although payloads are to be encrypted",
            "restart the shop's processes, then `dispatcher payloads seal`; again after a producer in another language",
        )
    if held.older:
        yield warning(
            "payloads.older_key",
            f"{held.older} open events are held by a key that is on its way out",
            "`dispatcher payloads seal` before you drop it",
        )
    if held.key in at_hand and not (held.unreadable or held.plain or held.older):
        yield ok("payloads.sealed", f"payloads are encrypted with the key {held.key}, which is at hand")
