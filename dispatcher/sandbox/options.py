"""What can be switched: the limits, and every behaviour rdstation-api.md marks UNKNOWN (§11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, Self, get_args, get_origin, get_type_hints

from dispatcher.errors import ConfigurationError


@dataclass(frozen=True)
class Options:
    """The sandbox's switches. Where RD Station's behaviour is unknown, the first choice is the default.

    Attributes:
        account_per_minute: Events one account may post in any 60 s; 0 = unlimited (§6: 120, or 500 on Advanced).
        lead_per_day: Events for one lead in any 24 h; 0 = unlimited (§6).
        enforce: False: nothing is refused for a limit, only counted.
        legacy: The four retired types. `reject` (400 `INVALID_OPTION`) is the announced end; whether it has come is not
            known, and docs/adr/0016 says why `accept` is the default.
        batch_refusal: One bad element in a batch: the whole batch answers 400, or 200 with mixed results.
        batch_cost: What a batch of N takes from the account's window: N, or one.
        oversize: The status for a body above `max_body_bytes`.
        max_body_bytes: "0,2Mb" in the documentation, read as 200 000 (§12 no. 2).
        rotation: Refresh tokens are `fixed` for ever; `rotated` at each refresh, the old one dying at once; or
            `rotated_with_grace`, the old one living until a token of the new pair is used.
        token_seconds: Life of an access token.
        phone_only: An event that names its lead by `phone` alone.
        ecommerce_plan: `refuse` answers 403 to ECOMMERCE_* (the plan lacks the feature).
        unknown_keys: Undocumented payload keys of types other than CONVERSION.
        excess: More than 20 line items, 5 payment methods, 10 categories, or over-long ids.
        missing_contact: OPPORTUNITY, SALE, OPPORTUNITY_LOST for a lead no other event has named before.
        account_429: The body of the account's 429: the gateway's or the error page's.
        hint_unit: The unit of `retry-after-quotas` and `remaining_time`.
        unauthorized: The 401 body for a bad or expired access token: the application's, or the gateway's.
        expired_header: The header that tells an expired token from an unknown one.
        auth_errors: The wrapping of errors of `/auth/*`.
        invalid_key_status: The status for an unknown API key.
        control: Who may see the page and `/sandbox/…` when the sandbox listens beyond loopback.
        keep: Arrivals kept in memory; older ones are forgotten, their counts stay.
    """

    account_per_minute: int = 120
    lead_per_day: int = 120
    enforce: bool = True
    legacy: Literal["accept", "reject"] = "accept"
    batch_refusal: Literal["all", "mixed"] = "all"
    batch_cost: Literal["each", "one"] = "each"
    oversize: Literal["413", "400"] = "413"
    max_body_bytes: int = 200_000
    rotation: Literal["fixed", "rotated", "rotated_with_grace"] = "fixed"
    token_seconds: int = 86_400
    phone_only: Literal["refuse", "accept"] = "refuse"
    ecommerce_plan: Literal["accept", "refuse"] = "accept"
    unknown_keys: Literal["drop", "refuse"] = "drop"
    excess: Literal["refuse", "accept"] = "refuse"
    missing_contact: Literal["accept", "not_found"] = "accept"
    account_429: Literal["gateway", "page"] = "gateway"
    hint_unit: Literal["seconds", "milliseconds"] = "seconds"
    unauthorized: Literal["plain", "gateway"] = "plain"
    expired_header: Literal["www-authenticate", "x-amzn-remapped-www-authenticate", "none"] = "www-authenticate"
    auth_errors: Literal["object", "array", "bare"] = "object"
    invalid_key_status: Literal["401", "400", "403"] = "401"
    control: Literal["loopback", "anywhere"] = "loopback"
    keep: int = 500_000

    def switched(self, changes: Mapping[str, object]) -> Self:
        """A copy with some switches changed; numbers and booleans may be given as text.

        Raises:
            ConfigurationError: A name or a value is unknown; names every mistake and what is accepted.
        """
        hints = get_type_hints(type(self))
        values: dict[str, object] = {}
        mistakes: list[str] = []
        for name, value in changes.items():
            if name not in hints:
                mistakes.append(f"{name}: no such switch; there are {', '.join(field.name for field in fields(self))}")
                continue
            try:
                values[name] = _read(hints[name], value)
            except ValueError as mistake:
                mistakes.append(f"{name}: {mistake}")
        if mistakes:
            raise ConfigurationError("; ".join(mistakes))
        return replace(self, **values)  # type: ignore[arg-type]  # each value was read as its field's type above

    def as_dict(self) -> dict[str, object]:
        """The switches and their values, for the control endpoints."""
        return asdict(self)


def _read(hint: object, value: object) -> object:
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if str(value) not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)
    if hint is bool:
        known = {"true": True, "1": True, "false": False, "0": False}
        if (word := str(value).lower()) not in known:
            raise ValueError("must be true or false")
        return known[word]
    if isinstance(value, bool) or not str(value).isascii() or not str(value).isdecimal():
        raise ValueError("must be a whole number, zero or more")
    return int(str(value))
