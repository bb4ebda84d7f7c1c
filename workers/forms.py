"""In which form a claimed event goes over the wire: as it is stored, or as the successor of its retired type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from dispatcher.events.succession import Route, refusal
from dispatcher.events.translation import ItemPart, Missing, Translated, translate
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.retirement import Retired
from dispatcher.policy.outcome import Outcome, ProviderError, Stage
from dispatcher.policy.verdict import Judgement, malformed, untranslatable
from dispatcher.rdstation.events_api import build_body


class Form(NamedTuple):
    """What is sent for an event.

    Attributes:
        event_type: The type of the request.
        body: The envelope.
        note: What the attempt's record is to say beside the answer; empty: nothing.
    """

    event_type: str
    body: bytes
    note: str = ""


@dataclass(frozen=True, slots=True)
class Formless:
    """Why there is nothing to send: the judgement, and the problems as an outcome that reached nobody."""

    judgement: Judgement
    outcome: Outcome = Outcome(Stage.NOT_CONNECTED)  # noqa: RUF009  # frozen


def form_of(event: Claimed) -> Form | Formless:
    """The request for an event, from what its claim has brought. Pure; raises nothing."""
    try:
        if event.retired is None or event.retired.route is Route.AS_IT_IS:
            return Form(event.event_type, build_body(event.event_type, event.payload))
        if event.retired.route is Route.NOT_AT_ALL:
            problem = refusal(event.event_type)
            return Formless(untranslatable(f"{problem.path}: {problem.message}"))
        return _successor(event, event.retired)
    except (ValueError, RecursionError) as error:  # what a foreign producer wrote may be anything
        return Formless(malformed(f"the stored event cannot be sent: {error}"))


def _successor(event: Claimed, retired: Retired) -> Form | Formless:
    lines = [ItemPart(line.key, _object(line.payload), _beside(line.attached)) for line in retired.lines]
    made = translate(event.event_type, _object(event.payload), _beside(retired.attached), lines, retired.defaults)
    match made:
        case Translated(event_type, payload_json, left_out):
            note = f"sent as {event_type}, merged with {len(lines)} line events" if lines else f"sent as {event_type}"
            if left_out:
                note += f"; RD Station takes 20 lines, {left_out} of lower value were left out"
            return Form(event_type, build_body(event_type, payload_json), note)
        case Missing(problems):
            errors = tuple(ProviderError("MISSING", problem.message, problem.path) for problem in problems)
            why = f"RD Station no longer takes {event.event_type}, and its successor cannot be made of what is known"
            return Formless(untranslatable(why), Outcome(Stage.NOT_CONNECTED, errors=errors))


def _object(text: str) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content


def _beside(text: str | None) -> dict[str, Any] | None:
    return None if text is None else _object(text)
