"""The types that RD Station has retired: whether they are still used, refused, and supplied with what they lack."""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher.admin.checks.finding import Finding, error, ok, warning
from dispatcher.admin.root import Root
from dispatcher.events import CATALOGUE
from dispatcher.events.account_defaults import EXAMPLE_TEMPLATE
from dispatcher.events.succession import Route, route, whole_type
from dispatcher.outbox import queries
from dispatcher.outbox.overview import Overview
from dispatcher.outbox.retirement import SEEDED
from dispatcher.outbox.transaction import reading

_RETIRED = sorted(name for name, kind in CATALOGUE.items() if kind.rules.retired)
_CART = "CART_ABANDONED"


def examine(root: Root, seen: Overview) -> Iterator[Finding]:
    """Name each retired type in use, by account what becomes of the waiting ones, and what is missing for it."""
    used = sorted(reading(root.engine, queries.recent_types).keys() & set(_RETIRED))
    for event_type in used:
        yield warning(
            "events.deprecated",
            f"{event_type} is among the newest events; RD Station documents it as accepted until "
            f"31 December 2025 only (LEGACY_EVENTS={root.settings.legacy_events})",
            f"move the shop to {CATALOGUE[event_type].rules.retired}; until then see docs/legacy-events.md",
        )
    refused = {view.account: view.retired_types for view in seen.accounts}
    for account, event_type, number in reading(root.engine, lambda c: queries.waiting_of_types(c, _RETIRED)):
        yield _waiting(root, account, event_type, number, refused.get(account, {}))
    yield from _templates(root, seen, carts=any(whole_type(name) == _CART for name in used))


def _waiting(root: Root, account: str, event_type: str, number: int, refused: dict[str, str]) -> Finding:
    subject = f"{number} {event_type} of the account {account!r} wait"
    match route(event_type, root.settings.legacy_events, refused):
        case Route.NOT_AT_ALL:
            return error(
                "events.retired",
                f"{subject}, and will become dead letters: LEGACY_EVENTS is refuse",
                "set DISPATCHER_LEGACY_EVENTS=auto and restart the workers",
            )
        case Route.TRANSLATED:
            return ok("events.retired", f"{subject}, and will go out as {CATALOGUE[event_type].rules.retired}")
        case _ if event_type in refused:
            return error(
                "events.retired",
                f"{subject}, and RD Station has refused the type: LEGACY_EVENTS is send, so they will be dead letters",
                "set DISPATCHER_LEGACY_EVENTS=auto and restart the workers",
            )
        case _:
            return ok("events.retired", f"{subject}, and will go out as they are: RD Station has not refused the type")


def _templates(root: Root, seen: Overview, *, carts: bool) -> Iterator[Finding]:
    """An account that never says where its carts are taken up can translate only carts that say so themselves."""
    if not carts or root.settings.legacy_events in {"send", "refuse"}:
        return
    for view in seen.accounts:
        seeded = view.account == SEEDED and root.settings.checkout_url_template
        if view.checkout_url_template is None and not seeded:
            yield warning(
                "account.no_checkout_url",
                f"the account {view.account!r} has no checkout-URL template: a translated {_CART} that brings no "
                "checkout_url becomes a dead letter",
                f"`dispatcher account set {view.account} --checkout-url-template '{EXAMPLE_TEMPLATE}'`, "
                "or pass CartAbandoned(checkout_url=...)",
            )
