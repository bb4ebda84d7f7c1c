"""`account set`: an account's own limits. The real command line on a real SQLite file."""

from __future__ import annotations

import pytest

from tests.unit.admin.conftest import Command


def limits(dispatcher: Command, account: str) -> dict[str, object]:
    accounts = dispatcher("status", "--json").json["accounts"]
    found: dict[str, object] = next(view["limits"] for view in accounts if view["account"] == account)
    return found


def test_a_plan_or_a_number_becomes_the_account_s_limit_and_status_shows_it(migrated: Command) -> None:
    set_ = migrated("account", "set", "big", "--plan", "advanced", "--json")
    assert set_.json == {
        "account": "big", "per_minute": 500, "lead_per_day": None, "currency": None, "checkout_url_template": None,
    }  # fmt: skip
    assert limits(migrated, "big") == {
        "per_minute": 500, "lead_per_day": 120, "allowed": 500, "used": 0, "refused": 0, "utilisation": 0.0,
    }  # fmt: skip
    assert limits(migrated, "default")["per_minute"] == 120
    migrated("account", "set", "big", "--per-minute", "60", "--lead-per-day", "0")
    assert (limits(migrated, "big")["per_minute"], limits(migrated, "big")["lead_per_day"]) == (60, 0)
    assert "0 of 60" in migrated("status").out


def test_default_takes_a_value_back_and_no_option_changes_nothing(migrated: Command) -> None:
    migrated("account", "set", "default", "--per-minute", "60")
    assert "per_minute 60" in migrated("account", "set", "default").out
    assert "per_minute as the settings say" in migrated("account", "set", "default", "--per-minute", "default").out


def test_our_share_is_taken_of_an_account_s_own_limits_too(migrated: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_QUOTA_SHARE", "0.5")
    migrated("account", "set", "default", "--plan", "advanced")
    assert limits(migrated, "default")["per_minute"] == 250


def test_what_retired_events_lack_is_set_shown_and_taken_back(migrated: Command) -> None:
    template = "https://loja.example/c/{cart_id}"
    migrated("account", "set", "default", "--currency", "USD", "--checkout-url-template", template)
    (account,) = migrated("account", "list", "--json").json
    assert (account["currency"], account["checkout_url_template"]) == ("USD", template)
    assert template in migrated("account", "set", "default").out
    back = migrated("account", "set", "default", "--currency", "default", "--json").json
    assert (back["currency"], back["checkout_url_template"]) == (None, template)


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [("--currency", "real", "BRL"), ("--checkout-url-template", "https://loja.example/", "{cart_id}")],
)
def test_what_no_successor_would_take_is_wrong_use(migrated: Command, option: str, value: str, why: str) -> None:
    refused = migrated("account", "set", "default", option, value)
    assert refused.code == 2
    assert why in refused.err


@pytest.mark.parametrize(
    "arguments",
    [("--per-minute", "-1"), ("--per-minute", "many"), ("--plan", "gold"), ("--plan", "pro", "--per-minute", "5")],
)
def test_what_is_no_limit_is_wrong_use(migrated: Command, arguments: tuple[str, ...]) -> None:
    assert migrated("account", "set", "default", *arguments).code == 2
    assert limits(migrated, "default")["per_minute"] == 120
