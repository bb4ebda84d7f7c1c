"""RD Station's `/auth/…` (rdstation-api.md §5)."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from dispatcher.sandbox import answers
from dispatcher.sandbox.messages import Answer, Opened, json_answer
from dispatcher.sandbox.tokens import CLIENT_ID, CLIENT_SECRET
from dispatcher.sandbox.world import Visit, World

_FORM = "application/x-www-form-urlencoded"


def post_token(world: World, visit: Visit) -> Answer:
    """`POST /auth/token` by code or refresh token, as JSON or form; `?token_by=` is ignored."""
    if visit.opened.request.content_type not in ("application/json", _FORM):
        return answers.UNSUPPORTED
    given = _fields(visit.opened)
    if given is None:
        return answers.UNPARSABLE
    grant = "code" if given.get("code") else "refresh_token"
    if missing := [name for name in ("client_id", "client_secret", grant) if not given.get(name)]:
        return json_answer(
            400, [answers.error("CANNOT_BE_NULL", "Cannot be null.", f"body.{name}") for name in missing]
        )
    if (given["client_id"], given["client_secret"]) != (CLIENT_ID, CLIENT_SECRET):
        return _denied(world)
    return (_by_code if grant == "code" else _by_refresh)(world, visit, given[grant])


def _by_code(world: World, visit: Visit, code: str) -> Answer:
    known = world.credentials.codes.get(code)
    if known is None:
        return _denied(world)
    if known.used or visit.now >= known.expires_at:
        message = "The authorization code grant has expired."
        return answers.auth_error(world.options, 401, answers.error("EXPIRED_CODE_GRANT", message))
    known.used = True
    return _issued(world, visit, known.account, world.credentials.refresh_token_of(known.account), rotation="fixed")


def _by_refresh(world: World, visit: Visit, refresh_token: str) -> Answer:
    options = world.options
    known = world.credentials.refreshable(refresh_token, now=visit.now, token_seconds=options.token_seconds)
    if known is None:
        message = "The provided refresh token is invalid or was revoked."
        return answers.auth_error(options, 401, answers.error("INVALID_REFRESH_TOKEN", message))
    world.credentials.used(known)
    return _issued(world, visit, known.account, refresh_token, rotation=options.rotation)


def _issued(world: World, visit: Visit, account: str, refresh_token: str, *, rotation: str) -> Answer:
    for arrival in visit.arrivals:
        arrival.account, arrival.accepted = account, True
    issued = world.credentials.issue(
        account, refresh_token, now=visit.now, token_seconds=world.options.token_seconds, rotation=rotation
    )
    return json_answer(
        200,
        {
            "access_token": issued.access_token,
            "expires_in": issued.expires_in,
            "refresh_token": issued.refresh_token,
        },
    )


def post_revoke(world: World, visit: Visit) -> Answer:
    """`POST /auth/revoke`, a form: either token ends both (§5.1)."""
    if visit.opened.request.content_type != _FORM:
        return answers.UNSUPPORTED
    token = (_fields(visit.opened) or {}).get("token", "")
    known = world.credentials.access.get(token) or world.credentials.refresh.get(token)
    if known is None:
        return _denied(world)
    world.credentials.revoke(known.account)
    return json_answer(200, {})


def get_dialog(world: World, visit: Visit) -> Answer:
    """`GET /auth/dialog`: agrees at once and sends the browser back with a code; `?account=` is the sandbox's own."""
    asked = visit.opened.request.parameters
    back = asked.get("redirect_uri") or asked.get("redirect_url") or ""
    account = asked.get("account", "default")
    if asked.get("client_id") != CLIENT_ID or account not in world.credentials.accounts:
        return _denied(world)
    if urlsplit(back).scheme not in ("http", "https") or not back.isascii() or not back.isprintable():
        message = "redirect_uri não possui um valor válido."
        return answers.auth_error(world.options, 401, answers.error("ACCESS_DENIED", message))
    added = {"code": world.credentials.issue_code(account, now=visit.now)}
    if "state" in asked:
        added["state"] = asked["state"]
    joint = "&" if urlsplit(back).query else "?"
    return Answer(302, headers=(("Location", f"{back}{joint}{urlencode(added)}"),), content_type=None)


def _denied(world: World) -> Answer:
    return answers.auth_error(world.options, 401, answers.error("ACCESS_DENIED", "Wrong credentials provided."))


def _fields(opened: Opened) -> dict[str, str] | None:
    """The body's text fields, from JSON or form; None if it is neither."""
    if opened.request.content_type == _FORM:
        return dict(parse_qsl(opened.request.body.decode("utf-8", "replace")))
    if not isinstance(opened.parsed, dict):
        return None
    return {name: value for name, value in opened.parsed.items() if isinstance(value, str)}
