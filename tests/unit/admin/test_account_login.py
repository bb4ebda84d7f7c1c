"""`account login` from the question to the stored tokens. Real: the command line, SQLite, the loopback port, HTTP.

Doubled: RD Station (the sandbox, which agrees at once), and the person: a terminal that opens the address it reads.
"""

from __future__ import annotations

import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import sqlalchemy as sa
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.admin.cli import main
from dispatcher.admin.login import redeem
from dispatcher.clock import SystemClock
from dispatcher.errors import DispatcherError
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.tables import accounts
from dispatcher.outbox.vault import Vault
from dispatcher.policy.outcome import Stage
from dispatcher.policy.tokens import Tokens
from dispatcher.rdstation.oauth import App, OAuthApi
from dispatcher.rdstation.transport import Reply, Request
from dispatcher.sandbox import CLIENT_ID, CLIENT_SECRET, Fault, FaultKind, Sandbox
from tests.unit.admin.conftest import Command, Ran

DIALOG = re.compile(r"http://\S+/auth/dialog\?\S+")
SOON = 30.0


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, allow_redirects=False, timeout=SOON)


def answer_to(url: str) -> str:
    """Where RD Station sends the browser."""
    return get(url).headers["Location"]


@dataclass
class Person:
    """Opens the address that the terminal shows; `browse` is what then happens in the browser."""

    browse: Callable[[str], object]
    asked: list[str] = field(default_factory=list)
    pasted: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def reads(self, text: str) -> None:
        if (shown := DIALOG.search(text)) and not self.asked:
            self.asked.append(shown[0])
            threading.Thread(target=self._browses, args=(shown[0],), daemon=True).start()

    def _browses(self, url: str) -> None:
        try:
            self.pasted = str(self.browse(url))
        except BaseException as failure:  # noqa: BLE001 - told in the test's own thread
            self.failure = failure
        finally:
            self.done.set()


class Terminal(io.StringIO):
    """Standard error, with somebody in front of it."""

    def __init__(self, person: Person) -> None:
        super().__init__()
        self._person = person

    def write(self, text: str) -> int:
        written = super().write(text)
        self._person.reads(text)
        return written


class Keyboard(io.StringIO):
    """Standard input: what the person has copied from the browser."""

    def __init__(self, person: Person) -> None:
        super().__init__()
        self._person = person

    def readline(self, _size: int = -1) -> str:  # type: ignore[override]  # typeshed has it positional-only
        assert self._person.done.wait(SOON)
        return self._person.pasted + "\n"


@dataclass
class Desk:
    """The command, a person, and what came of it."""

    place: Path
    sandbox: Sandbox
    port: int
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    @property
    def redirect_uri(self) -> str:
        return f"http://localhost:{self.port}/callback"

    def login(self, *options: str, browse: Callable[[str], object]) -> tuple[Ran, Person]:
        """`dispatcher account login` with the documented defaults; the port is free."""
        person = Person(browse)
        terminal = Terminal(person)
        self.patch.setattr("sys.stderr", terminal)
        self.patch.setattr("sys.stdin", Keyboard(person))
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["account", "login", "--redirect-uri", self.redirect_uri, *options])
        if person.asked:
            assert person.done.wait(SOON)
        if person.failure is not None:
            raise person.failure
        return Ran(int(ended.value.code or 0), self.capture.readouterr().out, terminal.getvalue()), person

    def tokens(self, account: str = "default") -> Tokens | None:
        with self.engine() as engine:
            return CredentialStore(engine, Vault.of([], self.place / "dispatcher.db")).load(account)

    def engine(self) -> Any:
        return _Disposed(create_engine(f"sqlite:///{self.place / 'dispatcher.db'}"))


@dataclass
class _Disposed:
    engine: sa.Engine

    def __enter__(self) -> sa.Engine:
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accounts={"default": {"name": "www.loja.example"}}) as sandbox:
        yield sandbox


