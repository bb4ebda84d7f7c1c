"""Notices are told once for the whole fleet, and once when they are over. Real databases; time is written into rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dispatcher.outbox import notice_rows
from dispatcher.outbox.notice_rows import LOOK_EVERY, OVER_AFTER, NoticeRow
from dispatcher.outbox.tables import dead_letters, notices
from dispatcher.outbox.transaction import in_transaction, reading
from dispatcher.policy.notices import Condition, Kind
from tests.contract.meanwhile import meanwhile
from tests.contract.outbox_under_test import OutboxUnderTest

REFUSED = Condition(Kind.ACCOUNT_SUSPENDED, "default", "", "credentials: refused")


def observe(outbox: OutboxUnderTest, *found: Condition, tell: bool = True) -> tuple[list[NoticeRow], list[NoticeRow]]:
    return in_transaction(outbox.engine, lambda connection: notice_rows.observe(connection, found, tell=tell))


def take(outbox: OutboxUnderTest) -> list[NoticeRow]:
    return in_transaction(outbox.engine, notice_rows.take_to_tell)


def told(outbox: OutboxUnderTest, notice: NoticeRow) -> None:
    in_transaction(outbox.engine, lambda connection: notice_rows.told(connection, notice))


def write(outbox: OutboxUnderTest, **values: Any) -> None:
    with outbox.engine.begin() as connection:
        connection.execute(sa.update(notices).where(outbox.own(notices)).values(values))


def whole(outbox: OutboxUnderTest) -> dict[str, Any]:
    """The one row."""
    query = sa.select(notices).where(outbox.own(notices))
    return dict(reading(outbox.engine, lambda connection: connection.execute(query).mappings().one()))


def test_what_lasts_is_raised_once_and_resolved_once_it_has_been_away_long_enough(outbox: OutboxUnderTest) -> None:
    assert [notice.state for notice in observe(outbox, REFUSED)[0]] == ["raised"]
    assert observe(outbox, REFUSED) == ([], [])
    write(outbox, seen_at=outbox.now() - OVER_AFTER - timedelta(seconds=1))
    assert observe(outbox, REFUSED) == ([], []), "it is so still, and nobody looked for a while"
    assert observe(outbox) == ([], []), "away for a moment only"
    assert reading(outbox.engine, notice_rows.open_by_kind)["account_suspended"] == 1
    write(outbox, seen_at=outbox.now() - OVER_AFTER - timedelta(seconds=1))
    raised, resolved = observe(outbox)
    assert (raised, [notice.state for notice in resolved]) == ([], ["resolved"])
    assert observe(outbox) == ([], [])
    assert len(observe(outbox, REFUSED)[0]) == 1, "the next time is a notice of its own"


def test_a_row_says_all_of_its_notice_whatever_becomes_of_it(outbox: OutboxUnderTest) -> None:
    name = {"kind": "account_suspended", "account": "default", "subject": ""}
    (raised,) = observe(outbox, REFUSED)[0]
    began = raised.raised_at
    assert raised == NoticeRow(
        **name, state="raised", detail=REFUSED.detail, raised_at=began, resolved_at=None, tries=0
    )
    row = {**name, "detail": REFUSED.detail, "raised_at": began, "seen_at": began, "resolved_at": None, "tries": 0}
    assert whole(outbox) == row | {"to_tell": "raised", "tell_at": began}

    (taken,) = take(outbox)
    assert taken == raised
    assert began + timedelta(seconds=60) <= whole(outbox)["tell_at"] <= outbox.now() + timedelta(seconds=60)
    write(outbox, tries=7)
    told(outbox, taken)
    assert whole(outbox) == row | {"to_tell": None, "tell_at": None}

    long_ago = outbox.now() - timedelta(hours=1)
    write(outbox, seen_at=long_ago, raised_at=long_ago, tries=7)
    (over,) = observe(outbox)[1]
    ended = over.resolved_at
    assert ended is not None
    past = row | {"raised_at": long_ago, "seen_at": long_ago, "resolved_at": ended}
    assert whole(outbox) == past | {"to_tell": "resolved", "tell_at": ended}

    write(outbox, tries=7, resolved_at=long_ago, tell_at=long_ago)
    ((again,), _) = observe(outbox, replace(REFUSED, detail="credentials: revoked"))
    anew = {"detail": again.detail, "raised_at": again.raised_at, "seen_at": again.raised_at}
    assert (again.detail, again.raised_at > long_ago) == ("credentials: revoked", True)
    assert whole(outbox) == row | anew | {"to_tell": "raised", "tell_at": again.raised_at}


def test_what_was_told_of_the_time_before_does_not_hide_that_it_has_begun_again(outbox: OutboxUnderTest) -> None:
    observe(outbox, REFUSED)
    write(outbox, raised_at=outbox.now() - timedelta(hours=1))
    (slow,) = take(outbox)
    write(outbox, seen_at=outbox.now() - OVER_AFTER)
    assert len(observe(outbox)[1]) == 1
    assert len(observe(outbox, REFUSED)[0]) == 1
    told(outbox, slow)
    assert [notice.state for notice in take(outbox)] == ["raised"]


def _now_so(outbox: OutboxUnderTest, **values: Any) -> Callable[[sa.Connection], object]:
    return lambda connection: connection.execute(sa.update(notices).where(outbox.own(notices)).values(values))


@pytest.mark.parametrize("other", ["sees it again", "resolves it"])
def test_what_another_sweeper_has_done_with_it_at_this_moment_is_not_done_again(
    outbox: OutboxUnderTest, other: str
) -> None:
    observe(outbox, REFUSED)
    now = outbox.now()
    assert OVER_AFTER.total_seconds() == 90, "as docs/monitoring.md tells"
    write(outbox, seen_at=now - OVER_AFTER)
    done = _now_so(outbox, seen_at=now) if other == "sees it again" else _now_so(outbox, resolved_at=now)
    with meanwhile(outbox, ("UPDATE outbox_notices SET", done)):
        assert observe(outbox) == ([], [])
    assert whole(outbox)["to_tell"] == "raised"


def test_what_another_sweeper_raises_at_this_moment_is_not_raised_again(outbox: OutboxUnderTest) -> None:
    name = {"kind": REFUSED.kind.value, "account": REFUSED.account, "subject": REFUSED.subject}
    now = outbox.now()

    def raises(connection: sa.Connection) -> None:
        connection.execute(sa.insert(notices), name | {"detail": "theirs", "raised_at": now, "seen_at": now})

    with meanwhile(outbox, ("INSERT", raises)):
        assert observe(outbox, REFUSED) == ([], [])
    assert whole(outbox)["detail"] == "theirs"


@pytest.mark.alone("it counts all notices")
def test_open_notices_are_counted_by_kind_until_they_are_over(outbox: OutboxUnderTest) -> None:
    none = {kind.value: 0 for kind in Kind}
    observe(outbox, REFUSED, Condition(Kind.ACCOUNT_SUSPENDED, "other", "", "credentials: refused"))
    in_transaction(outbox.engine, notice_rows.may_look)
    assert reading(outbox.engine, notice_rows.open_by_kind) == none | {"account_suspended": 2}
    write(outbox, seen_at=outbox.now() - OVER_AFTER)
    observe(outbox)
    assert reading(outbox.engine, notice_rows.open_by_kind) == none


@pytest.mark.alone("it counts all notices")
def test_what_the_webhook_has_not_taken_in_so_many_tries_is_counted_until_it_is_told(outbox: OutboxUnderTest) -> None:
    def untold(tries: int) -> int:
        return reading(outbox.engine, lambda connection: notice_rows.untold(connection, tries=tries))

    observe(outbox, REFUSED)
    for _ in range(3):
        write(outbox, tell_at=outbox.now())
        (mine,) = take(outbox)
        in_transaction(outbox.engine, lambda connection, mine=mine: notice_rows.not_told(connection, mine))  # type: ignore[misc]  # mypy cannot type a lambda's default
    assert [untold(tries) for tries in (2, 3, 4)] == [1, 1, 0]
    told(outbox, mine)
    assert untold(1) == 0


@pytest.mark.usefixtures("two_writers")
def test_two_that_tell_at_once_tell_each_notice_once_without_waiting(outbox: OutboxUnderTest) -> None:
    observe(outbox, REFUSED)
    with outbox.engine.connect() as one, outbox.engine.connect() as other:
        assert [notice.kind for notice in notice_rows.take_to_tell(one)] == ["account_suspended"]
        assert notice_rows.take_to_tell(other) == []
        other.commit()
        one.commit()


def test_each_notice_is_raised_told_and_resolved_by_itself(outbox: OutboxUnderTest) -> None:
    others = [
        Condition(Kind.BREAKER_OPEN, "default", "", "fails"),
        Condition(Kind.ACCOUNT_SUSPENDED, "other", "", "credentials: refused"),
        Condition(Kind.TYPE_SUSPENDED, "default", "SALE", "forbidden"),
        Condition(Kind.TYPE_SUSPENDED, "default", "CONVERSION", "forbidden"),
    ]
    assert len(observe(outbox, REFUSED, *others)[0]) == 5
    taken = take(outbox)
    told(outbox, taken[0])
    assert in_transaction(outbox.engine, lambda connection: notice_rows.not_told(connection, taken[1]))
    with outbox.engine.begin() as connection:
        now = outbox.now()
        connection.execute(
            sa.update(notices).where(outbox.own(notices), notices.c.to_tell.is_not(None)).values(tell_at=now)
        )
    assert sorted((notice.kind, notice.account, notice.subject, notice.tries) for notice in take(outbox)) == sorted(
        (notice.kind, notice.account, notice.subject, int(notice is taken[1])) for notice in taken[1:]
    )
    write(outbox, seen_at=outbox.now() - OVER_AFTER - timedelta(seconds=1))
    _, resolved = observe(outbox, REFUSED)
    assert sorted((notice.kind, notice.account, notice.subject) for notice in resolved) == sorted(
        (condition.kind.value, condition.account, condition.subject) for condition in others
    )


def test_those_that_have_waited_longest_are_told_first_and_no_more_than_can_be_told_in_time(
    outbox: OutboxUnderTest,
) -> None:
    accounts = [f"shop-{number}" for number in range(7)]
    observe(outbox, *(Condition(Kind.ACCOUNT_SUSPENDED, account, "", "credentials: refused") for account in accounts))
    now, waited = outbox.now(), [4, 7, 1, 6, 3, 2, 5]
    with outbox.engine.begin() as connection:
        for account, seconds in zip(accounts, waited, strict=True):
            of_account = sa.update(notices).where(notices.c.account == account)
            connection.execute(of_account.values(tell_at=now - timedelta(seconds=seconds)))
    assert [notice.account for notice in take(outbox)] == ["shop-1", "shop-3", "shop-6", "shop-0", "shop-4"]


@pytest.mark.parametrize(("tries", "minutes"), [(0, 0.5), (1, 1), (3, 4), (20, 30)])
def test_a_notice_that_was_not_taken_comes_again_after_a_while(
    outbox: OutboxUnderTest, tries: int, minutes: float
) -> None:
    observe(outbox, REFUSED)
    write(outbox, tries=tries)
    (mine,) = take(outbox)
    before = outbox.now()
    assert in_transaction(outbox.engine, lambda connection: notice_rows.not_told(connection, mine))
    query = sa.select(notices.c.tell_at).where(outbox.own(notices))
    tell_at = reading(outbox.engine, lambda connection: connection.execute(query).scalar_one())
    assert before + timedelta(minutes=minutes) <= tell_at <= outbox.now() + timedelta(minutes=minutes)


def test_two_sweepers_that_see_it_at_once_raise_it_once(outbox: OutboxUnderTest, two_writers: None) -> None:
    together = threading.Barrier(4)
    raised: list[NoticeRow] = []

    def look() -> None:
        together.wait(30)
        raised.extend(observe(outbox, REFUSED)[0])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(raised) == 1


def test_the_webhook_is_told_by_one_and_again_only_after_a_failure(outbox: OutboxUnderTest) -> None:
    observe(outbox, REFUSED)
    assert reading(outbox.engine, notice_rows.somebody_waits)
    (mine,) = take(outbox)
    assert take(outbox) == [], "it is being told"
    assert in_transaction(outbox.engine, lambda connection: notice_rows.not_told(connection, mine))
    assert take(outbox) == [], "not at once again"
    write(outbox, tell_at=outbox.now())
    (again,) = take(outbox)
    assert again.tries == 1
    told(outbox, again)
    write(outbox, seen_at=outbox.now())
    assert not reading(outbox.engine, notice_rows.somebody_waits)


def test_what_was_told_late_does_not_hide_that_it_is_over(outbox: OutboxUnderTest) -> None:
    observe(outbox, REFUSED)
    (slow,) = take(outbox)
    write(outbox, seen_at=outbox.now() - OVER_AFTER - timedelta(seconds=1), tries=7)
    observe(outbox)
    told(outbox, slow)
    (over,) = take(outbox)
    assert (over.state, over.tries) == ("resolved", 0), "the end of it is told as often as its beginning"
    assert over.resolved_at is not None


def test_what_is_raised_again_has_all_its_tries_before_it(outbox: OutboxUnderTest) -> None:
    observe(outbox, REFUSED)
    write(outbox, seen_at=outbox.now() - OVER_AFTER - timedelta(seconds=1))
    (over,) = observe(outbox)[1]
    assert over.resolved_at is not None, "whoever hears of it hears since when"
    write(outbox, tries=7)  # the webhook was not there for the end of it
    observe(outbox, REFUSED)
    (again,) = take(outbox)
    assert (again.state, again.tries) == ("raised", 0)


def test_without_a_webhook_nothing_is_kept_to_be_told(outbox: OutboxUnderTest) -> None:
    assert len(observe(outbox, REFUSED, tell=False)[0]) == 1
    assert take(outbox) == []
    observe(outbox, REFUSED)
    write(outbox, seen_at=outbox.now() - OVER_AFTER)
    assert len(observe(outbox, tell=False)[1]) == 1, "the webhook was taken away meanwhile"
    assert take(outbox) == []


def test_a_webhook_that_never_answers_is_given_up_after_about_a_day(outbox: OutboxUnderTest) -> None:
    observe(outbox, REFUSED)
    assert len(take(outbox)) == 1
    write(outbox, tries=58, tell_at=outbox.now())
    (late,) = take(outbox)
    assert reading(outbox.engine, lambda connection: notice_rows.untold(connection, tries=3)) == 1
    assert in_transaction(outbox.engine, lambda connection: notice_rows.not_told(connection, late))
    write(outbox, tell_at=outbox.now())
    (last,) = take(outbox)
    assert not in_transaction(outbox.engine, lambda connection: notice_rows.not_told(connection, last))
    assert take(outbox) == []


def test_the_fleet_looks_once_in_a_while(outbox: OutboxUnderTest) -> None:
    assert in_transaction(outbox.engine, notice_rows.may_look)
    assert not in_transaction(outbox.engine, notice_rows.may_look)
    write(outbox, seen_at=outbox.now() - LOOK_EVERY)
    assert LOOK_EVERY.total_seconds() == 15, "as docs/monitoring.md tells"
    assert in_transaction(outbox.engine, notice_rows.may_look)
    assert not in_transaction(outbox.engine, notice_rows.may_look)
    write(outbox, seen_at=outbox.now() - OVER_AFTER)
    assert observe(outbox) == ([], []), "the row that says when is no notice"


@pytest.mark.parametrize(("minutes", "is_open", "count"), [(30, True, 1), (90, True, 0), (30, False, 0)])
def test_dead_letters_of_the_last_hour_that_are_open_still_are_growing(
    outbox: OutboxUnderTest, minutes: int, is_open: bool, count: int
) -> None:
    event = outbox.add(state="dead")
    letter = {
        "event": event,
        "open_event": event if is_open else None,
        "account": "default",
        "event_type": "SALE",
        "reason": "rejected",
        "detail": "400",
        "attempt": 1,
        "created_at": outbox.now() - timedelta(minutes=minutes),
        **({} if is_open else {"resolution": "replayed", "resolved_at": outbox.now(), "resolved_by": "ana"}),
    }
    with outbox.engine.begin() as connection:
        connection.execute(sa.insert(dead_letters), letter)
        assert notice_rows.dead_lately(connection, outbox.now()) == count
