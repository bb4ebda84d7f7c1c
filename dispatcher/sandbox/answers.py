"""RD Station's bodies, word for word where the reference has them (rdstation-api.md §5.2, §6, §7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dispatcher.sandbox.messages import Answer, json_answer
from dispatcher.sandbox.options import Options

ApiError = dict[str, object]
"""One error in RD Station's form: `error_type`, `error_message`, and perhaps `validation_rules` and `path`."""


def error(error_type: str, message: str, path: str | None = None, **rules: object) -> ApiError:
    """One error; `rules` become `validation_rules`."""
    one: ApiError = {"error_type": error_type, "error_message": message}
    if rules:
        one["validation_rules"] = rules
    if path is not None:
        one["path"] = path
    return one


def flat(status: int, error_type: str, message: str) -> Answer:
    """Shape 1: `{"errors": {…}}`."""
    return json_answer(status, {"errors": error(error_type, message)})


def invalid(errors: Sequence[ApiError]) -> Answer:
    """400 for a payload: a wrong type alone is a bare array (shape 6), everything else is under `errors` (shape 2)."""
    wrong_type = all(str(one.get("path", "")).endswith("event_type") for one in errors)
    return json_answer(400, list(errors) if wrong_type else {"errors": list(errors)})


UNPARSABLE = flat(400, "BAD_REQUEST", "Could not parse the body of the request according to the provided Content-Type.")
UNSUPPORTED = flat(415, "UNSUPPORTED_MEDIA_TYPE", "Content type is not supported; use application/json.")
NOT_FOUND = flat(404, "RESOURCE_NOT_FOUND", "The resource couldn't be found.")
LEAD_NOT_FOUND = flat(404, "RESOURCE_NOT_FOUND", "Lead not found.")
PLAN_MISSING = flat(403, "ACCOUNT_REQUIREMENT_MISSING", "The account's plan does not have this feature.")
UNAVAILABLE_BODY = error("SERVICE_UNAVAILABLE", "Service temporarily unavailable")
URI_TOO_LONG = Answer(414, b"URI Too Long", content_type="text/plain")
TOKEN_MISSING = json_answer(401, {"error": "invalid_request", "error_description": "The access token is missing"})
CRM_KEY = json_answer(
    400, {"errors": [error("UNABLE_TO_LOAD_CDP_SCHEMA", "Unable to load the CDP schema of the account.")]}
)


def method_not_allowed(*allowed: str) -> Answer:
    """405; RD Station's body is unknown."""
    return Answer(405, headers=(("Allow", ", ".join(allowed)),), content_type=None)


def oversize(options: Options) -> Answer:
    """413 or 400, as switched; neither is documented."""
    return flat(int(options.oversize), "BAD_REQUEST", "The request body is too large.")


def unauthorized(options: Options, *, expired: bool) -> Answer:
    """401 for a bad or expired access token (§5.2)."""
    if options.unauthorized == "gateway":
        answer = json_answer(
            401,
            {"error": "invalid_token", "error_description": "The access token is invalid or has expired"},
        )
    else:
        answer = flat(401, "UNAUTHORIZED", "Invalid token.")
    if not expired or options.expired_header == "none":
        return answer
    challenge = (
        'Bearer realm="https://api.rd.services/", error="expired_token", error_description="The access token expired"'
    )
    return replace(answer, headers=((options.expired_header, challenge),))


def auth_error(options: Options, status: int, one: ApiError) -> Answer:
    """An error of `/auth/*` in one of the three wrappings in use (§5.2)."""
    body = {"object": {"errors": one}, "array": {"errors": [one]}, "bare": one}[options.auth_errors]
    return json_answer(status, body)


def _hint(options: Options, seconds: float) -> int:
    whole = max(1, math.ceil(seconds))
    return whole if options.hint_unit == "seconds" else whole * 1000


def account_limit(options: Options, limit: int, seconds: float, *, shape: str | None = None) -> Answer:
    """429 of the account's quota: the gateway's body and headers, or the error page's (§6)."""
    if (shape or options.account_429) == "page":
        return flat(429, "RATE_LIMIT_EXCEDDED", "API usage limit exceeded")
    return json_answer(
        429,
        {"message": "API rate limit exceeded"},
        ("ratelimit-limit-quotas", str(limit)),
        ("retry-after-quotas", str(_hint(options, seconds))),
    )


def lead_limit(options: Options, lead: str, limit: int, usage: int, seconds: float) -> Answer:
    """429 of the lead's day; the body names the lead, as RD Station's does (§6)."""
    return json_answer(
        429,
        {
            "error": f"'lead_limiter' rate limit exceeded for 86400 second(s) period for key '{lead}'",
            "max": limit,
            "usage": usage,
            "remaining_time": _hint(options, seconds),
        },
    )


def html(status: int) -> Answer:
    """A proxy's page instead of JSON (§7.2, shape 10)."""
    page = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"
    return Answer(status, page.encode(), content_type="text/html")


def of_status(options: Options, status: int) -> Answer:
    """A body that fits a status that was asked for."""
    if status == 401:
        return unauthorized(options, expired=False)
    if status == 403:
        return PLAN_MISSING
    if status == 404:
        return NOT_FOUND
    if status == 415:
        return UNSUPPORTED
    if status == 429:
        return account_limit(options, options.account_per_minute, 1)
    if status >= 500:
        return json_answer(status, {"errors": UNAVAILABLE_BODY})
    if status >= 400:
        return json_answer(status, {"errors": [error("INVALID", "Is invalid.", "$.payload")]})
    return Answer(status, content_type=None)
