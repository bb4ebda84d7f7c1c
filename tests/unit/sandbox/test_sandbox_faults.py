"""Faults as a client sees them, over real sockets; slow answers take real time, a few hundredths of a second."""

from __future__ import annotations

import json
import socket
import struct
from http.client import BadStatusLine, HTTPConnection, IncompleteRead
from typing import Any

import pytest
import requests

from dispatcher.clock import SystemClock
from dispatcher.errors import ConfigurationError
from dispatcher.sandbox import ACCESS_TOKEN, Fault, FaultKind, Sandbox, faults_schedule
from tests.unit.sandbox.shop import Shop, order


def raw(sandbox: Sandbox, event: bytes = b"{}") -> HTTPConnection:
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=5)
    headers = {"Authorization": f"Bearer {ACCESS_TOKEN}", "Content-Type": "application/json"}
    connection.request("POST", "/platform/events", event, headers)
    return connection


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 429, 500, 501, 503, 504, 599])
def test_the_next_requests_get_the_status_that_was_asked_for(shop: Shop, status: int) -> None:
    shop.sandbox.break_with(FaultKind.STATUS, status=status, times=2)
    assert [shop.send(order()).status_code for _ in range(3)] == [status, status, 200]
    assert [one.fault for one in shop.sandbox.arrivals()] == ["status", "status", None]
    assert len(shop.sandbox.arrivals(accepted=True)) == 1


def test_a_proxy_answers_html_or_nothing(shop: Shop) -> None:
    shop.sandbox.break_with(FaultKind.HTML)
    shop.sandbox.break_with(FaultKind.EMPTY)
    html, empty = shop.send(order()), shop.send(order())
    assert (html.status_code, html.headers["Content-Type"]) == (502, "text/html")
    assert (empty.status_code, empty.content) == (503, b"")


def test_a_forced_429_comes_in_each_of_three_shapes_and_is_no_violation(shop: Shop) -> None:
    for shape in ("gateway", "page", "lead"):
        shop.sandbox.break_with(FaultKind.RATE_LIMIT, shape=shape, seconds=7)
    gateway, page, lead = (shop.send(order()) for _ in range(3))
    assert gateway.json() == {"message": "API rate limit exceeded"}
    assert gateway.headers["retry-after-quotas"] == "7"
    assert page.json()["errors"]["error_type"] == "RATE_LIMIT_EXCEDDED"
    assert lead.json()["remaining_time"] == 7
    assert "ana@cliente.example" in lead.json()["error"]
    assert shop.sandbox.violations().total == 0


def test_a_fault_strikes_only_what_it_is_meant_for(shop: Shop) -> None:
    shop.sandbox.add_account("b")
    meant: tuple[dict[str, Any], ...] = (
        {"event_type": "CART_ABANDONED"}, {"key_contains": "X-9"}, {"lead": "Bia@cliente.example"}, {"account": "b"},
        {"path": "/auth/token"},
    )  # fmt: skip
    for chosen in meant:
        shop.sandbox.break_with(Fault(FaultKind.EMPTY, **chosen))
    assert shop.send(order()).status_code == 200
    assert shop.send(order("PED-X-91")).status_code == 503
    assert shop.send(order(email="bia@cliente.example")).status_code == 503
    assert shop.send(order(), "sandbox-access-b").status_code == 503
    assert shop.refresh().status_code == 503
    assert [fault.event_type for fault in shop.sandbox.waiting_faults] == ["CART_ABANDONED"]
    shop.sandbox.clear_faults()
    assert shop.sandbox.waiting_faults == ()


def test_a_fault_does_not_replace_a_refusal_and_waits_for_the_next(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=1)
    shop.send(order())
    shop.sandbox.break_with(FaultKind.EMPTY)
    assert shop.send(order()).status_code == 429
    shop.sandbox.advance(60)
    assert shop.send(order()).status_code == 503


def test_a_forced_401_takes_nothing_from_the_window(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=1)
    shop.sandbox.break_with(FaultKind.STATUS, status=401)
    assert [shop.send(order()).status_code for _ in range(3)] == [401, 200, 429]


def test_a_redirect_leads_elsewhere(shop: Shop) -> None:
    shop.sandbox.break_with(FaultKind.REDIRECT)
    answer = shop.send(order())
    assert (answer.status_code, answer.headers["Location"]) == (302, "https://elsewhere.example/")


