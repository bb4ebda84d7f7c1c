"""Which of RD Station's limiters said no, and for how long (rdstation-api.md §6). Capping is the policy's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from dispatcher.policy.outcome import LimitHint, LimitScope

_LEAD_WINDOW = 86_400.0
_ACCOUNT_WINDOW = 60.0
_IN_MILLISECONDS_ABOVE = {LimitScope.LEAD: _LEAD_WINDOW, LimitScope.ACCOUNT: 3_600.0}
"""A wait longer than the window cannot be in seconds: the page says milliseconds while its sample is in seconds
(rdstation-api.md §12 row 17). The account's window is a minute; an hour leaves room for a strict gateway."""

_LIMITER = re.compile(r"\b(\w+?)_limiter\b")
_SECONDS = re.compile(r"\s*\d{1,18}(?:\.\d{1,9})?\s*", re.ASCII)


def limit_hint(document: object, headers: Mapping[str, str], now: datetime) -> LimitHint:
    """Read a 429 (or the wait that another status names). Never raises.

    Args:
        document: The parsed body, or None.
        headers: Names in lower case.
        now: The wall clock, for a `Retry-After` that names a date.

    Returns:
        The scope, and the wait in seconds: finite and not negative, or None.
    """
    body = document if isinstance(document, dict) else {}
    remaining = _number(body.get("remaining_time"))
    scope = _scope(body, remaining)
    for wait in (remaining, _number(headers.get("retry-after-quotas")), _number(headers.get("retry-after"))):
        if wait is not None:
            return LimitHint(scope, wait / 1_000 if wait > _IN_MILLISECONDS_ABOVE[scope] else wait)
    return LimitHint(scope, _until(headers.get("retry-after"), now))


def _scope(body: dict[str, object], remaining: float | None) -> LimitScope:
    error = body.get("error")
    named = _LIMITER.search(error) if isinstance(error, str) else None
    if named:
        return LimitScope.LEAD if named[1] == "lead" else LimitScope.ACCOUNT
    # Without a name: only a lead's window can be closed for longer than a minute.
    return LimitScope.LEAD if remaining is not None and remaining > _ACCOUNT_WINDOW else LimitScope.ACCOUNT


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _SECONDS.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(value: str | None, now: datetime) -> float | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # "-0000": UTC of unknown origin
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