@pytest.fixture
def desk(
    migrated: Command,
    place: Path,
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    monkeypatch.setenv("DISPATCHER_RD_BASE_URL", sandbox.url)
    monkeypatch.setenv("DISPATCHER_RD_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("DISPATCHER_RD_CLIENT_SECRET", CLIENT_SECRET)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Desk(place, sandbox, port, capsys, monkeypatch)


def follow(url: str) -> requests.Response:
    return get(answer_to(url))


def test_the_browser_comes_back_and_working_tokens_are_stored_sealed(desk: Desk) -> None:
    pages: list[requests.Response] = []

    ran, person = desk.login("--yes", "--json", browse=lambda url: pages.append(follow(url)))

    assert ran.code == 0, ran.err
    document = ran.json
    assert (document["account"], document["name"], document["renewable"]) == ("default", "www.loja.example", True)
    tokens = desk.tokens()
    assert tokens is not None
    assert tokens.access is not None
    assert tokens.refresh is not None
    assert tokens.expires_at is not None
    assert tokens.expires_at.isoformat().replace("+00:00", "Z") == document["token_expires_at"]
    assert timedelta(hours=23) < tokens.expires_at - datetime.now(UTC) < timedelta(hours=25)  # noqa: TID251 - a day
    bearer = {"Authorization": f"Bearer {tokens.access.get_secret_value()}"}
    assert requests.get(f"{desk.sandbox.url}/marketing/account_info", headers=bearer, timeout=SOON).status_code == 200
    stored = b"".join(path.read_bytes() for path in desk.place.iterdir())
    assert tokens.access.get_secret_value().encode() not in stored
    assert tokens.refresh.get_secret_value().encode() not in stored

    asked = parse_qs(urlsplit(person.asked[0]).query)
    assert asked.keys() == {"client_id", "redirect_uri", "state"}
    assert (asked["client_id"], asked["redirect_uri"]) == ([CLIENT_ID], [desk.redirect_uri])
    assert pages[0].status_code == 200
    assert "You can close this window" in pages[0].text
    assert "server" not in pages[0].headers or "Python" not in pages[0].headers["Server"]
    with pytest.raises(requests.ConnectionError):
        get(desk.redirect_uri)


def test_nothing_secret_is_printed_or_logged(
    desk: Desk, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    back: list[str] = []

    def browse(url: str) -> None:
        back.append(answer_to(url))
        get(back[0])

    caplog.set_level(0)
    ran, _ = desk.login("--yes", browse=browse)

    tokens = desk.tokens()
    assert ran.code == 0
    assert tokens is not None
    assert tokens.access is not None
    assert tokens.refresh is not None
    (code,) = parse_qs(urlsplit(back[0]).query)["code"]
    own_requests = [record for record in caplog.records if not record.name.startswith("urllib3")]
    texts = ran.out + ran.err + capsys.readouterr().err + "".join(record.getMessage() for record in own_requests)
    for secret in (code, CLIENT_SECRET, tokens.access.get_secret_value(), tokens.refresh.get_secret_value()):
        assert secret not in texts


def test_a_pasted_address_and_a_pasted_code_do_as_well(desk: Desk) -> None:
    elsewhere = ("--redirect-uri", "https://shop.example/rd/callback", "--paste", "--yes")

    ran, person = desk.login(*elsewhere, browse=answer_to)
    assert ran.code == 0, ran.err
    assert person.pasted.startswith("https://shop.example/rd/callback?code=")
    first = desk.tokens()
    assert first is not None

    ran, _ = desk.login(*elsewhere, browse=lambda url: parse_qs(urlsplit(answer_to(url)).query)["code"][0])
    assert ran.code == 0, ran.err
    second = desk.tokens()
    assert second is not None
    assert (second.version, second.access != first.access) == (first.version + 1, True)


def test_a_suspended_account_is_probed_at_the_next_sweep(desk: Desk) -> None:
    later = datetime(2126, 1, 1, tzinfo=UTC)
    stop = sa.update(accounts).values(
        suspended_at=datetime(2026, 1, 1, tzinfo=UTC), suspend_reason="refused", suspend_detail="401", probe_at=later
    )
    with desk.engine() as engine, engine.begin() as connection:
        assert connection.execute(stop.where(accounts.c.account == "default")).rowcount == 1

    assert desk.login("--yes", browse=follow)[0].code == 0

    with desk.engine() as engine, engine.connect() as connection:
        row = connection.execute(sa.select(accounts)).mappings().one()
    assert row["suspended_at"] is not None, "only the probe opens it"
    assert row["probe_at"] < later


def test_another_account_than_the_default_can_be_logged_in(desk: Desk) -> None:
    for which in (("loja-2",), ("--account", "loja-3")):
        assert desk.login(*which, "--yes", browse=follow)[0].code == 0
    assert desk.tokens() is None
    assert desk.tokens("loja-2") is not None
    assert desk.tokens("loja-3") is not None


@pytest.mark.parametrize("paste", [False, True])
@pytest.mark.parametrize("foreign", ["state=somebody-elses", "nothing=else", "state="])
def test_an_answer_without_our_state_is_not_accepted(desk: Desk, paste: bool, foreign: str) -> None:
    pages: list[requests.Response] = []

    def browse(url: str) -> str:
        back = re.sub(r"state=[^&]+", foreign, answer_to(url))
        if not paste:
            pages.append(get(back))
        return back

    ran, _ = desk.login("--yes", *(["--paste"] if paste else []), browse=browse)

    assert ran.code == 1
    assert "`state`" in ran.err
    assert "run `dispatcher account login` again" in ran.err
    assert desk.tokens() is None
    assert desk.sandbox.count("/auth/token") == 0, "a foreign code is not even tried"
    assert paste or (pages[0].status_code, "Nothing was accepted" in pages[0].text) == (400, True)


def test_a_person_who_does_not_agree_ends_it(desk: Desk) -> None:
    ran, _ = desk.login("--yes", browse=lambda url: get(re.sub(r"code=[^&]+", "error=access_denied", answer_to(url))))

    assert (ran.code, "without a code, with access_denied" in ran.err) == (1, True)


def test_an_expired_code_says_to_start_again(desk: Desk) -> None:
    def browse(url: str) -> str:
        back = answer_to(url)
        desk.sandbox.advance(3_601)
        return back

    ran, _ = desk.login("--paste", "--yes", browse=browse)

    assert ran.code == 1
    assert "EXPIRED_CODE_GRANT" in ran.err
    assert "open the new address" in ran.err
    assert desk.tokens() is None


@pytest.mark.parametrize("shape", ["object", "array", "bare"])
def test_a_wrong_client_secret_names_the_settings_to_compare(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setenv("DISPATCHER_RD_CLIENT_SECRET", "canary-hunter2")
    desk.sandbox.switch(auth_errors=shape)

    ran, _ = desk.login("--yes", browse=follow)

    assert ran.code == 1
    assert "ACCESS_DENIED" in ran.err
    assert "DISPATCHER_RD_CLIENT_SECRET" in ran.err
    assert "hunter2" not in ran.err


class Denying:
    """A transport that answers as RD Station does to an address that is not registered (§5.2)."""

    def send(self, _request: Request, *, seconds: float | None = None) -> Reply:  # noqa: ARG002 - as its protocol has it
        error = {"error_type": "ACCESS_DENIED", "error_message": "redirect_uri não possui um valor válido."}
        return Reply(Stage.ANSWERED, status=401, body=json.dumps({"errors": error}).encode())

    def close(self) -> None: ...


def test_an_unregistered_redirect_address_is_told_as_such() -> None:
    app = App(SecretStr("id"), SecretStr("secret"))
    with pytest.raises(DispatcherError, match=r"refuses the redirect address .* --redirect-uri"):
        redeem(OAuthApi(Denying(), clock=SystemClock()), app, SecretStr("code"), clock=SystemClock())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(FaultKind.ACCEPT_THEN_DROP, path="/auth/token"), "the code may be spent"),
        (Fault(FaultKind.HTML, path="/auth/token"), "it answered 502"),
        (Fault(FaultKind.STATUS, status=401, path="/marketing/account_info"), "check of the new one failed"),
        (Fault(FaultKind.EMPTY, path="/marketing/account_info"), "it answered 503"),
        (Fault(FaultKind.NO_UUID, path="/marketing/account_info"), "DISPATCHER_RD_BASE_URL"),
    ],
)
def test_tokens_that_did_not_come_or_do_not_work_are_not_stored(desk: Desk, fault: Fault, words: str) -> None:
    desk.sandbox.break_with(fault)

    ran, _ = desk.login("--yes", browse=follow)

    assert (ran.code, words in ran.err) == (1, True), ran.err
    assert desk.tokens() is None


def test_a_browsers_other_requests_and_silent_connections_end_nothing(desk: Desk) -> None:
    statuses: list[int] = []

    def browse(url: str) -> None:
        with socket.create_connection(("127.0.0.1", desk.port)):  # opened ahead of need, as browsers do
            statuses.append(get(f"http://127.0.0.1:{desk.port}/favicon.ico").status_code)
            statuses.append(requests.post(desk.redirect_uri, timeout=SOON).status_code)
            statuses.append(follow(url).status_code)

    ran, _ = desk.login("--yes", browse=browse)

    assert (ran.code, statuses) == (0, [404, 501, 200]), ran.err


def test_a_port_in_use_is_told_before_anybody_is_asked(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", desk.port)):
        ran, person = desk.login("--yes", browse=follow)

    assert (ran.code, person.asked) == (1, [])
    assert f"127.0.0.1:{desk.port}" in ran.err
    assert "--paste" in ran.err


def test_a_browser_that_never_comes_ends_the_wait(desk: Desk) -> None:
    ran, person = desk.login("--yes", "--timeout", "1", browse=lambda _url: None)

    assert (ran.code, len(person.asked)) == (1, 1)
    assert "within 1 s" in ran.err
    assert "--timeout" in ran.err


@pytest.mark.parametrize("missing", [("CLIENT_ID",), ("CLIENT_SECRET",), ("CLIENT_ID", "CLIENT_SECRET")])
def test_an_app_that_is_not_configured_is_named_setting_by_setting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    for name in missing:
        monkeypatch.delenv(f"DISPATCHER_RD_{name}")

    ran, person = desk.login("--yes", browse=follow)

    named = [name for name in ("CLIENT_ID", "CLIENT_SECRET") if f"DISPATCHER_RD_{name}" in ran.err]
    assert (ran.code, person.asked, named) == (1, [], list(missing))


def test_without_a_key_nobody_is_sent_to_the_browser(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", "postgresql+psycopg://root@127.0.0.1:1/x")

    ran, person = desk.login("--yes", browse=follow)

    assert (ran.code, person.asked) == (1, [])
    assert "DISPATCHER_ENCRYPTION_KEYS" in ran.err


def test_without_a_database_nobody_is_sent_to_the_browser(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_DATABASE_URL", "sqlite:///elsewhere.db")

    ran, person = desk.login("--yes", browse=follow)

    assert (ran.code, person.asked) == (1, [])
    assert "dispatcher migrate" in ran.err


@pytest.mark.parametrize(
    "options",
    [
        (),  # nobody to ask, and no --yes
        ("--yes", "--redirect-uri", "https://shop.example/callback"),
        ("--yes", "--redirect-uri", "http://localhost/no-port"),
        ("--yes", "--redirect-uri", "http://192.0.2.1:8000/"),
        ("--yes", "--redirect-uri", "http://localhost:99999/"),
        ("--yes", "--redirect-uri", "ftp://localhost:1/", "--paste"),
        ("--yes", "--redirect-uri", "https://shop.example/#x", "--paste"),
        ("--yes", "--redirect-parameter", "callback"),
        ("--yes", "--account", "a b"),
    ],
)
def test_wrong_use_is_told_before_anybody_is_asked(desk: Desk, options: tuple[str, ...]) -> None:
    ran, person = desk.login(*options, browse=follow)

    assert (ran.code, person.asked) == (2, [])


def test_what_is_pasted_must_be_a_code_or_an_address_with_one(desk: Desk) -> None:
    for pasted, code in (("", 2), ("two words", 1), ("https://shop.example/callback", 1)):
        ran, _ = desk.login("--paste", "--yes", browse=lambda _url, pasted=pasted: pasted)  # type: ignore[misc]  # mypy: lambda default
        assert ran.code == code, pasted
    assert desk.sandbox.count("/auth/token") == 0


@pytest.mark.parametrize(("said", "kept"), [("n", False), ("y", True)])
def test_a_person_says_whether_it_is_the_right_account(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, said: str, kept: bool
) -> None:
    monkeypatch.setattr("dispatcher.admin.commands.login.may_ask", lambda: True)

    def browse(url: str) -> str:
        follow(url)
        return said

    ran, _ = desk.login(browse=browse)

    assert "www.loja.example" in ran.err
    assert (ran.code == 0, desk.tokens() is not None) == (kept, kept)


def test_the_other_spelling_of_the_parameter_can_be_sent(desk: Desk) -> None:
    ran, person = desk.login("--yes", "--redirect-parameter", "redirect_url", browse=follow)

    assert ran.code == 0, ran.err
    assert "redirect_url=" in person.asked[0]
    assert "redirect_uri=" not in person.asked[0]


def test_what_the_environment_held_before_a_login_does_not_undo_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_RD_REFRESH_TOKEN", "an-older-one")
    assert desk.login("--yes", browse=follow)[0].code == 0
    logged_in = desk.tokens()

    with desk.engine() as engine:  # as a worker's start does
        store = CredentialStore(engine, Vault.of([], desk.place / "dispatcher.db"))
        assert not store.seed("default", access=None, refresh=SecretStr("an-older-one"))
        assert store.seed("default", access=None, refresh=SecretStr("a-newer-one"))

    assert logged_in is not None
    assert logged_in.refresh is not None
    assert logged_in.refresh.get_secret_value() != "an-older-one"


def test_credentials_under_an_older_key_are_shown_and_sealed_anew(
    migrated: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, lost = (Fernet.generate_key().decode() for _ in range(3))
    monkeypatch.setenv("DISPATCHER_ENCRYPTION_KEYS", old)
    migrated("account", "add", "shop-2", stdin=b"refresh-hunter2\n")
    monkeypatch.setenv("DISPATCHER_ENCRYPTION_KEYS", f"{new},{old}")

    def seals() -> dict[str, str]:
        return {entry["account"]: entry["seal"] for entry in migrated("account", "list", "--json").json}

    assert seals() == {"default": None, "shop-2": "older"}
    assert "with an older key" in migrated("account", "list").out
    assert migrated("account", "reseal", "--json").json == [{"account": "shop-2", "changed": True, "seal": "current"}]
    assert migrated("account", "reseal").out == "shop-2 was sealed with the first key already\n"

    monkeypatch.setenv("DISPATCHER_ENCRYPTION_KEYS", new)
    assert seals()["shop-2"] == "current"
    monkeypatch.setenv("DISPATCHER_ENCRYPTION_KEYS", lost)
    assert "no key opens them" in migrated("account", "list").out
    ran = migrated("account", "reseal")
    assert (ran.code, "shop-2 was left as it is" in ran.out, "ENCRYPTION_KEYS" in ran.err) == (1, True, True)
