"""RD Station's event endpoints behind the gate (rdstation-api.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher.sandbox import answers
from dispatcher.sandbox.answers import ApiError
from dispatcher.sandbox.messages import Answer, json_answer
from dispatcher.sandbox.recorder import Arrival
from dispatcher.sandbox.rules import QUALIFICATION, dropped_of, problems_of
from dispatcher.sandbox.world import Visit, World


def post_event(world: World, visit: Visit) -> Answer:
    """`POST /platform/events`: one envelope; `?event_type=` is ignored (§2.1)."""
    return _unreadable(world, visit) or _one(world, visit)


def post_conversion(world: World, visit: Visit) -> Answer:
    """`POST /platform/conversions?api_key=`: CONVERSION and nothing else (§2.3)."""
    if refusal := _unreadable(world, visit):
        return refusal
    if visit.arrivals[0].event_type != "CONVERSION":
        rule = {"valid_options": ["CONVERSION"]}
        return answers.invalid(
            [answers.error("INVALID_OPTION", "Must be one of the valid options.", "$.event_type", **rule)]
        )
    return _one(world, visit)


def post_batch(world: World, visit: Visit) -> Answer:
    """`POST /platform/events/batch`: a bare array; the answer follows its order (§2.2)."""
    if refusal := _unreadable(world, visit):
        return refusal
    if not isinstance(visit.opened.parsed, list) or not visit.opened.parsed:
        return answers.invalid([answers.error("INVALID_DATA_TYPE", "Must be of type 'SET'.", "$", data_type="SET")])
    found = [_problems(world, arrival, f"$[{arrival.index}]") for arrival in visit.arrivals]
    if world.options.batch_refusal == "all" and any(found):
        return answers.invalid([problem for problems in found for problem in problems])
    if refusal := _refused_by_state(world, visit.arrivals):
        return refusal
    results = [
        {"errors": problems} if problems else {"event_uuid": _accept(world, arrival)}
        for arrival, problems in zip(visit.arrivals, found, strict=True)
    ]
    return json_answer(200, {"event_batch_uuid": world.event_uuid(), "events": results})


def get_account_info(world: World, visit: Visit) -> Answer:
    """`GET /marketing/account_info`: the cheapest credential check (§9)."""
    name = world.credentials.accounts[visit.account].get("name", f"{visit.account}.sandbox.example")
    return json_answer(200, {"name": name})


def _one(world: World, visit: Visit) -> Answer:
    arrival = visit.arrivals[0]
    if isinstance(visit.opened.parsed, list):
        kind = answers.error("INVALID_DATA_TYPE", "Must be of type 'OBJECT'.", "$", data_type="OBJECT")
        return answers.invalid([kind])
    if problems := _problems(world, arrival, "$"):
        return answers.invalid(problems)
    if refusal := _refused_by_state(world, visit.arrivals):
        return refusal
    return json_answer(200, {"event_uuid": _accept(world, arrival)})


def _unreadable(world: World, visit: Visit) -> Answer | None:
    request = visit.opened.request
    if request.content_type != "application/json":
        return answers.UNSUPPORTED
    if len(request.body) > world.options.max_body_bytes:
        return answers.oversize(world.options)
    return None if visit.opened.readable else answers.UNPARSABLE


def _problems(world: World, arrival: Arrival, root: str) -> list[ApiError]:
    legacy = world.legacy(arrival.account or "")
    return problems_of(arrival.body, world.options, legacy=legacy, root=root)


def _refused_by_state(world: World, arrivals: Sequence[Arrival]) -> Answer | None:
    """What depends on the account or its contacts rather than on the payload."""
    for arrival in arrivals:
        account, kind = arrival.account or "", arrival.event_type or ""
        if kind.startswith("ECOMMERCE_") and world.ecommerce_plan(account) == "refuse":
            return answers.PLAN_MISSING
        unknown = (account, arrival.lead or "") not in world.contacts
        if kind in QUALIFICATION and unknown and world.options.missing_contact == "not_found":
            return answers.LEAD_NOT_FOUND
    return None


def _accept(world: World, arrival: Arrival) -> str:
    arrival.accepted = True
    arrival.event_uuid, arrival.dropped = world.event_uuid(), dropped_of(arrival.body)
    if arrival.account and arrival.lead and arrival.event_type not in QUALIFICATION:
        world.contacts.add((arrival.account, arrival.lead))
    return arrival.event_uuid
