"""Times as operators write and read them: UTC, and how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

_SPAN = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STEPS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def since_moment(text: str, now: datetime) -> datetime:
    """`90s`, `30m`, `2h`, `3d`, `1w` before now, or a date or time in ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: It is neither, or lies in the future; says what is accepted.
    """
    if span := _SPAN.fullmatch(text.strip()):
        try:
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("write a span such as 30m, 2h or 3d, or a time such as 2026-01-31T12:00Z") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment > now:
        raise ValueError("lies in the future")
    return moment


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def span(seconds: float) -> str:
    """Two steps of precision at most: `45 s`, `3 m 20 s`, `2 d 4 h`."""
    left = round(seconds)
    for (size, unit), (finer, finer_unit) in pairwise(_STEPS):
        if left >= size:
            rest = left % size // finer
            return f"{left // size} {unit}" + (f" {rest} {finer_unit}" if rest else "")
    return f"{left} s"


def relative(moment: datetime | None, now: datetime) -> str:
    """`2026-01-31 12:00:05 (3 m ago)`; empty if there is none."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    distance = f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} ({distance})"
