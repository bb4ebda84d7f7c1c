"""What holds for every type of the catalogue: examples, rules, keys, schemas. Nothing is doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

import dispatcher.events
from dispatcher.errors import InvalidEvent
from dispatcher.events import CATALOGUE, Conversion, Event, LineItem, Rules, parse_event, rules_for
from dispatcher.events.event import envelope_json
from dispatcher.events.schema import json_schema

EVERY_TYPE = pytest.mark.parametrize("kind", CATALOGUE.values(), ids=CATALOGUE)
NEEDS_A_KEY = {
    "CONVERSION", "OPPORTUNITY", "SALE", "OPPORTUNITY_LOST", "CHAT_STARTED", "CHAT_FINISHED", "CALL_FINISHED",
    "MEDIA_PLAYBACK_STARTED", "MEDIA_PLAYBACK_STOPPED",
}  # fmt: skip


def enveloped(kind: type[Event], payload: Any = None) -> dict[str, Any]:
    return {
        "event_type": kind.event_type,
        "event_family": "CDP",
        "payload": dict(kind.EXAMPLE) if payload is None else payload,
    }


def test_the_catalogue_has_the_21_types_and_the_package_exports_their_classes() -> None:
    assert len(CATALOGUE) == 21
    for kind in CATALOGUE.values():
        assert getattr(dispatcher.events, kind.__name__) is kind
        assert kind.__name__ in dispatcher.events.__all__


@EVERY_TYPE
def test_the_example_of_a_type_is_sent_as_it_stands(kind: type[Event]) -> None:
    event = parse_event(enveloped(kind))
    assert type(event) is kind
    assert event.payload() == kind.EXAMPLE
    assert json.loads(event.payload_json()) == kind.EXAMPLE
    assert json.loads(envelope_json(event.event_type, event.payload_json())) == enveloped(kind)


@EVERY_TYPE
def test_a_type_has_a_default_key_or_says_how_to_make_one(kind: type[Event]) -> None:
    key = kind(**kind.EXAMPLE).key()
    if kind.event_type in NEEDS_A_KEY:
        assert key is None
        assert kind.key_rule() == ""
        assert f"{kind.event_type}:" in kind.rules.key_advice
        assert "explicit key" in str(kind.__doc__)
    else:
        assert key == kind.key_rule().format(**kind.EXAMPLE)
        assert f"Key: `{kind.key_rule()}`" in str(kind.__doc__)


@EVERY_TYPE
def test_a_required_field_that_is_missing_is_named(kind: type[Event]) -> None:
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    with pytest.raises(InvalidEvent) as refused:
        kind()
    assert [problem.path for problem in refused.value.problems] == [f"$.payload.{name}" for name in required]


@EVERY_TYPE
def test_the_schema_of_a_type_takes_its_example_and_refuses_what_the_class_refuses(kind: type[Event]) -> None:
    schema = json_schema(kind.event_type)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid(enveloped(kind))
    assert not validator.is_valid(enveloped(kind, {**kind.EXAMPLE, "undocumented": 1}))
    assert not validator.is_valid(enveloped(kind, {**kind.EXAMPLE, "email": "x"}))
    assert not validator.is_valid(enveloped(kind, {}))
    assert not kind.attached_fields & schema["properties"]["payload"]["properties"].keys()


def test_orders_and_states_are_resent_and_reminders_are_held() -> None:
    held = {event_type for event_type, kind in CATALOGUE.items() if kind.rules.uncertain == "hold"}
    assert held == {
        "CART_ABANDONED", "CART_ABANDONED_ITEM", "ECOMMERCE_CART_ABANDONED", "ECOMMERCE_CHECKOUT_STARTED",
        "CONVERSION", "CHAT_STARTED", "CHAT_FINISHED", "CALL_FINISHED", "MEDIA_PLAYBACK_STARTED",
        "MEDIA_PLAYBACK_STOPPED",
    }  # fmt: skip


def test_only_what_comes_before_an_order_expires() -> None:
    expiring = {name: kind.rules.expires_in for name, kind in CATALOGUE.items() if kind.rules.expires_in}
    assert expiring == dict.fromkeys(
        ["CART_ABANDONED", "CART_ABANDONED_ITEM", "ECOMMERCE_CHECKOUT_STARTED", "ECOMMERCE_CART_ABANDONED"],
        timedelta(hours=24),
    )


def test_the_retired_types_name_their_successors() -> None:
    assert {name: kind.rules.retired for name, kind in CATALOGUE.items() if kind.rules.retired} == {
        "ORDER_PLACED": "ECOMMERCE_ORDER_PLACED",
        "ORDER_PLACED_ITEM": "ECOMMERCE_ORDER_PLACED",
        "CART_ABANDONED": "ECOMMERCE_CART_ABANDONED",
        "CART_ABANDONED_ITEM": "ECOMMERCE_CART_ABANDONED",
    }


def test_rules_name_types_and_fields_that_exist() -> None:
    for kind in CATALOGUE.values():
        assert set(kind.rules.key_fields) <= kind.sent_fields


def test_a_type_that_nobody_declared_has_the_safe_rules() -> None:
    assert rules_for("SOMETHING_NEW") == Rules(uncertain="hold", expires_in=None)
    assert rules_for("ORDER_PLACED").uncertain == "resend"


def test_custom_fields_of_a_conversion_are_kept() -> None:
    custom = {"cf_text": "São", "cf_number": 7, "cf_flag": False, "cf_list": ["a", "b"]}
    event = Conversion(**{**Conversion.EXAMPLE, **custom, "cf_absent": None})
    assert event.payload() == {**Conversion.EXAMPLE, **custom}


def test_a_product_line_can_be_an_object_or_a_dict() -> None:
    kind = CATALOGUE["ECOMMERCE_CART_ABANDONED"]
    lines = kind.EXAMPLE["line_items"]
    event = kind(**{**kind.EXAMPLE, "line_items": [LineItem(**line) for line in lines]})
    assert event.fingerprint() == kind(**kind.EXAMPLE).fingerprint()
    with pytest.raises(InvalidEvent, match=r"\$\.quantity: must be at least 1"):
        LineItem(**{**lines[0], "quantity": 0})


def test_the_lists_of_an_event_cannot_be_changed_from_outside() -> None:
    tags = ["a"]
    event = Conversion(email="ana@cliente.example", conversion_identifier="x", tags=tags)
    tags.append("b")
    assert event.payload()["tags"] == ["a"]
    assert isinstance(event.tags, tuple)


def test_a_body_of_the_allowed_size_passes_and_one_byte_more_does_not() -> None:
    kind = CATALOGUE["CHAT_FINISHED"]
    room = 190_000 - len(json.dumps(enveloped(kind), ensure_ascii=False, separators=(",", ":")).encode())
    message = kind.EXAMPLE["cf_chat_transcript_message"]
    kind(**{**kind.EXAMPLE, "cf_chat_transcript_message": message + "x" * room})
    with pytest.raises(InvalidEvent, match=r"^\$: is 190001 bytes"):
        kind(**{**kind.EXAMPLE, "cf_chat_transcript_message": message + "x" * (room + 1)})


FIRST_USE = """
import sys, threading
sys.setswitchinterval(1e-6)
from dispatcher.events import CATALOGUE
forbidden = {"requests", "celery", "email_validator", "kombu"} & set(sys.modules)
barrier, failed = threading.Barrier(8), []
def use():
    for kind in CATALOGUE.values():
        barrier.wait()
        try:
            kind(**kind.EXAMPLE).payload_json()
        except BaseException as error:
            failed.append(repr(error))
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit(str((forbidden, failed)) if forbidden or failed else 0)
"""


def test_threads_may_share_the_first_use_of_a_class_and_the_import_is_light() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_USE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