@pytest.mark.parametrize(("shape", "body"), [("html", b"<html>"), ("empty", b""), ("json", b"{}")])
def test_a_2xx_without_uuid_is_stored_all_the_same(shop: Shop, shape: str, body: bytes) -> None:
    shop.sandbox.break_with(FaultKind.NO_UUID, shape=shape)
    answer = shop.send(order())
    assert answer.status_code == 200
    assert answer.content[:6] == body
    assert len(shop.sandbox.arrivals(accepted=True)) == 1


def test_accept_then_drop_stores_the_event_and_resets_the_connection(shop: Shop) -> None:
    shop.sandbox.break_with(FaultKind.ACCEPT_THEN_DROP)
    with pytest.raises(requests.ConnectionError, match="reset"):
        shop.send(order())
    (arrival,) = shop.sandbox.arrivals()
    assert (arrival.accepted, arrival.status, arrival.fault) == (True, None, "accept_then_drop")
    assert arrival.event_uuid
    assert shop.sandbox.count("/platform/events", 200) == 0


def test_a_refresh_whose_answer_is_lost_was_made(shop: Shop) -> None:
    shop.sandbox.switch(rotation="rotated")
    shop.sandbox.break_with(FaultKind.ACCEPT_THEN_DROP, path="/auth/token")
    with pytest.raises(requests.ConnectionError):
        shop.refresh()
    assert shop.refresh().json()["errors"]["error_type"] == "INVALID_REFRESH_TOKEN"


def test_drop_unread_stores_nothing(shop: Shop) -> None:
    shop.sandbox.break_with(FaultKind.DROP_UNREAD, account="default")
    with pytest.raises(requests.ConnectionError):
        shop.send(order())
    (arrival,) = shop.sandbox.arrivals()
    assert (arrival.accepted, arrival.body, arrival.fault) == (False, None, "drop_unread")
    assert shop.sandbox.violations().accounts == ()


def test_an_answer_can_break_off_in_three_places(sandbox: Sandbox) -> None:
    event = b'{"event_type":"SALE","event_family":"CDP","payload":{"email":"a@b.example","funnel_name":"default"}}'
    for shape in ("body", "headers", "status"):
        sandbox.break_with(FaultKind.DROP_MID_ANSWER, shape=shape)
    in_body = raw(sandbox, event)
    with pytest.raises(IncompleteRead):
        in_body.getresponse().read()
    in_headers = raw(sandbox, event)
    answer = in_headers.getresponse()
    assert (answer.status, answer.read(), dict(answer.headers)) == (200, b"", {})
    in_status = raw(sandbox, event)
    with pytest.raises(BadStatusLine):
        in_status.getresponse()
    assert len(sandbox.arrivals(accepted=True)) == 3
    for connection in (in_body, in_headers, in_status):
        connection.close()


@pytest.mark.parametrize("kind", [FaultKind.SLOW, FaultKind.DRIBBLE])
def test_a_slow_answer_is_the_right_one_later(shop: Shop, kind: FaultKind) -> None:
    shop.sandbox.break_with(kind, seconds=0.2)
    clock = SystemClock()
    started = clock.monotonic()
    assert shop.send(order()).json().keys() == {"event_uuid"}
    assert clock.monotonic() - started >= 0.2


