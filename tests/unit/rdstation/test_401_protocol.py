"""Real: the client, its tokens, threads. Doubled: RD Station behind the transport, the token store (in memory, with
the rules its protocol states), and the clock, whose waits take no real time."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from dispatcher.policy.outcome import Outcome, Stage, TransportFailure
from dispatcher.policy.tokens import Tokens, Turn
from dispatcher.rdstation.access_tokens import CACHE_SECONDS, LEASE_SECONDS, AccessTokens
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.events_api import EVENTS_PATH, EventsApi
from dispatcher.rdstation.oauth import TOKEN_PATH, App, OAuthApi
from dispatcher.rdstation.transport import Reply, Request

APP = App(SecretStr("canary-id"), SecretStr("canary-secret"))
INVALID = {"errors": {"error_type": "INVALID_REFRESH_TOKEN", "error_message": "revoked"}}


class FakeClock:
    """Time that passes only by waiting, shared by all."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.seconds += seconds
        return event.wait(0.001)  # lets the other threads go on


class MemoryStore:
    """The rules of `TokenStore`, in memory."""

    def __init__(self, clock: FakeClock, tokens: Tokens | None) -> None:
        self.clock = clock
        self.tokens = tokens
        self.owner: str | None = None
        self.lease_until = 0.0
        self.not_before = 0.0
        self.lock = threading.Lock()

    def load(self, account: str) -> Tokens | None:
        assert account == "default"
        return self.tokens

    def load_all(self, accounts: Collection[str]) -> dict[str, Tokens | None]:
        return {account: self.load(account) for account in accounts}

    def begin_refresh(self, account: str, *, seen_version: int, owner: str, lease_seconds: float) -> Turn:
        assert account == "default"
        with self.lock:
            if self.tokens is None or self.tokens.version > seen_version:
                return Turn.NEWER
            if self.owner not in {None, owner} and self.lease_until > self.clock.seconds:
                return Turn.WAIT
            if self.not_before > self.clock.seconds:
                return Turn.NOT_YET
            self.owner, self.lease_until = owner, self.clock.seconds + lease_seconds
            return Turn.GRANTED

    def store(self, account: str, tokens: Tokens) -> bool:
        assert account == "default"
        with self.lock:
            if self.tokens is None or self.tokens.version != tokens.version - 1:
                return False
            self.tokens, self.owner, self.not_before = tokens, None, 0.0
            return True

    def end_refresh(self, account: str, *, owner: str, retry_seconds: float) -> None:
        assert account == "default"
        with self.lock:
            if self.owner == owner:
                self.owner = None
            self.not_before = self.clock.seconds + retry_seconds

    def forget_previous(self, account: str, *, version: int) -> None:
        assert account == "default"
        with self.lock:
            if self.tokens is not None and self.tokens.version == version:
                self.tokens = replace(self.tokens, previous_refresh=None)


class RDStation:
    """Knows good access and refresh tokens; every refresh grants `canary-access-N`, and rotates if told to."""

    def __init__(self) -> None:
        self.good_access: set[str] = set()
        self.good_refresh = {"canary-refresh-0"}
        self.rotates = False
        self.grants_work = True
        self.before_grant: Callable[[], None] = lambda: None
        self.refreshes: list[str] = []
        self.posts: list[str] = []
        self.token_status = 200
        self.lock = threading.Lock()

    def send(self, request: Request, *, seconds: float | None = None) -> Reply:
        assert seconds is not None
        assert seconds > 0
        if request.path == TOKEN_PATH:
            return self._token(json.loads(request.body or b"")["refresh_token"])
        assert request.path == EVENTS_PATH
        assert request.bearer is not None
        token = request.bearer.get_secret_value()
        with self.lock:
            self.posts.append(token)
        if token in self.good_access:
            return _reply(200, {"event_uuid": "u-1"})
        return _reply(401, {"errors": {"error_type": "UNAUTHORIZED", "error_message": f"Invalid token {token}."}})

    def _token(self, refresh: str) -> Reply:
        with self.lock:
            self.refreshes.append(refresh)
            number = len(self.refreshes)
        self.before_grant()
        if self.token_status != 200:
            return _reply(self.token_status, {})
        if refresh not in self.good_refresh:
            return _reply(401, INVALID)
        granted: dict[str, object] = {"access_token": f"canary-access-{number}", "expires_in": 86_400}
        if self.rotates:
            self.good_refresh = {f"canary-refresh-{number}"}
            granted["refresh_token"] = f"canary-refresh-{number}"
        if self.grants_work:
            self.good_access.add(f"canary-access-{number}")
        return _reply(200, granted)

    def close(self) -> None: ...


