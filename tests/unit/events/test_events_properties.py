"""Arbitrary and mutated objects against the real `parse_event` and `salvage`, with hypothesis. Nothing is doubled."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.errors import InvalidEvent
from dispatcher.events import CATALOGUE, parse_event
from dispatcher.events.salvage import MAX_TEXT_BYTES, salvage

text = st.text(st.characters(), max_size=12)  # lone surrogates and NUL included
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), text, st.binary(max_size=8), st.decimals(), st.dates()
)
keys = st.one_of(text, st.integers(), st.binary(max_size=4), st.none(), st.sampled_from(["email", "payload", "price"]))
objects = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
examples = st.sampled_from([(name, dict(kind.EXAMPLE)) for name, kind in CATALOGUE.items()])


@st.composite
def near_misses(draw: st.DrawFn) -> dict[Any, Any]:
    """Envelopes that are right but for a few fields."""
    event_type, payload = draw(examples)
    fields = st.one_of(st.sampled_from(sorted(CATALOGUE[event_type].known_fields)), st.just("cf_custom"), keys)
    payload |= draw(st.dictionaries(fields, objects, max_size=3))
    return {"event_type": event_type, "event_family": "CDP", "payload": payload}


@given(st.one_of(objects, near_misses(), st.fixed_dictionaries({"event_type": scalars, "payload": objects})))
@settings(max_examples=400, deadline=None)
def test_parse_event_answers_anything_with_an_event_or_with_invalid_event(envelope: object) -> None:
    with contextlib.suppress(InvalidEvent):
        event = parse_event(envelope)
        sent = json.loads(event.payload_json().encode())
        assert sent == event.payload()
        assert "\x00" not in json.dumps(sent, ensure_ascii=False)
        again = parse_event({"event_type": event.event_type, "event_family": "CDP", "payload": sent})
        assert again.fingerprint() == event.fingerprint()
        assert again.payload_json() == event.payload_json()


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@given(objects)
@settings(max_examples=300, deadline=None)
def test_salvage_keeps_storable_text_of_anything_the_same_each_time(envelope: object) -> None:
    kept = salvage(envelope)
    json.loads(kept.text, parse_constant=refuse_constant)
    assert kept.text.isascii()
    assert "\x00" not in kept.text
    assert len(kept.text) <= MAX_TEXT_BYTES
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", kept.event_type)
    assert kept == salvage(envelope)
