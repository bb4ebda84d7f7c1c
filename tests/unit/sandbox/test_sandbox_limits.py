"""The limits of rdstation-api.md §6 and the violations report, over real HTTP with a clock that is advanced."""

from __future__ import annotations

import pytest

from dispatcher.sandbox import Sandbox
from dispatcher.sandbox.windows import SlidingWindow
from tests.unit.sandbox.shop import Shop, order


def send_many(shop: Shop, count: int, **changes: str) -> list[int]:
    return [shop.send(order(n, email=f"lead{n}@x.example", **changes)).status_code for n in range(count)]


def test_the_event_above_the_minute_is_refused_by_the_gateway_with_a_hint(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=3)
    assert send_many(shop, 3) == [200, 200, 200]
    shop.sandbox.advance(20)
    refused = shop.send(order())
    assert (refused.status_code, refused.json()) == (429, {"message": "API rate limit exceeded"})
    assert refused.headers["ratelimit-limit-quotas"] == "3"
    assert refused.headers["retry-after-quotas"] == "40"
    assert "Retry-After" not in refused.headers


def test_the_window_slides_and_is_free_again_after_the_hint(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=2)
    shop.send(order())
    shop.sandbox.advance(30)
    shop.send(order())
    shop.sandbox.advance(29.9)
    assert shop.send(order()).status_code == 429
    shop.sandbox.advance(0.1)
    assert [shop.send(order()).status_code for _ in range(2)] == [200, 429]


def test_the_report_names_what_arrived_above_the_limit(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=5)
    send_many(shop, 5)
    assert shop.sandbox.violations().total == 0
    send_many(shop, 2)
    violations = shop.sandbox.violations()
    (account,) = violations.accounts
    assert (violations.total, account.above, account.refused, account.max_in_window) == (2, 2, 2, 7)
    assert shop.sandbox.counts()["max_per_minute"] == {"default": 7}
    assert shop.sandbox.count("/platform/events", 429) == 2


def test_without_enforcement_everything_is_accepted_and_still_counted(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=5, enforce=False)
    assert set(send_many(shop, 8)) == {200}
    assert shop.sandbox.violations().total == 3
    assert shop.sandbox.violations().accounts[0].max_in_window == 8


def test_zero_means_no_limit(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=0, lead_per_day=0)
    assert {shop.send(order()).status_code for _ in range(130)} == {200}
    assert shop.sandbox.violations().total == 0


def test_a_lead_has_its_own_day_and_its_own_body(shop: Shop) -> None:
    shop.sandbox.switch(lead_per_day=2)
    assert [shop.send(order(email=" Ana@Cliente.example")).status_code for _ in range(1)] == [400]
    shop.send(order())
    shop.sandbox.advance(3_600)
    refused = shop.send(order())
    assert refused.status_code == 429
    assert refused.json() == {
        "error": "'lead_limiter' rate limit exceeded for 86400 second(s) period for key 'ana@cliente.example'",
        "max": 2,
        "usage": 3,
        "remaining_time": 82_800,
    }
    assert shop.send(order(email="bia@cliente.example")).status_code == 200
    (lead,) = shop.sandbox.violations().leads
    assert (lead.lead, lead.above, lead.max_in_window) == ("ana@cliente.example", 1, 3)
    shop.sandbox.advance(82_800)
    assert shop.send(order()).status_code == 401  # the token is a day old as well
    assert shop.send(order(), shop.refresh().json()["access_token"]).status_code == 200


def test_hints_can_be_in_milliseconds_and_the_account_429_can_be_the_error_page(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=1, hint_unit="milliseconds")
    shop.send(order())
    assert shop.send(order()).headers["retry-after-quotas"] == "60000"
    shop.sandbox.switch(account_429="page")
    assert shop.send(order()).json()["errors"]["error_type"] == "RATE_LIMIT_EXCEDDED"


def test_accounts_do_not_share_a_window(shop: Shop) -> None:
    shop.sandbox.add_account("big", {"account_per_minute": 3})
    shop.sandbox.switch(account_per_minute=1)
    assert [shop.send(order()).status_code for _ in range(2)] == [200, 429]
    assert [shop.send(order(), "sandbox-access-big").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert {one.account: one.above for one in shop.sandbox.violations().accounts} == {"default": 1, "big": 1}


def test_what_other_apps_use_is_refused_but_is_no_violation_of_ours(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=5)
    shop.sandbox.others_send(4)
    assert send_many(shop, 2) == [200, 429]
    (account,) = shop.sandbox.violations().accounts
    assert (account.above, account.refused) == (0, 1)


@pytest.mark.parametrize(("cost", "third"), [("each", 429), ("one", 200)])
def test_a_batch_costs_as_many_as_it_holds_or_one(shop: Shop, cost: str, third: int) -> None:
    shop.sandbox.switch(account_per_minute=5, batch_cost=cost)
    batches = [[order(f"{n}{i}", email=f"{n}{i}@x.example") for i in range(2)] for n in range(3)]
    assert [shop.post("/platform/events/batch", batch).status_code for batch in batches] == [200, 200, third]


def test_one_full_lead_refuses_its_whole_batch(shop: Shop) -> None:
    shop.sandbox.switch(lead_per_day=1)
    batch = [order("1"), order("2"), order("3", email="bia@cliente.example")]
    assert shop.post("/platform/events/batch", batch).status_code == 429
    assert not shop.sandbox.arrivals(accepted=True)


def test_requests_without_a_good_token_and_other_resources_take_nothing_from_the_window(shop: Shop) -> None:
    shop.sandbox.switch(account_per_minute=1)
    shop.sandbox.expire_tokens()
    shop.send(order())
    token = shop.refresh().json()["access_token"]
    shop.info(token)
    shop.session.get(f"{shop.sandbox.url}/sandbox/counts", timeout=5)
    assert [shop.send(order(), token).status_code for _ in range(2)] == [200, 429]


def test_a_window_reports_the_fullest_it_ever_was() -> None:
    window = SlidingWindow(60)
    for at in (0, 10, 59.9, 60, 130):
        window.arrive(at, 2, enforce=False)
    assert (window.arrived, window.above, window.max_arrived) == (5, 2, 3)


def test_seconds_until_room_counts_every_place_the_cost_needs() -> None:
    window = SlidingWindow(60)
    for at in (0, 10, 20):
        assert window.arrive(at, 3)
    assert not window.arrive(30, 3)
    assert [window.seconds_until_room(30, 3, cost) for cost in (1, 2, 3, 4)] == [30, 40, 50, 60]


def test_reset_forgets_traffic_and_faults_but_not_switches(sandbox: Sandbox, shop: Shop) -> None:
    sandbox.switch(account_per_minute=1)
    shop.send(order())
    shop.send(order())
    sandbox.reset()
    assert (sandbox.arrivals(), sandbox.violations().total, sandbox.counts()["total"]) == ([], 0, 0)
    assert [shop.send(order()).status_code for _ in range(2)] == [200, 429]