def _reply(status: int, document: object) -> Reply:
    return Reply(Stage.ANSWERED, status=status, body=json.dumps(document).encode())


def tokens(access: str | None = "canary-access-0", **changes: object) -> Tokens:
    made = Tokens(SecretStr(access) if access else None, SecretStr("canary-refresh-0"), None, None, 1)
    return replace(made, **changes)  # type: ignore[arg-type]  # the changes are named right


class World:
    def __init__(self, seeded: Tokens | None) -> None:
        self.clock = FakeClock()
        self.rd = RDStation()
        self.store = MemoryStore(self.clock, seeded)
        self.time_left: Callable[[], float] = lambda: 60.0

    def keeper(self, owner: str = "one", app: App | None = APP) -> AccessTokens:
        return AccessTokens(
            self.store,
            OAuthApi(self.rd, clock=self.clock),
            app_of=lambda _account: app,
            clock=self.clock,
            rng=random.Random(1),  # noqa: S311  # jitter is no secret
            owner=owner,
        )

    def client(self, owner: str = "one", app: App | None = APP) -> Client:
        return Client(EventsApi(self.rd, clock=self.clock), self.keeper(owner, app))

    def send(self, client: Client) -> Outcome:
        outcome = client.send("default", b"{}", remaining=self.time_left)
        assert "canary" not in repr(outcome)
        return outcome

    @property
    def stored(self) -> Tokens:
        assert self.store.tokens is not None
        return self.store.tokens


@pytest.fixture
def world() -> World:
    return World(tokens())


def test_a_good_token_sends_once_and_refreshes_nothing(world: World) -> None:
    world.rd.good_access.add("canary-access-0")
    outcome = world.send(world.client())
    assert (outcome.event_uuid, outcome.refreshed) == ("u-1", False)
    assert (world.rd.posts, world.rd.refreshes) == (["canary-access-0"], [])


def test_a_refused_token_is_renewed_once_and_the_event_sent_again(world: World) -> None:
    outcome = world.send(world.client())
    assert (outcome.event_uuid, outcome.refreshed) == ("u-1", True)
    assert world.rd.posts == ["canary-access-0", "canary-access-1"]
    assert world.stored.expires_at == world.clock.now() + timedelta(days=1)


def test_the_new_token_is_stored_before_it_is_used(world: World) -> None:
    used: list[bool] = []
    send = world.rd.send

    def watching(request: Request, *, seconds: float | None = None) -> Reply:
        if request.bearer is not None:
            used.append(request.bearer == world.stored.access)
        return send(request, seconds=seconds)

    world.rd.send = watching  # type: ignore[method-assign]  # an observer
    world.send(world.client())
    assert used == [True, True]


def test_a_renewed_token_that_is_refused_too_ends_it_and_stops_refreshes_for_a_minute(world: World) -> None:
    world.rd.grants_work = False
    client = world.client()
    outcome = world.send(client)
    assert (outcome.status, outcome.refreshed, len(world.rd.posts)) == (401, True, 2)
    again = world.send(client)
    assert (again.status, again.refreshed, len(world.rd.refreshes)) == (401, False, 1)
    assert "not due yet" in str(again.detail)
    world.clock.seconds += 61
    world.send(client)
    assert len(world.rd.refreshes) == 2


