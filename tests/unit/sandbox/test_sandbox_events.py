"""The event endpoints of rdstation-api.md §2 and the sandbox's own payload rules (§3), over real HTTP."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from dispatcher.sandbox import ACCESS_TOKEN, Sandbox
from dispatcher.sandbox.rules import TYPES, number
from tests.unit.sandbox.shop import Shop, order, typed

ITEM = {"product_id": "P-10", "product_title": "Camiseta", "price": 59.9, "quantity": 2}
CHECKOUT = {"identifier": "C-1", "checkout_url": "https://l.example/c", "currency": "BRL", "price": 1, "total_items": 1}
PAID = {"identifier": "P-1", "currency": "BRL", "price": 343.7, "total_items": 3}
CHAT = {"chat_subject": "s", "cf_chat_status": "online"}
MEDIA = {"media_type": "Video", "media_identifier": "m"}
GOOD: dict[str, dict[str, Any]] = {
    "ORDER_PLACED": order()["payload"],
    "ORDER_PLACED_ITEM": {"cf_order_id": "1", "cf_order_product_id": "p", "cf_order_product_sku": "s"},
    "CART_ABANDONED": {"cf_cart_id": "1", "cf_cart_total_items": "5", "cf_cart_status": "in_progress"},
    "CART_ABANDONED_ITEM": {"cf_cart_id": "1", "cf_cart_product_id": "p", "cf_cart_product_sku": "s"},
    "ECOMMERCE_CHECKOUT_STARTED": {**CHECKOUT, "line_items": [ITEM]},
    "ECOMMERCE_CART_ABANDONED": CHECKOUT,
    "ECOMMERCE_ORDER_PLACED": PAID,
    "ECOMMERCE_ORDER_PAID": {**PAID, "payment_methods": ["pix"], "shipping_price": 25},
    "ECOMMERCE_ORDER_CANCELLED": {"identifier": "P-1", "cancel_reason": "customer"},
    "ECOMMERCE_ORDER_REFUNDED": {"identifier": "P-1", "currency": "BRL", "price": 1},
    "ECOMMERCE_ORDER_FULFILLED": {"identifier": "E-1", "tracking_url": "https://r.example/a"},
    "ECOMMERCE_SHIPMENT_DELIVERED": {"identifier": "E-1", "order_identifier": "P-1"},
    "CONVERSION": {"conversion_identifier": "newsletter", "tags": ["loja"], "cf_anything": "M"},
    "OPPORTUNITY": {"funnel_name": "default"},
    "SALE": {"funnel_name": "default", "value": 1.5},
    "OPPORTUNITY_LOST": {"funnel_name": "default", "reason": "price"},
    "CHAT_STARTED": CHAT,
    "CHAT_FINISHED": {**CHAT, "cf_chat_transcript_message": "m"},
    "CALL_FINISHED": {"call_from_number": "1", "call_status": "Encerrada"},
    "MEDIA_PLAYBACK_STARTED": MEDIA,
    "MEDIA_PLAYBACK_STOPPED": {**MEDIA, "media_finished": True},
}

OPTIONAL = {
    "line_items", "payment_methods", "shipping_price", "cancel_reason", "tracking_url", "tags", "cf_anything", "value",
    "reason", "media_finished",
}  # fmt: skip
"""What `GOOD` holds beyond the required fields of §3."""


def found(shop: Shop, event: object) -> set[tuple[str, str]]:
    """What is wrong with an event, as (error_type, path)."""
    answer = shop.send(event)
    assert answer.status_code == 400
    errors = answer.json() if isinstance(answer.json(), list) else answer.json()["errors"]
    return {(one["error_type"], one["path"]) for one in errors}


def test_an_accepted_event_answers_its_uuid_and_nothing_else(shop: Shop) -> None:
    answer = shop.send(order())
    assert answer.status_code == 200
    assert answer.json().keys() == {"event_uuid"}
    (arrival,) = shop.sandbox.arrivals("ORDER_PLACED")
    assert uuid.UUID(arrival.event_uuid or "") == uuid.UUID(answer.json()["event_uuid"])
    assert (arrival.accepted, arrival.status, arrival.key, arrival.lead) == (True, 200, "1001", "ana@cliente.example")


def test_the_same_event_twice_is_two_events_with_two_uuids(shop: Shop) -> None:
    first, second = shop.send(order()).json(), shop.send(order()).json()
    assert first != second
    assert shop.sandbox.copies("cf_order_id") == {"1001": 2}


def test_the_query_string_is_ignored_even_when_it_disagrees(shop: Shop) -> None:
    assert shop.post("/platform/events?event_type=SALE", order()).status_code == 200


@pytest.mark.parametrize("event_type", sorted(TYPES))
def test_every_documented_type_has_an_accepted_example(shop: Shop, event_type: str) -> None:
    assert shop.send(typed(event_type, **GOOD[event_type])).status_code == 200


@pytest.mark.parametrize("event_type", sorted(TYPES))
def test_each_required_field_of_each_type_is_missed(shop: Shop, event_type: str) -> None:
    shop.sandbox.switch(account_per_minute=0, lead_per_day=0)
    for name in GOOD[event_type].keys() - OPTIONAL - {"email"}:
        payload = {key: value for key, value in GOOD[event_type].items() if key != name}
        assert found(shop, typed(event_type, **payload)) == {("CANNOT_BE_NULL", f"$.payload.{name}")}


def test_every_problem_is_reported_at_once(shop: Shop) -> None:
    event = order(email="nobody", cf_order_total_items=True, cf_order_payment_method="pix", cf_order_status=" ")
    assert found(shop, event) == {
        ("INVALID_EMAIL_FORMAT", "$.payload.email"),
        ("INVALID_DATA_TYPE", "$.payload.cf_order_total_items"),
        ("INVALID_OPTION", "$.payload.cf_order_payment_method"),
        ("CANNOT_BE_BLANK", "$.payload.cf_order_status"),
    }


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (order(cf_order_payment_amount="200,5"), ("INVALID_DATA_TYPE", "$.payload.cf_order_payment_amount")),
        (order(cf_order_id=1001), ("INVALID_DATA_TYPE", "$.payload.cf_order_id")),
        (order(legal_bases=[{}]), ("CANNOT_BE_NULL", "$.payload.legal_bases[0].type")),
        (typed("ECOMMERCE_ORDER_PAID", **{**PAID, "currency": "GBP"}), ("INVALID_OPTION", "$.payload.currency")),
        (typed("ECOMMERCE_ORDER_PAID", **{**PAID, "price": -1}), ("INVALID", "$.payload.price")),
        (typed("ECOMMERCE_ORDER_PAID", **{**PAID, "total_items": "3"}), ("INVALID_DATA_TYPE", "$.payload.total_items")),
        (typed("ECOMMERCE_CART_ABANDONED", **{**CHECKOUT, "total_items": 0}), ("INVALID", "$.payload.total_items")),
        (
            typed("ECOMMERCE_CART_ABANDONED", **CHECKOUT, line_items=[ITEM, {**ITEM, "quantity": 0}]),
            ("INVALID", "$.payload.line_items[1].quantity"),
        ),
        (typed("CONVERSION", conversion_identifier="n", tags="vip"), ("INVALID_DATA_TYPE", "$.payload.tags")),
        (
            typed("CONVERSION", conversion_identifier="n", tags=["a", "VIP"]),
            ("VALUES_MUST_BE_LOWERCASE", "$.payload.tags[1]"),
        ),
        ({**order(), "event_family": "CRM"}, ("INVALID_OPTION", "$.event_family")),
        ({"event_type": "ORDER_PLACED", "event_family": "CDP"}, ("INVALID_DATA_TYPE", "$.payload")),
        (order(email=None), ("AT_LEAST_ONE_REQUIRED", "$.payload.email")),
        (order(email=None, phone="+5548999990000"), ("MISSING", "$.payload.email")),
        (["no", "envelope"], ("INVALID_DATA_TYPE", "$")),
        (None, ("INVALID_DATA_TYPE", "$")),
    ],
)  # fmt: skip
def test_a_broken_rule_is_named_with_its_path(shop: Shop, event: object, problem: tuple[str, str]) -> None:
    body = json.dumps(event)
    headers = {"Authorization": f"Bearer {ACCESS_TOKEN}", "Content-Type": "application/json"}
    answer = shop.session.post(f"{shop.sandbox.url}/platform/events", data=body, headers=headers, timeout=5)
    assert answer.status_code == 400
    assert problem in {(one["error_type"], one["path"]) for one in answer.json()["errors"]}
    assert not any(one.accepted for one in shop.sandbox.arrivals())


def test_an_unknown_type_is_refused_with_a_bare_array_that_lists_the_types(shop: Shop) -> None:
    answer = shop.send({**order(), "event_type": "ORDER_SHIPPED"})
    assert answer.status_code == 400
    (error,) = answer.json()
    assert (error["error_type"], error["path"]) == ("INVALID_OPTION", "$.event_type")
    assert "CONVERSION" in error["validation_rules"]["valid_options"]


def test_retired_types_are_accepted_until_switched_off_for_all_or_for_one_account(shop: Shop) -> None:
    shop.sandbox.add_account("gone", {"legacy": "reject"})
    assert shop.send(order(), "sandbox-access-gone").json()[0]["error_type"] == "INVALID_OPTION"
    assert shop.send(order()).status_code == 200
    shop.sandbox.switch(legacy="reject")
    refused = shop.send(order())
    assert (refused.status_code, refused.json()[0]["path"]) == (400, "$.event_type")
    assert "ORDER_PLACED" not in refused.json()[0]["validation_rules"]["valid_options"]


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"", b"\xff{}", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000,
        '{"event_type": "á"}'.encode("latin-1"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_is_a_bad_request(shop: Shop, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {ACCESS_TOKEN}", "Content-Type": "application/json; charset=utf-8"}
    answer = shop.session.post(f"{shop.sandbox.url}/platform/events", data=body, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["errors"]["error_type"]) == (400, "BAD_REQUEST")


def test_another_content_type_is_unsupported(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {ACCESS_TOKEN}", "Content-Type": "text/plain"}
    answer = shop.session.post(f"{shop.sandbox.url}/platform/events", data=b"{}", headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["errors"]["error_type"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_above_the_limit_is_too_large(shop: Shop) -> None:
    big = order(name="x" * 200_001)
    assert shop.send(big).status_code == 413
    shop.sandbox.switch(oversize="400")
    assert shop.send(big).status_code == 400
    assert shop.send(order()).status_code == 200


def test_other_paths_and_methods_are_refused(shop: Shop) -> None:
    assert shop.post("/platform/event", order()).status_code == 404
    assert shop.session.get(f"{shop.sandbox.url}/platform/events", timeout=5).status_code == 405
    assert shop.post(f"/platform/events?x={'x' * 8200}", order()).status_code == 414


def test_switches_play_what_is_unknown(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=0, lead_per_day=0)
    by_phone = order(phone="+5548999990000")
    del by_phone["payload"]["email"]
    shop.sandbox.switch(phone_only="accept")
    assert shop.send(by_phone).status_code == 200

    assert shop.send(order(cf_mine="x")).status_code == 200
    shop.sandbox.switch(unknown_keys="refuse")
    assert found(shop, order(cf_mine="x")) == {("INVALID_FIELDS", "$.payload.cf_mine")}
    assert shop.send(typed("CONVERSION", conversion_identifier="n", cf_mine="x")).status_code == 200

    many = typed("ECOMMERCE_ORDER_PAID", **PAID, line_items=[ITEM] * 21, payment_methods=["pix"] * 6)
    assert found(shop, many) == {("TOO_LONG", "$.payload.line_items"), ("TOO_LONG", "$.payload.payment_methods")}
    shop.sandbox.switch(excess="accept")
    assert shop.send(many).status_code == 200

    shop.sandbox.switch(ecommerce_plan="refuse")
    refused = shop.send(many)
    assert (refused.status_code, refused.json()["errors"]["error_type"]) == (403, "ACCOUNT_REQUIREMENT_MISSING")

    shop.sandbox.switch(missing_contact="not_found")
    sale = typed("SALE", funnel_name="default", email="new@cliente.example")
    assert shop.send(sale).json()["errors"]["error_message"] == "Lead not found."
    shop.send(typed("CONVERSION", conversion_identifier="n", email="new@cliente.example"))
    assert shop.send(sale).status_code == 200


def test_a_batch_answers_in_its_own_order(shop: Shop) -> None:
    answer = shop.post("/platform/events/batch", [order("1"), order("2"), typed("SALE", **GOOD["SALE"])])
    uuids = [one["event_uuid"] for one in answer.json()["events"]]
    assert answer.json().keys() == {"event_batch_uuid", "events"}
    assert uuids == [one.event_uuid for one in shop.sandbox.arrivals()]
    assert [(one.number, one.index) for one in shop.sandbox.arrivals()] == [(1, 0), (1, 1), (1, 2)]
    assert shop.sandbox.count("/platform/events/batch") == 1


def test_one_bad_event_refuses_the_whole_batch_with_its_index(shop: Shop) -> None:
    answer = shop.post("/platform/events/batch", [order("1"), order("2", email="nobody"), order("3", cf_order_id=3)])
    assert answer.status_code == 400
    assert [one["path"] for one in answer.json()["errors"]] == ["$[1].payload.email", "$[2].payload.cf_order_id"]
    assert not shop.sandbox.arrivals(accepted=True)


def test_a_batch_may_be_switched_to_mixed_results(shop: Shop) -> None:
    shop.sandbox.switch(batch_refusal="mixed")
    answer = shop.post("/platform/events/batch", [order("1"), order("2", email="nobody")])
    assert answer.status_code == 200
    good, bad = answer.json()["events"]
    assert good.keys() == {"event_uuid"}
    assert bad["errors"][0]["path"] == "$[1].payload.email"
    assert [one.key for one in shop.sandbox.arrivals(accepted=True)] == ["1"]


@pytest.mark.parametrize("body", [[], {"events": []}])
def test_a_batch_is_a_bare_array_with_something_in_it(shop: Shop, body: object) -> None:
    answer = shop.post("/platform/events/batch", body)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "$")


def test_conversions_take_an_api_key_and_only_conversions(shop: Shop) -> None:
    conversion = typed("CONVERSION", conversion_identifier="n")
    good = shop.post("/platform/conversions?api_key=sandbox-api-key-default", conversion, token=None)
    wrong_type = shop.post("/platform/conversions?api_key=sandbox-api-key-default", order(), token=None)
    wrong_key = shop.post("/platform/conversions?api_key=no", conversion, token=None)
    crm_key = shop.post("/platform/conversions?api_key=sandbox-crm-api-key", conversion, token=None)
    assert good.status_code == 200
    assert (wrong_type.status_code, wrong_type.json()[0]["path"]) == (400, "$.event_type")
    assert wrong_key.status_code == 401
    assert crm_key.json()["errors"][0]["error_type"] == "UNABLE_TO_LOAD_CDP_SCHEMA"
    assert {one.account for one in shop.sandbox.arrivals()} == {"default", None}
    assert "api-key" not in repr(shop.sandbox.arrivals())


def test_the_sample_bodies_of_the_api_pages_pass(shop: Shop) -> None:
    sample_order = order("ID do pedido", "contato@email.com", cf_order_status="Status do pedido")
    sample_cart = typed(
        "CART_ABANDONED", email="contato@email.com", cf_cart_id="ID do carrinho", cf_cart_total_items="5",
        cf_cart_status="Status do carrinho",
    )  # fmt: skip
    assert [shop.send(sample).status_code for sample in (sample_order, sample_cart)] == [200, 200]


def test_arrivals_are_found_by_type_field_and_key(sandbox: Sandbox, shop: Shop) -> None:
    shop.send(order("1"))
    shop.send(order("2"))
    shop.send(typed("CART_ABANDONED", **GOOD["CART_ABANDONED"]))
    assert len(sandbox.arrivals(key_field="cf_order_id")) == 2
    assert [one.key for one in sandbox.arrivals("ORDER_PLACED", "cf_order_id", "2")] == ["2"]
    assert [one.event_type for one in sandbox.arrivals(key="1")] == ["ORDER_PLACED", "CART_ABANDONED"]


def test_fields_that_nobody_stores_are_dropped_without_a_word_and_named(sandbox: Sandbox, shop: Shop) -> None:
    events = [
        typed("CONVERSION", conversion_identifier="n", cf_tamanho="M", favourite="blue"),
        typed("SALE", funnel_name="default", cf_tamanho="M"),
    ]
    assert [shop.send(event).status_code for event in events] == [200, 200]
    assert [arrival.dropped for arrival in sandbox.arrivals(accepted=True)] == [("favourite",), ("cf_tamanho",)]


def test_a_whole_number_beyond_floats_is_a_number_and_no_error() -> None:
    assert number(10**400, "$.payload.price") == []
    assert [error["error_type"] for error in number(-(10**400), "$.payload.price")] == ["INVALID"]
