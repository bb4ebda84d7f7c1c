"""`/sandbox/…`: JSON endpoints to look at the provider and to break it. They count toward no limit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dispatcher.errors import ConfigurationError
from dispatcher.sandbox.faults import Fault, FaultKind, faults_schedule
from dispatcher.sandbox.messages import Answer, Request, Unreadable, json_answer, read_json
from dispatcher.sandbox.page import render

if TYPE_CHECKING:
    from dispatcher.sandbox.sandbox import Sandbox

Given = Mapping[str, Any]
"""The JSON body, or the query string of a GET."""


class Control:
    """The page and the JSON endpoints over a `Sandbox`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __call__(self, request: Request, is_local: bool) -> Answer:
        """Answer one request; only this machine may ask, unless switched otherwise."""
        if not is_local and self._sandbox.options.control != "anywhere":
            return _refused(403, "the sandbox's controls answer this machine only; switch control=anywhere")
        if request.path == "/":
            return Answer(200, render(self._sandbox).encode(), content_type="text/html; charset=utf-8")
        if request.path.rstrip("/") == "/sandbox":
            about = {f"{method} {path}": inspect.getdoc(call) for (method, path), call in ENDPOINTS.items()}
            return json_answer(200, about)
        if (endpoint := ENDPOINTS.get((request.method, request.path))) is None:
            return _refused(404, "no such endpoint; GET /sandbox lists them")
        try:
            given = request.parameters if request.method == "GET" else read_json(request.body or b"{}")
            if not isinstance(given, dict):
                raise ConfigurationError("the body must be a JSON object")
            return json_answer(200, endpoint(self._sandbox, given))
        except Unreadable:
            return _refused(400, "the body is no JSON")
        except (ConfigurationError, KeyError, TypeError, ValueError) as mistake:
            return _refused(400, f"{type(mistake).__name__}: {mistake}")


def _refused(status: int, why: str) -> Answer:
    return json_answer(status, {"problem": why})


def _health(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # every endpoint has this signature
    """Ready to answer."""
    return {"ready": True, "accounts": list(sandbox.accounts)}


def _arrivals(sandbox: Sandbox, given: Given) -> object:
    """The newest `limit` (1000) arrivals, oldest first; filters: event_type, key_field, key, accepted=true|false."""
    accepted = {"true": True, "false": False, None: None}[given.get("accepted")]
    found = sandbox.arrivals(given.get("event_type"), given.get("key_field"), given.get("key"), accepted)
    return {"total": len(found), "arrivals": [one.as_dict() for one in found[-int(given.get("limit", 1000)) :]]}


def _counts(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # as above
    """Requests by method, path and status ("none": no answer was sent), and the fullest minute of each account."""
    return sandbox.counts()


def _violations(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # as above
    """What arrived above a limit, by the sandbox's own clock."""
    return sandbox.violations().as_dict()


def _faults(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # as above
    """The faults still waiting."""
    return {"waiting": [fault.as_dict() for fault in sandbox.waiting_faults]}


def _add_fault(sandbox: Sandbox, given: Given) -> object:
    """Add a fault: {"kind": "status", "times": 1, "status": 503, "event_type": …, "key_contains": …, "lead": …}."""
    sandbox.break_with(Fault.from_dict(given))
    return _faults(sandbox, {})


def _schedule(sandbox: Sandbox, given: Given) -> object:
    """Faults at random, repeatably: {"seed": 1, "rates": {"status": 0.05, "accept_then_drop": 0.01}}."""
    sandbox.schedule(
        faults_schedule(int(given["seed"]), {FaultKind(kind): float(rate) for kind, rate in given["rates"].items()})
    )
    return {"scheduled": True}


def _clear_faults(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # as above
    """All is well again."""
    sandbox.clear_faults()
    return _faults(sandbox, {})


def _switches(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # as above
    """Every switch and limit, see dispatcher.sandbox.Options."""
    return sandbox.options.as_dict()


def _switch(sandbox: Sandbox, given: Given) -> object:
    """Change switches or limits: {"legacy": "reject", "account_per_minute": 500, "enforce": false}."""
    sandbox.switch(**given)
    return sandbox.options.as_dict()


def _add_account(sandbox: Sandbox, given: Given) -> object:
    """Add or change an account: {"account": "loja", "account_per_minute": 500}, see dispatcher.sandbox.AccountSpec."""
    spec = {**given}
    sandbox.add_account(str(spec.pop("account")), spec)
    return {"accounts": list(sandbox.accounts)}


def _expire(sandbox: Sandbox, given: Given) -> object:
    """The account's access tokens have expired: {"account": "default"}."""
    sandbox.expire_tokens(given.get("account", "default"))
    return {"done": True}


def _revoke(sandbox: Sandbox, given: Given) -> object:
    """Revoke the account's tokens: {"account": "default", "access": true, "refresh": true}."""
    sandbox.revoke_tokens(
        given.get("account", "default"),
        access=bool(given.get("access", True)),
        refresh=bool(given.get("refresh", True)),
    )
    return {"done": True}


def _restore(sandbox: Sandbox, given: Given) -> object:
    """Take the revocation back: {"account": "default"}."""
    sandbox.restore_tokens(given.get("account", "default"))
    return {"done": True}


def _code(sandbox: Sandbox, given: Given) -> object:
    """An authorization code: {"account": "default"}."""
    return {"code": sandbox.issue_code(given.get("account", "default"))}


def _others(sandbox: Sandbox, given: Given) -> object:
    """Another app uses the account's quota: {"account": "default", "events": 40}."""
    sandbox.others_send(int(given["events"]), given.get("account", "default"))
    return {"done": True}


def _clock(sandbox: Sandbox, given: Given) -> object:
    """Move the sandbox's clock: {"advance_seconds": 3600}."""
    sandbox.advance(float(given["advance_seconds"]))
    return {"now": sandbox.clock.now().isoformat()}


def _reset(sandbox: Sandbox, given: Given) -> object:  # noqa: ARG001  # as above
    """Forget arrivals, counts, windows and faults; tokens and switches stay."""
    sandbox.reset()
    return {"done": True}


ENDPOINTS: dict[tuple[str, str], Callable[[Sandbox, Given], object]] = {
    ("GET", "/sandbox/health"): _health,
    ("GET", "/sandbox/arrivals"): _arrivals,
    ("GET", "/sandbox/counts"): _counts,
    ("GET", "/sandbox/violations"): _violations,
    ("GET", "/sandbox/faults"): _faults,
    ("POST", "/sandbox/faults"): _add_fault,
    ("POST", "/sandbox/faults/schedule"): _schedule,
    ("DELETE", "/sandbox/faults"): _clear_faults,
    ("GET", "/sandbox/switches"): _switches,
    ("POST", "/sandbox/switches"): _switch,
    ("POST", "/sandbox/accounts"): _add_account,
    ("POST", "/sandbox/tokens/expire"): _expire,
    ("POST", "/sandbox/tokens/revoke"): _revoke,
    ("POST", "/sandbox/tokens/restore"): _restore,
    ("POST", "/sandbox/codes"): _code,
    ("POST", "/sandbox/others"): _others,
    ("POST", "/sandbox/clock"): _clock,
    ("POST", "/sandbox/reset"): _reset,
}