def test_a_whole_fleet_refreshes_once(world: World) -> None:
    world.rd.rotates = True
    everyone_refused = threading.Barrier(6)
    clients = [world.client(f"process-{number}") for number in range(3)]
    outcomes: list[Outcome] = []
    send = world.rd.send

    def refusing_together(request: Request, *, seconds: float | None = None) -> Reply:
        reply = send(request, seconds=seconds)
        if reply.status == 401 and request.path == EVENTS_PATH:
            everyone_refused.wait(30)
        return reply

    world.rd.send = refusing_together  # type: ignore[method-assign]  # brings about the race
    threads = [
        threading.Thread(target=lambda client=client: outcomes.append(world.send(client)))
        for client in clients
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [outcome.event_uuid for outcome in outcomes] == ["u-1"] * 6
    assert world.rd.refreshes == ["canary-refresh-0"]


def test_a_process_that_died_in_its_turn_is_taken_over_when_its_lease_ends(world: World) -> None:
    turn = world.store.begin_refresh("default", seen_version=1, owner="dead", lease_seconds=LEASE_SECONDS)
    assert turn is Turn.GRANTED
    renewal = world.keeper().renew("default", SecretStr("canary-access-0"), remaining=world.time_left)
    assert renewal.token == SecretStr("canary-access-1")
    assert world.clock.seconds >= LEASE_SECONDS


def test_nobody_waits_longer_than_there_is_time(world: World) -> None:
    world.store.begin_refresh("default", seen_version=1, owner="slow", lease_seconds=LEASE_SECONDS)
    world.time_left = lambda: 20.0 - world.clock.seconds
    outcome = world.send(world.client())
    assert (outcome.status, outcome.refreshed) == (401, False)
    assert world.clock.seconds <= 20
    assert world.rd.refreshes == []


def test_a_token_that_another_process_renewed_is_taken_without_a_refresh(world: World) -> None:
    client = world.client()
    world.rd.good_access = {"canary-access-0"}
    world.send(client)
    world.rd.good_access = {"canary-other"}
    world.store.tokens = tokens("canary-other", version=2)
    outcome = world.send(client)
    assert (outcome.event_uuid, outcome.refreshed, world.rd.refreshes) == ("u-1", True, [])


def test_new_credentials_are_noticed_without_a_refusal(world: World) -> None:
    client = world.client()
    world.rd.good_access = {"canary-access-0", "canary-other"}
    world.send(client)
    world.store.tokens = tokens("canary-other", version=2)
    world.clock.seconds += CACHE_SECONDS
    world.send(client)
    assert world.rd.posts == ["canary-access-0", "canary-other"]


def test_a_rotated_refresh_token_keeps_its_predecessor_until_the_new_access_token_worked(world: World) -> None:
    world.rd.rotates = True
    keeper = world.keeper()
    renewal = keeper.renew("default", SecretStr("canary-access-0"), remaining=world.time_left)
    assert world.stored.refresh == SecretStr("canary-refresh-1")
    assert world.stored.previous_refresh == SecretStr("canary-refresh-0")
    assert renewal.token is not None
    keeper.worked("default", SecretStr("canary-another"))
    assert world.stored.previous_refresh is not None
    keeper.worked("default", renewal.token)
    assert world.stored.previous_refresh is None


def test_a_successful_send_proves_the_rotation(world: World) -> None:
    world.rd.rotates = True
    world.send(world.client())
    assert world.stored.refresh == SecretStr("canary-refresh-1")
    assert world.stored.previous_refresh is None


def test_a_rotation_that_never_became_valid_falls_back_to_the_previous_token(world: World) -> None:
    world.store.tokens = tokens(refresh=SecretStr("canary-unborn"), previous_refresh=SecretStr("canary-refresh-0"))
    assert world.send(world.client()).event_uuid == "u-1"
    assert world.rd.refreshes == ["canary-unborn", "canary-refresh-0"]
    assert world.stored.refresh == SecretStr("canary-refresh-0")


def test_an_invalid_refresh_token_is_believed_only_after_reading_again(world: World) -> None:
    def rotated_by_another() -> None:
        world.rd.good_refresh = {"canary-refresh-other"}
        world.rd.good_access = {"canary-other"}
        world.store.tokens = tokens("canary-other", refresh=SecretStr("canary-refresh-other"), version=2)

    world.rd.before_grant = rotated_by_another
    outcome = world.send(world.client())
    assert (outcome.event_uuid, outcome.refreshed) == ("u-1", True)
    assert world.store.not_before == 0


def test_a_refresh_that_lost_its_lease_does_not_overwrite_newer_tokens(world: World) -> None:
    def outrun() -> None:
        world.rd.good_access = {"canary-other"}
        world.store.tokens = tokens("canary-other", version=2)

    world.rd.before_grant = outrun
    renewal = world.keeper().renew("default", SecretStr("canary-access-0"), remaining=world.time_left)
    assert renewal.token == SecretStr("canary-other")
    assert world.stored.version == 2


def test_an_invalid_refresh_token_ends_in_the_401_and_says_why(world: World) -> None:
    world.rd.good_refresh = set()
    client = world.client()
    outcome = world.send(client)
    assert (outcome.status, outcome.refreshed) == (401, False)
    assert "INVALID_REFRESH_TOKEN" in str(outcome.detail)
    for _ in range(5):
        world.send(client)
    assert len(world.rd.refreshes) == 1


def test_an_unavailable_token_endpoint_is_asked_once_a_minute(world: World) -> None:
    world.rd.token_status = 503
    clients = [world.client("a"), world.client("b")]
    details = [str(world.send(client).detail) for client in clients * 3]
    assert "503" in details[0]
    assert len(world.rd.refreshes) == 1
    world.clock.seconds += 61
    world.rd.token_status = 200
    assert world.send(clients[1]).event_uuid == "u-1"


def test_a_first_access_token_is_bought_before_the_first_request() -> None:
    world = World(tokens(None))
    outcome = world.send(world.client())
    assert (outcome.event_uuid, world.rd.posts) == ("u-1", ["canary-access-1"])


def test_new_credentials_with_the_same_access_token_are_tried(world: World) -> None:
    world.rd.good_refresh = {"canary-refresh-new"}
    keeper = world.keeper()
    keeper.token_for("default", remaining=world.time_left)
    begin = world.store.begin_refresh

    def changed_meanwhile(account: str, *, seen_version: int, owner: str, lease_seconds: float) -> Turn:
        if world.stored.version == 1:
            world.store.tokens = tokens(refresh=SecretStr("canary-refresh-new"), version=2)
        return begin(account, seen_version=seen_version, owner=owner, lease_seconds=lease_seconds)

    world.store.begin_refresh = changed_meanwhile  # type: ignore[method-assign]  # brings about the race
    renewal = keeper.renew("default", SecretStr("canary-access-0"), remaining=world.time_left)
    assert renewal.token == SecretStr("canary-access-1")


@pytest.mark.parametrize("seeded", [None, tokens(None, refresh=None)])
def test_without_any_token_nothing_is_sent_and_the_account_is_at_fault(seeded: Tokens | None) -> None:
    world = World(seeded)
    outcome = world.send(world.client())
    assert (outcome.stage, outcome.failure) == (Stage.NOT_CONNECTED, TransportFailure.CREDENTIALS)
    assert "log it in" in str(outcome.detail)
    assert world.rd.posts == []


def test_without_an_application_the_401_stands(world: World) -> None:
    outcome = world.send(world.client(app=None))
    assert (outcome.status, world.rd.refreshes) == (401, [])
    assert "client id" in str(outcome.detail)


def test_with_too_little_time_the_event_is_not_sent_twice(world: World) -> None:
    left = 20.0

    def later() -> None:
        nonlocal left
        left = 4.0

    world.rd.before_grant = later
    world.time_left = lambda: left
    outcome = world.send(world.client())
    assert (outcome.stage, outcome.failure, outcome.refreshed) == (Stage.NOT_CONNECTED, TransportFailure.DEADLINE, True)
    assert world.rd.posts == ["canary-access-0"]
    assert world.stored.access == SecretStr("canary-access-1")


def test_a_token_near_its_end_is_renewed_before_it_is_refused() -> None:
    world = World(tokens(expires_at=FakeClock().now() + timedelta(seconds=30)))
    world.rd.good_access.add("canary-access-0")
    assert world.send(world.client()).refreshed is False
    assert world.rd.posts == ["canary-access-1"]


def test_a_renewal_ahead_waits_for_nobody_and_its_failure_harms_nothing() -> None:
    world = World(tokens(expires_at=FakeClock().now() + timedelta(seconds=30)))
    world.rd.good_access.add("canary-access-0")
    world.store.begin_refresh("default", seen_version=1, owner="other", lease_seconds=LEASE_SECONDS)
    assert world.send(world.client()).event_uuid == "u-1"
    assert (world.clock.seconds, world.rd.refreshes) == (0.0, [])
    world.clock.seconds += LEASE_SECONDS
    world.rd.token_status = 503
    assert world.send(world.client()).event_uuid == "u-1"
    assert len(world.rd.refreshes) == 1


def test_errors_of_the_store_pass_through(world: World) -> None:
    def failing(account: str) -> Tokens | None:
        raise LookupError("the database is away")

    world.store.load = failing  # type: ignore[method-assign]  # a database that fails
    with pytest.raises(LookupError):
        world.client().send("default", b"{}", remaining=world.time_left)