def test_dribbling_outlives_the_read_timeout(shop: Shop) -> None:
    shop.sandbox.break_with(FaultKind.DRIBBLE, seconds=0.6)
    answer = shop.session.post(
        f"{shop.sandbox.url}/platform/events",
        json=order(),
        headers={"Authorization": f"Bearer {ACCESS_TOKEN}"},
        timeout=0.3,
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("accept", [False, True])
def test_a_hanging_request_ends_when_its_client_leaves_or_the_sandbox_stops(sandbox: Sandbox, accept: bool) -> None:
    event = b'{"event_type":"SALE","event_family":"CDP","payload":{"email":"a@b.example","funnel_name":"default"}}'
    sandbox.break_with(FaultKind.HANG, times=2, accept=accept)
    leaving, staying = raw(sandbox, event), raw(sandbox, event)
    leaving.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        leaving.getresponse()
    leaving.close()
    sandbox.wait_for(2)
    server = sandbox._server
    assert server
    with server._change:
        assert server._change.wait_for(lambda: len(server._open) == 1, 5)
    sandbox.stop()
    with pytest.raises(ConnectionError):
        staying.getresponse()
    staying.close()
    assert [one.accepted for one in sandbox.arrivals()] == [accept, accept]


def test_a_stopped_sandbox_refuses_connections_and_remembers_when_it_is_back(sandbox: Sandbox, shop: Shop) -> None:
    shop.send(order("1"))
    address = sandbox.url
    sandbox.stop()
    with pytest.raises(requests.ConnectionError):
        shop.send(order("2"))
    sandbox.start()
    assert sandbox.url == address
    shop.send(order("3"))
    assert [one.key for one in sandbox.arrivals()] == ["1", "3"]


def test_clients_killed_mid_request_leave_no_trace_on_stderr(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    for fragment in (
        b"", b"POST /platf", b"POST /platform/events HTTP/1.1\r\nContent-Length: 900\r\n\r\n{", b"\x00\xff\r\n\r\n",
        b"POST /platform/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"x" * 70_000,
        b"POST /platform/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):  # fmt: skip
        client = socket.create_connection((host, int(port)))
        client.sendall(fragment)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    sandbox.stop()
    assert capfd.readouterr().err == ""
    assert caplog.messages == []


def test_two_events_of_one_lead_at_once_are_reported_and_of_two_leads_are_not(sandbox: Sandbox) -> None:
    sandbox.break_with(FaultKind.HANG, times=3)
    asked = [raw(sandbox, json.dumps(order(1, lead)).encode()) for lead in ("ana@x.example", "bia@x.example")]
    sandbox.wait_for(2)
    assert sandbox.violations().lead_overlaps == 0
    asked.append(raw(sandbox, json.dumps(order(2, "Ana@x.example")).encode()))
    sandbox.wait_for(3)
    assert sandbox.violations().lead_overlaps == 1
    assert sandbox.violations().total == 0
    for connection in asked:
        connection.close()


def test_waiting_for_arrivals_gives_up_and_says_how_many_came(shop: Shop) -> None:
    shop.send(order())
    assert [one.key for one in shop.sandbox.wait_for(1, "ORDER_PLACED")] == ["1001"]
    with pytest.raises(TimeoutError, match="1 of 2"):
        shop.sandbox.wait_for(2, seconds=0.01)


def played(seed: int, numbers: list[int]) -> dict[object, list[str | None]]:
    """What each order met in three rounds, with a schedule of its own."""
    rates: dict[FaultKind | Fault, float] = {FaultKind.EMPTY: 0.3, Fault(FaultKind.STATUS, times=None, status=401): 0.2}
    with Sandbox(schedule=faults_schedule(seed, rates)) as sandbox:
        shop = Shop(sandbox)
        for _ in range(3):
            for number in numbers:
                shop.send(order(number))
        shop.session.close()
        return {number: [one.fault for one in sandbox.arrivals(key=str(number))] for number in numbers}


def test_a_schedule_depends_on_its_seed_and_not_on_the_order_of_arrival() -> None:
    numbers = list(range(20))
    forward = played(1, numbers)
    assert forward == played(1, numbers[::-1])
    assert forward != played(2, numbers)
    met = [fault for faults in forward.values() for fault in faults]
    assert {"empty", "status", None} == set(met)


def test_mistakes_in_a_fault_are_refused_with_what_is_accepted() -> None:
    with pytest.raises(ConfigurationError, match="gateway, page, lead"):
        Fault(FaultKind.RATE_LIMIT, shape="wrong")
    with pytest.raises(ConfigurationError, match="200 to 599"):
        Fault(FaultKind.STATUS, status=100)
    with pytest.raises(ConfigurationError, match="accept_then_drop"):
        Fault.from_dict({"kind": "explode"})
    with pytest.raises(ConfigurationError, match="seconds"):
        Fault.from_dict({"kind": "slow", "seconds": -1})
    with pytest.raises(ConfigurationError, match="wrong type"):
        Fault.from_dict({"kind": "slow", "seconds": "long"})
    with pytest.raises(ConfigurationError, match="knd"):
        Fault.from_dict({"knd": "status"})
    with pytest.raises(ConfigurationError, match="together at most 1"):
        faults_schedule(1, {FaultKind.EMPTY: 0.7, FaultKind.HTML: 0.7})
