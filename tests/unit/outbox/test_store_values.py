"""What the store works out without a database: where a time is reached, which of two counts. Nothing is doubled."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from dispatcher.events.account_defaults import AccountDefaults
from dispatcher.outbox import overview
from dispatcher.outbox.account_rows import TRUST_FOR, AccountRow, Glance, SuspendedTypes
from dispatcher.outbox.candidates import Candidate
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.enqueue import Receipt
from dispatcher.outbox.fleet import FleetRow
from dispatcher.outbox.intake import whole_hash
from dispatcher.outbox.limits_view import Configured, LimitsView, limits_view
from dispatcher.outbox.operation_rows import Kind, Standing
from dispatcher.outbox.permits import NO_LIMITS, Quota, Use
from dispatcher.outbox.previewing import Preview
from dispatcher.outbox.resolutions import Done, Refusal
from dispatcher.outbox.retirement import LegacyRules, whole_of_row
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.transaction import _worth_repeating, in_transaction
from dispatcher.outbox.transitions import Held
from dispatcher.outbox.vault import Seal
from dispatcher.outbox.window import Lanes, candidate_columns, soonest
from dispatcher.policy.breaker import CLOSED, Breaker
from dispatcher.policy.decision import Release
from dispatcher.policy.outage import Outage
from dispatcher.policy.outcome import Outcome, Stage
from dispatcher.policy.share import Share
from dispatcher.policy.verdicts import Verdict

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
ACCOUNT = AccountRow("shop", None, None, None, None, None, SuspendedTypes(), {}, [], CLOSED)


def test_an_account_is_held_by_a_person_or_by_the_system() -> None:
    assert not ACCOUNT.is_held()
    assert replace(ACCOUNT, paused_at=NOW).is_held()
    assert replace(ACCOUNT, suspended_at=NOW).is_held()


@pytest.mark.parametrize(("until", "so"), [(None, False), (NOW, False), (NOW + TICK, True)])
def test_trust_and_a_closed_window_end_at_their_moment(until: datetime | None, so: bool) -> None:
    assert replace(ACCOUNT, proven_until=until).trusted(NOW) is so
    assert replace(ACCOUNT, throttled_until=until).is_throttled(NOW) is so


def test_age_leaves_holds_out_and_is_never_less_than_nothing() -> None:
    held = replace(ACCOUNT, holds=[(NOW - HOUR, None)])
    assert (ACCOUNT.age_seconds(NOW - 2 * HOUR, NOW), held.age_seconds(NOW - 2 * HOUR, NOW)) == (7200, 3600)
    assert ACCOUNT.age_seconds(NOW + HOUR, NOW) == 0


def test_counts_in_a_row_are_written_only_if_they_changed() -> None:
    account = replace(ACCOUNT, streaks={"SALE": 1, "strange": 2})
    account.clear_streaks("CONVERSION")
    assert not account.streaks_changed
    account.clear_streaks("CONVERSION", "SALE", "OPPORTUNITY")
    assert (account.streaks_changed, account.streaks) == (True, {"strange": 2})
    other = replace(ACCOUNT, streaks={})
    other.set_streak("strange", 3)
    assert (other.streaks_changed, other.streaks) == (True, {"strange": 3})


def test_one_event_of_a_suspended_type_may_go_when_its_probe_is_due_and_puts_the_next_off() -> None:
    stored = {"SALE": {"probe_at": (NOW + TICK).isoformat()}, "CONVERSION": {"probe_at": (NOW + HOUR).isoformat()}}
    types = SuspendedTypes.from_json(json.dumps(stored))
    assert types.next_probe() == NOW + TICK
    assert types.may_send("OPPORTUNITY", NOW, HOUR)
    assert not types.may_send("SALE", NOW, HOUR)
    assert not types.changed
    assert types.may_send("SALE", NOW + TICK, 2 * HOUR)
    assert types.changed
    assert not types.may_send("SALE", NOW + 2 * HOUR, HOUR)
    assert types.next_probe() == NOW + HOUR
    assert json.loads(types.to_json() or "")["SALE"]["probe_at"] == (NOW + TICK + 2 * HOUR).isoformat()
    assert (SuspendedTypes.from_json(None).next_probe(), SuspendedTypes().to_json()) == (None, None)


@pytest.mark.parametrize(
    ("proven_until", "stale"), [(None, True), (NOW + TRUST_FOR / 2 - TICK, True), (NOW + TRUST_FOR / 2, False)]
)
def test_trust_is_renewed_once_half_of_it_is_used_up(proven_until: datetime | None, stale: bool) -> None:
    assert Glance(False, proven_until, queued=False).is_stale(NOW) is stale


def test_nothing_is_claimed_while_the_outage_lasts_or_somebody_asks() -> None:
    def closed_until(breaker: Breaker, probe_until: datetime | None = None) -> datetime | None:
        return FleetRow(Outage(breaker), probe_until=probe_until).closed_until(NOW)

    half_open = Breaker(5, 1, NOW, NOW)
    assert closed_until(Breaker(5, 1, NOW, NOW + TICK), NOW + HOUR) == NOW + TICK
    assert closed_until(half_open, NOW + TICK) == NOW + TICK
    assert [closed_until(half_open, moment) for moment in (None, NOW, NOW - HOUR)] == [None] * 3
    assert closed_until(CLOSED, NOW + HOUR) is None, "what somebody asked then is answered, or of no interest"


@pytest.mark.parametrize("per_lead", [False, True])
def test_a_candidate_has_the_columns_that_are_asked_for_in_their_order(per_lead: bool) -> None:
    assert Candidate._fields == tuple(sa.select(*candidate_columns(per_lead)).selected_columns.keys())


@pytest.mark.parametrize(
    ("first", "looked_at"),
    [
        ((None, None), None),
        ((NOW + HOUR, NOW + 2 * HOUR), NOW + HOUR),
        ((None, NOW + HOUR), NOW + HOUR),
        ((NOW - HOUR, NOW + HOUR), NOW),
    ],
)
def test_an_account_is_looked_at_when_its_first_candidate_is_due(first: Lanes, looked_at: datetime | None) -> None:
    assert soonest(first, NOW) == looked_at


def test_an_account_s_own_limits_go_before_ours_one_by_one() -> None:
    quota = Quota(60, 100)
    assert quota.for_account(None, None, 0.5) == quota
    assert quota.for_account(40, None, 0.5) == Quota(20, 100)
    assert quota.for_account(None, 40, 0.5) == Quota(60, 20)
    assert quota.for_account(0, 0, 0.5) == NO_LIMITS
    assert [each.counted for each in (NO_LIMITS, Quota(1, 0), Quota(0, 1))] == [False, True, True]


def test_what_an_account_supplies_is_its_own_then_the_environment_s_for_the_seeded_one() -> None:
    template = "https://shop.example/{cart_id}"
    rules = LegacyRules(defaults=AccountDefaults("USD", template))
    seeded = replace(ACCOUNT, account="default")
    own: dict[str, Any] = {"currency": "EUR", "checkout_url_template": f"{template}/own"}
    nonsense: dict[str, Any] = {"currency": "real", "checkout_url_template": "https://shop.example/"}
    assert rules.defaults_of(seeded) == rules.defaults_of(replace(seeded, **nonsense)) == rules.defaults
    assert rules.defaults_of(ACCOUNT) == rules.defaults_of(replace(ACCOUNT, **nonsense)) == AccountDefaults()
    assert [rules.defaults_of(replace(account, **own)) for account in (seeded, ACCOUNT)] == [
        AccountDefaults("EUR", f"{template}/own")
    ] * 2
    assert rules.defaults_of(replace(seeded, currency="EUR")) == AccountDefaults("EUR", template)


def test_a_retired_type_is_translated_once_its_account_was_refused_unless_it_is_said_otherwise() -> None:
    refused = replace(ACCOUNT, retired_types={"ORDER_PLACED": "2026"})
    assert LegacyRules() == LegacyRules("auto", AccountDefaults())
    assert LegacyRules().route(refused, "ORDER_PLACED") == LegacyRules("translate").route(ACCOUNT, "ORDER_PLACED")
    assert LegacyRules().route(ACCOUNT, "ORDER_PLACED") == LegacyRules("send").route(refused, "ORDER_PLACED")


@pytest.mark.parametrize("payload", ["[1]", "1", "null", "{", "[" * 100_000, "", "{}"])
def test_an_order_is_told_from_what_names_none_by_its_row_or_its_payload(payload: str) -> None:
    def row(**given: Any) -> Any:
        return SimpleNamespace(**{"whole": None, "event_type": "ORDER_PLACED", "payload": payload} | given)

    assert whole_of_row(row()) is None
    assert whole_of_row(row(whole="a" * 64)) == "a" * 64
    order = json.dumps({"cf_order_id": "1001"})
    assert whole_of_row(row(payload=order)) == whole_hash("ORDER_PLACED", {"cf_order_id": "1001"}) is not None


def limits(used: int, share: Share | None = None, **given: Any) -> LimitsView:
    stored = json.dumps(share.as_dict()) if share else None
    row: Any = {"per_minute": None, "lead_per_day": None, "share": stored, **given}
    return limits_view(row, Configured(120, 100, 1.0), Use(used, 2), NOW)


def test_the_use_of_a_window_is_told_to_the_thousandth_of_what_is_ours() -> None:
    assert limits(40) == LimitsView(120, 100, 120, 40, 2, 0.333)
    assert limits(40, Share(50, NOW)) == LimitsView(120, 100, 50, 40, 2, 0.8)
    assert limits(40, per_minute=0) == LimitsView(0, 100, 0, 40, 2, None)


def test_a_receipt_says_of_itself_only_what_happened() -> None:
    receipt = Receipt(UUID(int=1), "SALE:1", created=True)
    assert (receipt.conflict, receipt.dead_letter, receipt.account) == (False, False, "default")
    assert "account" not in repr(receipt)


def test_what_batches_came_to_is_added_up() -> None:
    one, other = Refusal(uuid4(), "SALE:1", "why"), Refusal(uuid4(), "SALE:2", "why not")
    done = Done(1, 2, 3, [one], {"shop"})
    done.add(Done(10, 20, 30, [other], {"branch"}))
    assert done == Done(11, 22, 33, [one, other], {"shop", "branch"})
    assert done.counts() == {"changed": 11, "expired": 22, "marked": 33, "refused": 2}
    assert Done().counts() == {"changed": 0, "expired": 0, "marked": 0, "refused": 0}


def test_what_goes_out_of_a_replay_is_what_nothing_else_becomes_of() -> None:
    preview = Preview(100, expired=1, superseded=2, invalid=4, delivered=8, uncertain=50, over_lead_limit=50)
    assert preview.sent == 85
    assert Preview(1, expired=1, invalid=1).sent == 0
    assert (preview.finish_seconds(60), preview.finish_seconds(0)) == (85.0, None)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind, "replay discard confirm correct import pause resume forget prune seal unseal"),
        (Standing, "running done cancelled"),
        (overview.AccountState, "open throttled suspended paused"),
        (Seal, "current older unreadable"),
    ],
)
def test_what_rows_of_earlier_releases_and_scripts_call_it_stays(kind: type[StrEnum], words: str) -> None:
    assert [each.value for each in kind] == words.split()


STANDING = {
    **dict.fromkeys(("paused_at", "paused_by", "pause_note", "suspended_at", "throttled_until", "breaker"), None),
    "suspend_reason": "credentials",
    "suspend_detail": "401",
    "probe_at": NOW + HOUR,
}


def standing(**given: Any) -> tuple[Any, ...]:
    row: Any = STANDING | given
    found = overview._standing(row, NOW)
    return tuple(found.get(name) for name in ("state", "reason", "since", "until"))


@pytest.mark.parametrize(
    ("verdict", "outcome", "sent", "answered"),
    [
        (Verdict.DELIVERED, Outcome(Stage.ANSWERED, status=200), True, True),
        (Verdict.UNCERTAIN, Outcome(Stage.PARTLY_WRITTEN), True, True),
        (Verdict.UNREACHABLE, Outcome(Stage.CONNECTED), False, False),
        (Verdict.ABANDONED, None, True, False),
        (Verdict.RELEASED, None, False, False),
        (Verdict.MALFORMED, None, False, False),
    ],
)
def test_a_permit_is_used_by_what_may_have_left_and_runs_from_when_nothing_more_will_come(
    verdict: Verdict, outcome: Outcome | None, sent: bool, answered: bool
) -> None:
    ended = Settlement(Held(1, 1), "shop", "SALE", "SALE:1", verdict, Release("as it is"), outcome=outcome)
    assert (ended.sent, ended.answered) == (sent, answered)


def test_how_an_account_stands_is_said_by_what_only_a_person_can_end_first() -> None:
    opened = json.dumps(Breaker(5, 1, NOW, NOW + HOUR).as_dict())
    closed = json.dumps(Breaker(2).as_dict())
    later = NOW + TICK
    assert standing() == ("open", None, None, None)
    assert standing(throttled_until=NOW) == ("open", None, None, None)
    assert standing(throttled_until=later) == ("throttled", "throttled", None, later)
    assert standing(throttled_until=later, breaker=closed) == ("throttled", "throttled", None, later)
    assert standing(throttled_until=later, breaker=opened) == ("throttled", "breaker_open", None, later)
    assert standing(throttled_until=later, suspended_at=NOW) == ("suspended", "credentials", NOW, NOW + HOUR)
    assert standing(suspended_at=NOW, paused_at=NOW, pause_note="why") == ("paused", "why", NOW, None)


def test_what_is_due_is_as_old_as_it_is_and_never_younger_than_now() -> None:
    assert [overview._age(moment, NOW) for moment in (None, NOW - HOUR, NOW + HOUR)] == [0.0, 3600.0, 0.0]


class _OfPostgres(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__("some text")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("original", "again"),
    [
        *((_OfPostgres(state), True) for state in ("40P01", "40001", "55P03")),
        *((Exception(code, "text"), True) for code in (1205, 1213, 1020)),
        (Exception("database is locked"), True),
        (_OfPostgres("23505"), False),
        (Exception(1062, "text"), False),
        (Exception("no such table"), False),
        (Exception(), False),
        (None, False),
    ],
)
def test_a_transaction_is_begun_again_only_for_what_passes(original: Exception | None, again: bool) -> None:
    error = sa.exc.DBAPIError("statement", None, original)  # type: ignore[arg-type]  # its `orig` may be None
    assert _worth_repeating(error) is again
    error.connection_invalidated = True
    assert _worth_repeating(error)


@pytest.mark.parametrize(("deadlocks", "succeeds"), [(9, True), (10, False)])
def test_of_many_that_block_each_other_everybody_gets_his_turn(sqlite_url: str, deadlocks: int, succeeds: bool) -> None:
    engine, left = create_engine(sqlite_url), deadlocks

    def work(_: sa.Connection) -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise sa.exc.OperationalError("UPDATE", {}, Exception(1213, "Deadlock found"))
        return "done"

    try:
        if succeeds:
            assert in_transaction(engine, work) == "done"
        else:
            with pytest.raises(sa.exc.OperationalError):
                in_transaction(engine, work)
    finally:
        engine.dispose()
