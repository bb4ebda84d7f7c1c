"""Every event we log, in one place: its name, level and meaning.

The code emits a name with fields; how lines look is decided by the process (`LOG_FORMAT`). Fields never hold personal
data or secrets: accounts, keys, event ids, types, verdicts and counts only.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from dispatcher import meters

_LOGGER = logging.getLogger("dispatcher")

EVENTS: Final[dict[str, tuple[int, str]]] = {
    "enqueue.conflict": (logging.WARNING, "a known key came with other content; the first was kept"),
    "bell.lost": (logging.WARNING, "a bell could not be rung; the sweep will find the work"),
    "delivery.attempted": (logging.INFO, "one attempt has been judged"),
    "delivery.lost": (logging.WARNING, "a settlement came too late and changed nothing"),
    "account.suspended": (logging.ERROR, "nothing is sent for this account until a probe succeeds"),
    "account.opened": (logging.INFO, "a probe succeeded; the account sends again"),
    "account.probed": (logging.INFO, "a suspended account was probed"),
    "type.suspended": (logging.ERROR, "events of this type wait until one of them is accepted"),
    "type.opened": (logging.INFO, "events of this type are sent again"),
    "type.retired": (logging.WARNING, "RD Station takes this type no longer; see docs/legacy-events.md"),
    "breaker.opened": (logging.ERROR, "RD Station fails for this account again and again; it is asked less often"),
    "breaker.closed": (logging.INFO, "RD Station answers again"),
    "outage.began": (logging.ERROR, "RD Station fails for several accounts alike; one event asks for all of them"),
    "outage.ended": (logging.INFO, "RD Station answers again"),
    "claim.ended": (logging.INFO, "events ended on their way to be sent: expired, superseded or too old"),
    "token.refreshed": (logging.INFO, "a new access token is stored"),
    "token.refused": (logging.ERROR, "the refresh token was refused; authorise the account again"),
    "sweep.done": (logging.DEBUG, "one sweep"),
    "sweep.abandoned": (logging.WARNING, "leases ended without a settlement; their events go on"),
    "sweep.expired": (logging.INFO, "events ended because their business age had passed"),
    "sweep.repaired": (logging.WARNING, "leads whose next event nobody had woken"),
    "sweep.pruned": (logging.INFO, "events whose retention had passed were deleted"),
    "sweep.failed": (logging.ERROR, "a sweep failed; the next one tries again"),
    "drain.failed": (logging.ERROR, "a drain failed; leases and the sweep cover what it held"),
    "worker.started": (logging.INFO, "a worker is up"),
    "worker.stopping": (logging.INFO, "a worker finishes or releases what is in flight"),
    "worker.stalled": (logging.ERROR, "this worker takes no work although some is due; it ends, to be started again"),
    "notice.raised": (logging.ERROR, "somebody should look at this; told once for the whole fleet"),
    "notice.resolved": (logging.INFO, "what a notice was about is over"),
    "notice.failed": (logging.WARNING, "the webhook for notices did not take one; it is tried again"),
    "counts.failed": (
        logging.WARNING,
        "the counts for the metrics could not be stored; they are kept for the next try",
    ),
    "broker.embedded": (logging.INFO, "this worker serves the embedded broker"),
}
"""Name, level and meaning. A name that is not here cannot be emitted."""


def where(error: BaseException) -> str:
    """The class of an error and where it was raised; not its text, which may quote data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}{place}"


def emit(name: str, **fields: Any) -> None:
    """Log one event of `EVENTS` with its fields, and count it if it is a measure (`dispatcher.meters`).

    Raises:
        KeyError: The name is not listed.
    """
    level, meaning = EVENTS[name]
    meters.note(name, fields)
    if _LOGGER.isEnabledFor(level):
        # A shop's own log shows the text only, and wants the figures of what went wrong in it.
        shown = "".join(f" {field}={value}" for field, value in fields.items()) if level >= logging.WARNING else ""
        # As `_LOGGER.log`, but for the search of the caller through the stack: the name says who speaks.
        extra = {"event_name": name, "fields": fields}
        _LOGGER.handle(
            _LOGGER.makeRecord(_LOGGER.name, level, __file__, 0, "%s: %s%s", (name, meaning, shown), None, extra=extra)
        )
