"""What stands before the application: credentials and limits (rdstation-api.md §5.2, §6)."""

from __future__ import annotations

from dispatcher.sandbox import answers
from dispatcher.sandbox.messages import Answer
from dispatcher.sandbox.tokens import CRM_API_KEY, TokenState
from dispatcher.sandbox.world import Visit, World


def identify(world: World, visit: Visit) -> None:
    """Note whose credential came with the request, good or not."""
    request = visit.opened.request
    account = name = None
    if request.path == "/platform/conversions":
        account = world.credentials.api_keys.get(request.parameters.get("api_key", ""))
    elif request.bearer is not None:
        token = world.credentials.access.get(request.bearer)
        account, name = (token.account, token.name) if token else (None, None)
    for arrival in visit.arrivals:
        arrival.account, arrival.token = account, name


def bearer(world: World, visit: Visit) -> Answer | None:
    """Refuse without a valid access token."""
    token = visit.opened.request.bearer
    if token is None:
        return answers.TOKEN_MISSING
    state, known = world.credentials.state(token, visit.now)
    if state is not TokenState.VALID or known is None:
        return answers.unauthorized(world.options, expired=state is TokenState.EXPIRED)
    world.credentials.used(known)
    return None


def event(world: World, visit: Visit) -> Answer | None:
    """`/platform/events`: token, then the limits."""
    return bearer(world, visit) or _limits(world, visit, cost=1)


def batch(world: World, visit: Visit) -> Answer | None:
    """`/platform/events/batch`: as `event`; what it costs the account is switchable (§6)."""
    cost = len(visit.arrivals) if world.options.batch_cost == "each" else 1
    return bearer(world, visit) or _limits(world, visit, cost=cost)


def api_key(world: World, visit: Visit) -> Answer | None:
    """`/platform/conversions`: API key, then the same limits as the events (§12 no. 27)."""
    key = visit.opened.request.parameters.get("api_key")
    if key == CRM_API_KEY:
        return answers.CRM_KEY
    if key not in world.credentials.api_keys:
        return answers.flat(int(world.options.invalid_key_status), "UNAUTHORIZED", "Invalid api_key.")
    return _limits(world, visit, cost=1)


def _limits(world: World, visit: Visit, *, cost: int) -> Answer | None:
    """The gateway's account quota first, then each lead's; one full window refuses the whole request."""
    enforce = world.options.enforce
    per_minute, per_day = world.limits(visit.account)
    window = world.windows.of_account(visit.account)
    if not window.arrive(visit.now, per_minute, cost=cost, enforce=enforce) and enforce:
        return answers.account_limit(world.options, per_minute, window.seconds_until_room(visit.now, per_minute, cost))
    refusal = None
    for lead, count in visit.leads.items():
        of_lead = world.windows.of_lead(visit.account, lead)
        if not of_lead.arrive(visit.now, per_day, cost=count, enforce=enforce) and enforce:
            refusal = refusal or answers.lead_limit(
                world.options, lead, per_day, of_lead.usage(visit.now) + count,
                of_lead.seconds_until_room(visit.now, per_day, count),
            )  # fmt: skip
    return refusal
