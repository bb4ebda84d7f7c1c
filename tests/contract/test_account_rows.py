"""What each operation writes into an account's row: the columns that are named, and nothing else, and no other account.

Rows and SQL are real. Doubled: the databases' clock (`machine/stage.py`), which stands still, so moments are compared
as they are.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.outbox import account_rows, account_settings, fleet, pausing, retirement
from dispatcher.outbox.account_rows import TRUST_FOR, Glance
from dispatcher.outbox.account_settings import AccountSettings
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.operation_rows import Signature
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.transaction import in_transaction
from dispatcher.outbox.vault import Vault
from dispatcher.policy.breaker import TRIPS_AFTER, Breaker
from dispatcher.policy.share import Share
from dispatcher.policy.tokens import Tokens
from tests.contract.machine.stage import BEGUN as NOW
from tests.contract.machine.stage import Stage

TICK, HOUR = timedelta(milliseconds=1), timedelta(hours=1)
THEN, SOON, LATER = NOW - HOUR, NOW + timedelta(minutes=1), NOW + HOUR
ANA = Signature("ana", "why")
A, B = SecretStr("access"), SecretStr("refresh")
VAULT = Vault([SecretStr(Fernet.generate_key().decode())])

_JSON = ("suspended_types", "retired_types", "streaks", "breaker", "holds", "share")
_SEALED = ("credentials", "api_key")

SALE = {"reason": "forbidden", "detail": "403", "probe_at": LATER.isoformat()}
CART = {"reason": "rejected_alike", "detail": "400", "probe_at": SOON.isoformat()}
HELD = [(NOW - 3 * HOUR).isoformat(), (NOW - 2 * HOUR).isoformat()]
AN_HOUR = [THEN.isoformat(), NOW.isoformat()]
MANY = [[(THEN - number * HOUR).isoformat()] * 2 for number in range(64, 0, -1)]
FAILED = Breaker(TRIPS_AFTER - 1)
OPENED = Breaker(TRIPS_AFTER, 1, THEN, NOW)
JITTER = random.Random(7).uniform(0.75, 1.0)  # noqa: S311 - jitter, not secrets

FULL: dict[str, Any] = {
    "turn_at": THEN,
    "probe_at": SOON,
    "throttled_until": THEN,
    "proven_until": SOON,
    "suspended_types": {"SALE": SALE, "CART": CART},
    "retired_types": {"SALE": THEN.isoformat()},
    "currency": "USD",
    "checkout_url_template": "https://shop.example/{cart_id}",
    "streaks": {"SALE": 1},
    "breaker": FAILED.as_dict(),
    "holds": [HELD],
    "credentials": VAULT.seal({"access": A, "refresh": B}),
    "token_version": 3,
    "token_expires_at": LATER,
    "refresh_owner": "w1",
    "refresh_until": LATER,
    "refresh_not_before": THEN,
    "seed": "5" * 64,
    "api_key": VAULT.seal({"api_key": A}),
    "api_key_seed": "6" * 64,
    "per_minute": 7,
    "lead_per_day": 3,
    "share": Share(5, THEN).as_dict(),
}
"""Something in every column, so that one which is emptied shows; open, and nobody has stopped it."""

SUSPENDED = {"suspended_at": THEN, "suspend_reason": "credentials", "suspend_detail": "401"}
NO_REFRESH = dict.fromkeys(("refresh_owner", "refresh_until", "refresh_not_before"))
SET = AccountSettings(7, 3, "USD", "https://shop.example/{cart_id}")

Work = Callable[[sa.Engine], object]


def within(work: Callable[[sa.Connection], object]) -> Work:
    return lambda engine: in_transaction(engine, work)


def locked(work: Callable[[sa.Connection, account_rows.AccountRow], object]) -> Work:
    return within(lambda c: work(c, account_rows.lock(c, "shop")))


def tokens(work: Callable[[CredentialStore], object]) -> Work:
    return lambda engine: work(CredentialStore(engine, VAULT))


def keys(work: Callable[[ApiKeyStore], object]) -> Work:
    return lambda engine: work(ApiKeyStore(engine, VAULT))


def jitter() -> random.Random:
    return random.Random(7)  # noqa: S311 - as above


def suspension(connection: sa.Connection) -> object:
    return account_rows.suspend(connection, "shop", reason="refused", detail="401", now=NOW, probe_at=LATER)


def another_strange_answer(connection: sa.Connection, row: account_rows.AccountRow) -> None:
    row.set_streak("*", 2)
    account_rows.write_streaks(connection, row)


def a_success(connection: sa.Connection, row: account_rows.AccountRow) -> None:
    row.clear_streaks("SALE")
    account_rows.write_streaks(connection, row)


def a_probe(connection: sa.Connection, row: account_rows.AccountRow) -> None:
    assert row.types.may_send("CART", SOON, HOUR)
    account_rows.write_probe_times(connection, row)


def proof(proven_until: datetime | None, **given: Any) -> tuple[dict[str, Any], Work]:
    return {"proven_until": proven_until, **given}, within(lambda c: account_rows.prove(c, ["shop"], NOW))


def longer(opening: int) -> datetime:
    return NOW + timedelta(seconds=5 * opening * JITTER)


PROVEN = {"proven_until": NOW + timedelta(seconds=45)}
REOPENED = Breaker(TRIPS_AFTER, 2, THEN, longer(2))
TRIPPED = Breaker(TRIPS_AFTER, 1, NOW, longer(1))

Case = tuple[dict[str, Any], Work, object, dict[str, Any]]
CASES: dict[str, Case] = {
    # how it stood, what is done, the answer, what has changed
    "suspended": (
        {},
        within(suspension),
        True,
        {"suspended_at": NOW, "suspend_reason": "refused", "suspend_detail": "401", "probe_at": LATER}
        | {"proven_until": None, "turn_at": None},
    ),
    "suspended again": (SUSPENDED, within(suspension), False, {}),
    "a probe that succeeds": (
        SUSPENDED,
        within(lambda c: account_rows.end_suspension(c, "shop", NOW)),
        None,
        dict.fromkeys(SUSPENDED) | {"proven_until": None, "turn_at": NOW, "holds": [HELD, AN_HOUR]},
    ),
    "a probe of an open account": ({}, within(lambda c: account_rows.end_suspension(c, "shop", NOW)), None, {}),
    "paused": (
        {},
        lambda engine: pausing.pause(engine, ["shop"], ANA)[0].changed,
        True,
        {"paused_at": NOW, "paused_by": "ana", "pause_note": "why", "turn_at": None},
    ),
    "paused again": (
        {"paused_at": THEN, "paused_by": "bia"},
        lambda engine: pausing.pause(engine, ["shop"], ANA)[0].changed,
        False,
        {},
    ),
    "resumed": (
        {"paused_at": THEN, "paused_by": "bia"},
        lambda engine: pausing.resume(engine, ["shop"], ANA)[0].changed,
        True,
        {"paused_at": None, "paused_by": None, "pause_note": "resumed by ana at 2026-11-27T09:00:00Z: why"}
        | {"turn_at": NOW, "holds": [HELD, AN_HOUR]},
    ),
    "resumed without a note": (
        {"paused_at": NOW, "paused_by": "bia", "pause_note": "hers", "holds": None, "turn_at": NOW},
        lambda engine: pausing.resume(engine, ["shop"], Signature("ana"))[0].changed,
        True,
        {"paused_at": None, "paused_by": None, "pause_note": "resumed by ana at 2026-11-27T09:00:00Z"}
        | {"holds": [[NOW.isoformat()] * 2]},
    ),
    "resumed while it goes on": ({}, lambda engine: pausing.resume(engine, ["shop"], ANA)[0].changed, False, {}),
    "resumed after many holds": (
        {"paused_at": THEN, "paused_by": "bia", "pause_note": None, "turn_at": NOW, "holds": MANY},
        locked(lambda c, _: account_rows.resume(c, "shop", now=NOW)),
        True,
        {"paused_at": None, "paused_by": None, "holds": [*MANY[1:], AN_HOUR]},
    ),
    "throttled": (
        {},
        within(lambda c: account_rows.throttle(c, "shop", SOON)),
        None,
        {"throttled_until": SOON, "turn_at": SOON},
    ),
    "throttled for the first time": (
        {"throttled_until": None},
        within(lambda c: account_rows.throttle(c, "shop", SOON)),
        None,
        {"throttled_until": SOON, "turn_at": SOON},
    ),
    "throttled for longer already": (
        {"throttled_until": LATER},
        within(lambda c: account_rows.throttle(c, "shop", SOON)),
        None,
        {},
    ),
    "throttled until then already": (
        {"throttled_until": SOON},
        within(lambda c: account_rows.throttle(c, "shop", SOON)),
        None,
        {},
    ),
    "proven for the first time": (*proof(None), None, PROVEN | {"turn_at": NOW}),
    "proven with half of the trust used up": (*proof(NOW + TRUST_FOR / 2 - TICK), None, PROVEN | {"turn_at": NOW}),
    "proven with half of the trust left": (*proof(NOW + TRUST_FOR / 2), None, {}),
    "proven with nothing left to send": (*proof(THEN, turn_at=None), None, PROVEN),
    "a failure": (
        {"breaker": None},
        locked(lambda c, row: account_rows.feed_breaker(c, row, NOW, jitter())),
        False,
        {"breaker": Breaker(1).as_dict()},
    ),
    "one failure too many": (
        {},
        locked(lambda c, row: account_rows.feed_breaker(c, row, NOW, jitter())),
        True,
        {"breaker": TRIPPED.as_dict(), "proven_until": None}
        | {"throttled_until": TRIPPED.open_until, "turn_at": TRIPPED.open_until},
    ),
    "the try of an open breaker fails": (
        {"breaker": OPENED.as_dict()},
        locked(lambda c, row: account_rows.feed_breaker(c, row, NOW, jitter())),
        False,
        {"breaker": REOPENED.as_dict(), "proven_until": None}
        | {"throttled_until": REOPENED.open_until, "turn_at": REOPENED.open_until},
    ),
    "a straggler's failure": (
        {"breaker": TRIPPED.as_dict()},
        locked(lambda c, row: account_rows.feed_breaker(c, row, NOW, jitter())),
        False,
        {},
    ),
    "an answer after failures": (
        {},
        locked(lambda c, row: account_rows.rest_breaker(c, row, NOW)),
        False,
        {"breaker": None},
    ),
    "an answer while the breaker is open": (
        {"breaker": OPENED.as_dict()},
        locked(lambda c, row: account_rows.rest_breaker(c, row, NOW)),
        True,
        {"breaker": None, "turn_at": NOW, "holds": [HELD, AN_HOUR]},
    ),
    "an answer when all is well": (
        {"breaker": None},
        locked(lambda c, row: account_rows.rest_breaker(c, row, NOW)),
        False,
        {},
    ),
    "a type suspended": (
        {},
        locked(lambda c, row: account_rows.suspend_type(c, row, "ORDER", reason="r", detail="d", probe_at=NOW)),
        None,
        {"probe_at": NOW, "suspended_types": {"SALE": SALE, "CART": CART}
        | {"ORDER": {"reason": "r", "detail": "d", "probe_at": NOW.isoformat()}}},
    ),
    "a type opened": (
        {},
        locked(lambda c, row: account_rows.open_type(c, row, "CART")),
        None,
        {"probe_at": LATER, "suspended_types": {"SALE": SALE}},
    ),
    "the last type opened": (
        {"suspended_types": {"SALE": SALE}},
        locked(lambda c, row: account_rows.open_type(c, row, "SALE")),
        None,
        {"probe_at": None, "suspended_types": None},
    ),
    "a type of a suspended account opened": (
        SUSPENDED,
        locked(lambda c, row: account_rows.open_type(c, row, "CART")),
        None,
        {"suspended_types": {"SALE": SALE}},
    ),
    "a share learnt": (
        {},
        locked(lambda c, row: account_rows.write_share(c, row, Share(2, NOW, 4))),
        None,
        {"share": {"ceiling": 2, "cut_at": NOW.isoformat(), "rise": 4}},
    ),
    "a share forgotten": ({}, locked(lambda c, row: account_rows.write_share(c, row, None)), None, {"share": None}),
    "counts changed": (
        {},
        locked(another_strange_answer),
        None,
        {"streaks": {"SALE": 1, "*": 2}},
    ),
    "no counts left": (
        {},
        locked(a_success),
        None,
        {"streaks": None},
    ),
    "a type that is probed": (
        {},
        locked(a_probe),
        None,
        {"suspended_types": {"SALE": SALE, "CART": CART | {"probe_at": (SOON + HOUR).isoformat()}}},
    ),
    "a type retired": (
        {},
        locked(lambda c, row: retirement.remember(c, row, "ORDER", NOW)),
        True,
        {"retired_types": {"SALE": THEN.isoformat(), "ORDER": NOW.isoformat()}},
    ),
    "a type retired before": ({}, locked(lambda c, row: retirement.remember(c, row, "SALE", NOW)), False, {}),
    "a limit set": (
        {},
        lambda engine: account_settings.change(engine, "shop", {"per_minute": 9}),
        AccountSettings(9, 3, "USD", SET.checkout_url_template),
        {"per_minute": 9, "share": None},
    ),
    "another setting": (
        {},
        lambda engine: account_settings.change(engine, "shop", {"currency": None, "lead_per_day": 4}),
        AccountSettings(7, 4, None, SET.checkout_url_template),
        {"currency": None, "lead_per_day": 4},
    ),
    "no setting": ({}, lambda engine: account_settings.change(engine, "shop", {}), SET, {}),
    "credentials given": (
        {},
        tokens(lambda store: store.put("shop", access=B, refresh=A, expires_at=SOON)),
        None,
        {"credentials": {"access": B, "refresh": A}, "token_version": 4, "token_expires_at": SOON} | NO_REFRESH,
    ),
    "credentials given to a suspended account": (
        SUSPENDED,
        tokens(lambda store: store.put("shop", access=B, refresh=None)),
        None,
        {"credentials": {"access": B}, "token_version": 4, "token_expires_at": None, "probe_at": NOW} | NO_REFRESH,
    ),
    "credentials renewed": (
        {},
        tokens(lambda store: store.store("shop", Tokens(B, B, A, SOON, 4))),
        True,
        {"credentials": {"access": B, "refresh": B, "previous_refresh": A}, "token_version": 4}
        | {"token_expires_at": SOON, **NO_REFRESH},
    ),
    "the token before forgotten": (
        {"credentials": VAULT.seal({"access": A, "refresh": B, "previous_refresh": A})},
        tokens(lambda store: store.forget_previous("shop", version=3)),
        None,
        {"credentials": {"access": A, "refresh": B}},
    ),
    "credentials taken away": (
        {},
        tokens(lambda store: store.remove("shop")),
        True,
        {"credentials": None, "token_version": 4, "token_expires_at": None},
    ),
    "no credentials to take away": ({"credentials": None}, tokens(lambda store: store.remove("shop")), False, {}),
    "a refresh begun when the lease of another ends": (
        {"refresh_until": NOW},
        tokens(lambda store: store.begin_refresh("shop", seen_version=3, owner="w2", lease_seconds=60).value),
        "granted",
        {"refresh_owner": "w2", "refresh_until": SOON},
    ),
    "a refresh begun while another has the turn": (
        {"refresh_until": NOW + TICK},
        tokens(lambda store: store.begin_refresh("shop", seen_version=3, owner="w2", lease_seconds=60).value),
        "wait",
        {},
    ),
    "a refresh begun by who has the turn": (
        {},
        tokens(lambda store: store.begin_refresh("shop", seen_version=4, owner="w1", lease_seconds=60).value),
        "granted",
        {"refresh_until": SOON},
    ),
    "a refresh begun before its time": (
        {"refresh_owner": None, "refresh_until": None, "refresh_not_before": NOW + TICK},
        tokens(lambda store: store.begin_refresh("shop", seen_version=3, owner="w2", lease_seconds=60).value),
        "not_yet",
        {},
    ),
    "a refresh begun at its time": (
        {"refresh_owner": None, "refresh_until": None, "refresh_not_before": NOW},
        tokens(lambda store: store.begin_refresh("shop", seen_version=3, owner="w2", lease_seconds=60).value),
        "granted",
        {"refresh_owner": "w2", "refresh_until": SOON},
    ),
    "a refresh that brought nothing": (
        {},
        tokens(lambda store: store.end_refresh("shop", owner="w1", retry_seconds=60)),
        None,
        {"refresh_owner": None, "refresh_until": None, "refresh_not_before": SOON},
    ),
    "a refresh of somebody else's that brought nothing": (
        {},
        tokens(lambda store: store.end_refresh("shop", owner="w2", retry_seconds=60)),
        None,
        {"refresh_not_before": SOON},
    ),
    "an API key given": ({}, keys(lambda store: store.put("shop", B)), None, {"api_key": {"api_key": B}}),
    "an API key given to a suspended account": (
        SUSPENDED,
        keys(lambda store: store.put("shop", B)),
        None,
        {"api_key": {"api_key": B}, "probe_at": NOW},
    ),
    "an API key taken away": ({}, keys(lambda store: store.remove("shop")), True, {"api_key": None}),
}  # fmt: skip


@pytest.fixture
def stage(empty_database_url: str) -> Iterator[Stage]:
    stage = Stage(empty_database_url)
    yield stage
    stage.close()


def read(engine: sa.Engine, account: str) -> dict[str, Any]:
    with engine.connect() as connection:
        row = dict(connection.execute(sa.select(accounts).where(accounts.c.account == account)).mappings().one())
    for name in _JSON:
        row[name] = json.loads(row[name]) if row[name] else None
    for name in _SEALED:
        row[name] = VAULT.open(row[name]) if row[name] else None
    return row


def test_an_operation_writes_what_it_is_about_and_leaves_all_else(stage: Stage) -> None:
    assert {column.name for column in accounts.c} == {
        "account",
        "created_at",
        "paused_at",
        "paused_by",
        "pause_note",
    } | (FULL.keys() | SUSPENDED.keys())
    found: dict[str, object] = {}
    for name, (given, work, _, _) in CASES.items():
        stage.empty()
        columns = dict.fromkeys((column.name for column in accounts.c), None) | {"created_at": THEN} | FULL | given
        columns |= {column: json.dumps(columns[column]) for column in _JSON if columns[column] is not None}
        with stage.engine.begin() as connection:
            connection.execute(sa.insert(accounts), [columns | {"account": account} for account in ("shop", "twin")])
        before, twin = read(stage.engine, "shop"), read(stage.engine, "twin")
        answer = work(stage.engine)
        after = read(stage.engine, "shop")
        found[name] = (answer, {column: after[column] for column in after if after[column] != before[column]})
        assert read(stage.engine, "twin") == twin, f"{name}: another account"
    assert found == {name: (answer, changes) for name, (_, _, answer, changes) in CASES.items()}


@pytest.mark.parametrize("note", [None, "black friday"])
def test_an_account_that_appears_is_due_at_once_or_paused_as_all_are(stage: Stage, note: str | None) -> None:
    def appear(connection: sa.Connection) -> None:
        account_rows.ensure(connection, ["new", "default", "new"])
        account_rows.ensure(connection, [])

    known = read(stage.engine, "default")
    if note is not None:
        in_transaction(stage.engine, lambda c: fleet.pause(c, by="ana", note=note, now=THEN))
    for _ in range(2):  # the second time it is there
        in_transaction(stage.engine, appear)
    fresh = dict.fromkeys((column.name for column in accounts.c), None) | {"token_version": 0, "created_at": NOW}
    paused = {"paused_at": THEN, "paused_by": "ana", "pause_note": note}
    assert read(stage.engine, "new") == fresh | {"account": "new"} | (paused if note else {"turn_at": NOW})
    assert read(stage.engine, "default") == known
    assert in_transaction(stage.engine, lambda c: [row.account for row in account_rows.read(c, ["new", "no"])]) == [
        "new"
    ]
    assert in_transaction(stage.engine, lambda c: account_rows.read(c, [])) == []


def test_an_account_is_marked_by_each_thing_that_a_success_would_end(stage: Stage) -> None:
    def seen(*names: str) -> dict[str, Glance]:
        return in_transaction(stage.engine, lambda connection: account_rows.glance(connection, names))

    marks = ("streaks", "suspended_types", "breaker", "share")
    others = {name: value for name, value in FULL.items() if name not in marks and name not in _JSON}
    with stage.engine.begin() as connection:
        connection.execute(sa.insert(accounts).values(account="plain", holds="[]", retired_types="{}", **others))
        for mark in marks:
            connection.execute(sa.insert(accounts).values(account=mark, **{mark: "{}"}))
    assert seen("plain") == {"plain": Glance(False, SOON, queued=True)}
    marked = dict.fromkeys(marks, Glance(True, None, queued=False))
    assert seen(*marks, "nobody", "plain") == marked | {"plain": Glance(False, SOON, queued=True)}
    assert seen("nobody") == {}
