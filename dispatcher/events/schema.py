"""The JSON Schema of an event type's envelope, read from its class."""

from __future__ import annotations

import json
from typing import Any

from dispatcher.events.catalogue import CATALOGUE
from dispatcher.events.conversion import CUSTOM_FIELD, Conversion


def json_schema(event_type: str) -> dict[str, Any]:
    """The schema (draft 2020-12) of the envelope that `parse_event` takes for this type.

    It cannot say everything: the size of the whole, lower case, and the calendar are checked by the class alone.

    Raises:
        KeyError: If there is no such type.
    """
    kind = CATALOGUE[event_type]
    payload = kind.model_json_schema()
    definitions = payload.pop("$defs", {})
    for name in kind.attached_fields:
        del payload["properties"][name]
    referred = json.dumps(payload)  # attached fields may have been the only ones to use a definition
    definitions = {name: part for name, part in definitions.items() if f'"#/$defs/{name}"' in referred}
    if issubclass(kind, Conversion):
        custom = payload["additionalProperties"]
        payload |= {"patternProperties": {f"^{CUSTOM_FIELD.pattern}$": custom}, "additionalProperties": False}
    payload["examples"] = [dict(kind.EXAMPLE)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": event_type,
        "type": "object",
        "properties": {
            "event_type": {"const": event_type},
            "event_family": {"const": "CDP"},
            "payload": payload,
        },
        "required": ["event_type", "event_family", "payload"],
        "additionalProperties": False,
        "$defs": definitions,
    }
