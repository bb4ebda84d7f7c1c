"""Issue 3, line 2: fifty processes meet an expired token at once. Real: processes, databases, HTTP.

Doubled: RD Station, in every kind of rotation, and the minute between two refreshes, which is written into the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.vault import Vault
from dispatcher.policy.tokens import Tokens
from dispatcher.sandbox import Fault, FaultKind, Sandbox
from tests.acceptance.corners import emptied
from tests.acceptance.fleet import ENCRYPTION_KEY, Shop
from tests.acceptance.refreshers import Job, Refreshers, Report, digest
from tests.conftest import DATABASES
from tests.tiers.servers import PrivatePostgres

FIFTY = 50
TOKEN = "/auth/token"
FEW = 8  # who meet where fifty would show nothing more

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Every database in turn; fifty connections at once need a PostgreSQL that serves nobody else."""
    if request.param == "postgres":
        private: PrivatePostgres = request.getfixturevalue("private_postgres")
        return private.url
    return emptied(request, request.param)


@pytest.fixture(scope="module")
def refreshers() -> Iterator[Refreshers]:
    with Refreshers() as refreshers:
        yield refreshers


class Meeting:
    """The account `default`, its expired token, and the processes that meet it."""

    def __init__(self, shop: Shop, sandbox: Sandbox, refreshers: Refreshers, url: str) -> None:
        self._shop, self._sandbox, self._refreshers, self._url = shop, sandbox, refreshers, url
        self._store = CredentialStore(shop.engine, Vault([SecretStr(ENCRYPTION_KEY)]))
        shop.log_in("default")
        sandbox.expire_tokens()

    def __call__(self, processes: int = FIFTY) -> tuple[list[Report], int]:
        """The reports of all processes, and how many refreshes they cost."""
        before = self._sandbox.count(TOKEN)
        reports = self._refreshers.meet(Job(processes, self._url, self._sandbox.url, ENCRYPTION_KEY))
        failures = [report.failure for report in reports if report.failure and "BrokenBarrier" not in report.failure]
        assert not failures, failures[0]
        assert all(report.refused for report in reports), "each was to meet the expired token"
        return reports, self._sandbox.count(TOKEN) - before

    @property
    def stored(self) -> Tokens:
        tokens = self._store.load("default")
        assert tokens is not None
        return tokens

    def a_minute_passes(self) -> None:
        """The time in which nobody may try again after a refresh that brought nothing."""
        waiting = sa.update(accounts).where(accounts.c.refresh_not_before > self._shop.now())
        past = self._shop.now() - timedelta(seconds=1)
        with self._shop.engine.begin() as connection:
            assert connection.execute(waiting.values(refresh_not_before=past)).rowcount == 1

    def log_in_anew(self) -> None:
        """As `account login` does, with what RD Station answers to a code."""
        self._sandbox.restore_tokens()
        access, refresh = SecretStr("sandbox-access-anew"), SecretStr("sandbox-refresh-anew")
        self._sandbox.add_account("anew")
        self._store.put("default", access=access, refresh=refresh)
        self._sandbox.expire_tokens("anew")


@pytest.fixture
def meeting(shop: Shop, sandbox: Sandbox, refreshers: Refreshers, database_url: str) -> Meeting:
    return Meeting(shop, sandbox, refreshers, database_url)


def all_got(reports: list[Report], tokens: Tokens) -> bool:
    """Every process got the one token that is stored, and RD Station took it from each."""
    return Counter((report.token, report.works) for report in reports) == {(digest(tokens.access), True): len(reports)}


@pytest.mark.parametrize("rotation", ["fixed", "rotated", "rotated_with_grace"])
def test_fifty_processes_refresh_once_and_all_get_the_same_token(
    meeting: Meeting, sandbox: Sandbox, rotation: str
) -> None:
    sandbox.switch(rotation=rotation)

    reports, refreshes = meeting()

    assert refreshes == 1
    assert all_got(reports, meeting.stored)
    assert meeting.stored.previous_refresh is None, "the new token has worked"

    sandbox.expire_tokens()
    reports, refreshes = meeting(5)
    assert (refreshes, all_got(reports, meeting.stored)) == (1, True), "what was stored buys the next one"


@pytest.mark.parametrize("rotation", ["fixed", "rotated_with_grace"])
def test_a_lost_answer_costs_one_refresh_and_the_next_one_a_minute_later_serves_all(
    meeting: Meeting, sandbox: Sandbox, rotation: str
) -> None:
    sandbox.switch(rotation=rotation)
    sandbox.break_with(Fault(FaultKind.ACCEPT_THEN_DROP, path=TOKEN))

    reports, refreshes = meeting()
    assert refreshes == 1
    assert [report.token for report in reports] == [None] * FIFTY
    assert all("brought nothing" in str(r.why_not) or "gave no answer" in str(r.why_not) for r in reports)

    meeting.a_minute_passes()
    reports, refreshes = meeting(FEW)
    assert refreshes == 1
    assert all_got(reports, meeting.stored)


def test_a_lost_answer_under_strict_rotation_is_refused_once_and_waits_for_a_login(
    meeting: Meeting, sandbox: Sandbox
) -> None:
    """The new refresh token was in the answer that nobody got, and the old one is dead: nobody can recover that."""
    sandbox.switch(rotation="rotated")
    sandbox.break_with(Fault(FaultKind.ACCEPT_THEN_DROP, path=TOKEN))
    assert meeting(FEW)[1] == 1

    meeting.a_minute_passes()
    reports, refreshes = meeting(FEW)
    assert refreshes == 1
    assert [report.token for report in reports] == [None] * FEW
    assert sum("INVALID_REFRESH_TOKEN" in str(report.why_not) for report in reports) == 1

    meeting.log_in_anew()
    reports, refreshes = meeting(5)
    assert (refreshes, all_got(reports, meeting.stored)) == (1, True)
