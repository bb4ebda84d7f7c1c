"""RD Station's bad days: every kind of fault the sandbox can play, together 15 % of the requests, by the seed."""

from __future__ import annotations

from dispatcher.sandbox import Fault, FaultKind, FaultSchedule, faults_schedule

SHARE = 0.15

_WEIGHTS: dict[Fault, float] = {
    Fault(FaultKind.STATUS, times=None, status=503): 20,
    Fault(FaultKind.STATUS, times=None, status=500): 10,
    Fault(FaultKind.STATUS, times=None, status=408): 2,
    Fault(FaultKind.HTML, times=None): 8,
    Fault(FaultKind.EMPTY, times=None): 6,
    Fault(FaultKind.SLOW, times=None, seconds=0.4): 10,
    Fault(FaultKind.DRIBBLE, times=None, seconds=0.4): 4,
    Fault(FaultKind.HANG, times=None): 3,
    Fault(FaultKind.HANG, times=None, accept=True): 3,
    Fault(FaultKind.ACCEPT_THEN_DROP, times=None): 10,
    Fault(FaultKind.DROP_UNREAD, times=None): 8,
    Fault(FaultKind.DROP_MID_ANSWER, times=None, shape="body"): 4,
    Fault(FaultKind.DROP_MID_ANSWER, times=None, shape="headers"): 4,
    Fault(FaultKind.DROP_MID_ANSWER, times=None, shape="status"): 4,
    Fault(FaultKind.NO_UUID, times=None, shape="html"): 2,
    Fault(FaultKind.NO_UUID, times=None, shape="empty"): 2,
    Fault(FaultKind.NO_UUID, times=None, shape="json"): 2,
    Fault(FaultKind.RATE_LIMIT, times=None, shape="gateway", seconds=0.5): 0.3,
    Fault(FaultKind.RATE_LIMIT, times=None, shape="page", seconds=0.5): 0.3,
    Fault(FaultKind.RATE_LIMIT, times=None, shape="lead", seconds=0.5): 2,
    Fault(FaultKind.STATUS, times=None, status=401): 3,
    Fault(FaultKind.STATUS, times=None, status=422): 2,
    Fault(FaultKind.STATUS, times=None, status=413): 1,
    Fault(FaultKind.STATUS, times=None, status=403): 0.5,
    Fault(FaultKind.STATUS, times=None, status=404): 0.5,
    Fault(FaultKind.REDIRECT, times=None): 0.5,
}  # an account's 429 closes it for a minute; 403, 404 and a redirect suspend it, or a type of it, until a probe


def bad_days(seed: int, without: frozenset[FaultKind] = frozenset()) -> FaultSchedule:
    """So many requests meet a fault; which, depends on the seed, the event and its try."""
    weights = {fault: weight for fault, weight in _WEIGHTS.items() if fault.kind not in without}
    total = sum(weights.values())
    return faults_schedule(seed, {fault: SHARE * weight / total for fault, weight in weights.items()})
