"""`account set`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from dispatcher.admin.choosing import account_name
from dispatcher.admin.options import Json
from dispatcher.admin.root import opened
from dispatcher.admin.terminal import print_json
from dispatcher.events.account_defaults import PLACE, currency_problem, template_problem
from dispatcher.outbox import account_settings, ringing

DEFAULT = "default"
"""The word that takes a value back."""


class Plan(StrEnum):
    """RD Station's plans, as far as the limit of events depends on them (rdstation-api.md §6)."""

    LIGHT = "light"
    BASIC = "basic"
    PRO = "pro"
    ADVANCED = "advanced"

    @property
    def per_minute(self) -> int:
        """Events that an account of this plan may send in a minute."""
        return 500 if self is Plan.ADVANCED else 120


def _number(given: str) -> int | None:
    if given == DEFAULT:
        return None
    if not (given.isascii() and given.isdigit() and int(given) < 2**31):
        raise typer.BadParameter(f"write a whole number, 0 for no limit, or {DEFAULT!r} to go by the settings")
    return int(given)


Name = Annotated[str, typer.Argument(metavar="NAME", help="The account.")]
Plans = Annotated[
    Plan | None, typer.Option("--plan", help="Its plan at RD Station, which sets --per-minute.", show_default=False)
]
PerMinute = Annotated[
    str | None,
    typer.Option("--per-minute", metavar="N", help="Events it may send in 60 s; 0 = no limit.", show_default=False),
]
LeadPerDay = Annotated[
    str | None,
    typer.Option(
        "--lead-per-day", metavar="N", help="Events a lead may receive in 24 h; 0 = no limit.", show_default=False
    ),
]


Currency = Annotated[
    str | None,
    typer.Option("--currency", metavar="CODE", help="Of its translated orders and carts.", show_default=False),
]
Template = Annotated[
    str | None,
    typer.Option(
        "--checkout-url-template",
        metavar="URL",
        help=f"Where its translated carts are taken up again; {PLACE} stands for the cart's id.",
        show_default=False,
    ),
]


def _text(given: str, option: str, problem_of: Callable[[object], str | None]) -> str | None:
    if given == DEFAULT:
        return None
    if problem := problem_of(given):
        raise typer.BadParameter(problem, param_hint=option)
    return given


def set_(
    name: Name,
    plan: Plans = None,
    per_minute: PerMinute = None,
    lead_per_day: LeadPerDay = None,
    currency: Currency = None,
    template: Template = None,
    *,
    as_json: Json = False,
) -> None:
    """Set what is the account's own, where it differs from the settings: its limits, and what retired events lack.

    `default` as a value takes it back. Of every limit, DISPATCHER_QUOTA_SHARE is ours. Workers go by it from their
    next claim on. Without an option, shows what is set.

    An event of a retired type that goes out as its successor takes the currency and the checkout URL from here, unless
    it brings its own. Dead letters with the reason `type_retired` pick them up when they are replayed.
    """
    name = account_name(name)
    if plan is not None and per_minute is not None:
        raise typer.BadParameter("give --plan or --per-minute, not both", param_hint="--plan")
    changes: dict[str, Any] = {}
    if plan is not None:
        changes["per_minute"] = plan.per_minute
    if per_minute is not None:
        changes["per_minute"] = _number(per_minute)
    if lead_per_day is not None:
        changes["lead_per_day"] = _number(lead_per_day)
    if currency is not None:
        changes["currency"] = _text(currency, "--currency", currency_problem)
    if template is not None:
        changes["checkout_url_template"] = _text(template, "--checkout-url-template", template_problem)
    with opened() as root:
        settings = account_settings.change(root.engine, name, changes)
        if changes:
            ringing.ring([name])
    if as_json:
        print_json({"account": name, **asdict(settings)})
        return
    for word, value in asdict(settings).items():
        typer.echo(f"{name} {word} {'as the settings say' if value is None else value}")
