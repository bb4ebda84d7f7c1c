"""What an account says once for all its translated events, because no retired event ever said it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final, get_args
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from dispatcher.errors import ConfigurationError
from dispatcher.events import problems
from dispatcher.events.fields import Currency, Url

PLACE: Final = "{cart_id}"
"""Where a template takes the id of the cart."""

MAX_TEMPLATE_LENGTH: Final = 1000
EXAMPLE_TEMPLATE: Final = f"https://loja.example/checkout/{PLACE}"

_AFTER_THE_HOST = re.compile(r"https?://[^/?#{}]+[/?#]", re.IGNORECASE)


def currency_problem(currency: object) -> str | None:
    """What is wrong with a default currency, or None."""
    accepted = get_args(Currency)
    return None if currency in accepted else f"must be one of {', '.join(accepted)}"


def template_problem(template: object) -> str | None:
    """What is wrong with a checkout URL template, or None. The id of a cart may stand anywhere after the host."""
    if not isinstance(template, str):
        return f"must be text such as {EXAMPLE_TEMPLATE}"
    if len(template) > MAX_TEMPLATE_LENGTH:
        return f"must have at most {MAX_TEMPLATE_LENGTH} characters"
    rest = template.replace(PLACE, "")
    if rest == template:
        return f"must hold {PLACE} where the id of the cart goes, as in {EXAMPLE_TEMPLATE}"
    if "{" in rest or "}" in rest:
        return f"knows no other place than {PLACE}; write other braces as %7B and %7D"
    try:
        _url().validate_python(template.replace(PLACE, "1"))
    except ValidationError as error:
        return next(problems.from_pydantic(error, "")).message
    if not _AFTER_THE_HOST.match(template):
        return f"must hold {PLACE} after the host, as in {EXAMPLE_TEMPLATE}"
    return None


@cache
def _url() -> TypeAdapter[str]:
    return TypeAdapter(Url)  # milliseconds that `import dispatcher` need not spend


@dataclass(frozen=True, slots=True)
class AccountDefaults:
    """An account's own values for what a retired event leaves open; the event's own come first.

    Attributes:
        currency: Of its orders and carts.
        checkout_url_template: Where a customer takes a cart up again, with `{cart_id}` for the id of the cart.

    Raises:
        ConfigurationError: With every refused value; check with `currency_problem` and `template_problem` first.
    """

    currency: str = "BRL"
    checkout_url_template: str | None = None

    def __post_init__(self) -> None:
        found = {"currency": currency_problem(self.currency)}
        if self.checkout_url_template is not None:
            found["checkout_url_template"] = template_problem(self.checkout_url_template)
        if wrong := [f"{name} {problem}" for name, problem in found.items() if problem is not None]:
            raise ConfigurationError("the account's " + "; ".join(wrong))

    def checkout_url(self, cart_id: str) -> str | None:
        """The template with this cart's id, percent-encoded as one segment; None without a template."""
        if self.checkout_url_template is None:
            return None
        return self.checkout_url_template.replace(PLACE, quote(cart_id, safe=""))
