"""`dispatcher demo`, run as a newcomer runs it. Real: the command, SQLite, the embedded broker, the worker, HTTP.
Doubled: RD Station, by the demo's own sandbox; in one test the worker, by one that cannot start.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatcher.clock import SystemClock
from dispatcher.outbox import queries
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.queries import EventView
from dispatcher.outbox.transaction import reading

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COMMAND = Path(sys.executable).with_name("dispatcher")
PATIENCE_SECONDS = 240.0
HOSTILE = {
    "DISPATCHER_DATABASE_URL": "postgresql+psycopg://nobody:secret@127.0.0.1:1/nothing",
    "DISPATCHER_BROKER_URL": "redis://127.0.0.1:1/0",
    "DISPATCHER_RD_BASE_URL": "http://127.0.0.1:1",
    "DISPATCHER_LEASE_SECONDS": "refused",
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
}

LACKING = (
    "$.attached.checkout_url: is required by ECOMMERCE_CART_ABANDONED: set the account's checkout_url_template (such "
    "as https://loja.example/checkout/{cart_id}), pass CartAbandoned(checkout_url=...)"
)
SETTING = "$ dispatcher account set default --checkout-url-template 'https://loja.example/checkout/{cart_id}'"
REPLAY = "$ dispatcher dead replay CART_ABANDONED:504 CART_ABANDONED:505"


@dataclass(frozen=True)
class Told:
    """One run that has ended."""

    code: int
    out: str
    err: str
    home: Path

    @property
    def directory(self) -> Path:
        """Where the demo played; the only thing it left in its temporary directory."""
        (directory,) = (self.home / "tmp").iterdir()
        return directory

    def commands(self, heading: str) -> list[str]:
        """The indented lines below a heading."""
        _, _, after = self.out.partition(f"\n{heading}")
        block = after.partition("\n")[2].partition("\n\n")[0]
        return [line.strip() for line in block.splitlines()]


def start(home: Path, **extra: str) -> subprocess.Popen[str]:
    """The demo in a directory of its own, with nothing but `extra` in the way of settings."""
    (home / "tmp").mkdir(parents=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home / "tmp")}  # noqa: TID251 - a child's
    return subprocess.Popen(
        [COMMAND, "demo"],
        cwd=home,
        env=environment | extra,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def ended(process: subprocess.Popen[str], home: Path, already: str = "") -> Told:
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # stops its worker, too
        out, err = process.communicate(timeout=60)
    return Told(process.returncode, already + out, err, home)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """Two runs at the same time: one with nothing set, one where everything that could steer it points elsewhere."""
    homes = [tmp_path_factory.mktemp("clean"), tmp_path_factory.mktemp("hostile")]
    (homes[1] / ".env").write_text("DISPATCHER_RD_BASE_URL=http://127.0.0.1:1\nDISPATCHER_LEASE_SECONDS=1\n")
    processes = [start(homes[0]), start(homes[1], **HOSTILE)]
    return [ended(process, home) for process, home in zip(processes, homes, strict=True)]


def worker_of(out: str) -> int:
    found = re.search(r"The worker is up \(process (\d+)\)", out)
    assert found, out
    return int(found[1])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def stored(directory: Path, key: str) -> EventView:
    engine = create_engine(f"sqlite:///{directory / 'dispatcher.db'}")
    try:
        rows = reading(engine, lambda connection: queries.resolve(connection, "default", [key]))
        return reading(engine, lambda connection: queries.read_events(connection, list(rows.values())))[0]
    finally:
        engine.dispose()


def test_the_demo_succeeds_whatever_the_users_own_settings_are(runs: list[Told]) -> None:
    assert [(run.code, run.err) for run in runs] == [(0, ""), (0, "")], runs


def test_every_step_is_told_with_its_proof(runs: list[Told]) -> None:
    for run in runs:
        steps = re.findall(r"(?m)^(\d)\. (.+)$", run.out)
        assert [number for number, _ in steps] == list("12345678")
        assert all(re.search(r"(?m)^   proof: ", part) for part in re.split(r"(?m)^\d\. ", run.out)[1:])
        for line in (
            "the sandbox accepted 5, with the same event_uuid each",
            "the outbox recorded attempt 1 as unavailable (503) and attempt 2 as delivered (200)",
            "both are delivered and no dead letter is open; the sandbox accepted one copy of each",
            "the outbox has 12 events, delivered; the sandbox accepted 12",
        ):
            assert line in run.out


def test_the_page_is_readable_on_every_terminal(runs: list[Told]) -> None:
    assert runs[0].out.isascii()


def test_the_database_says_the_same_as_the_page(runs: list[Told]) -> None:
    for run in runs:
        assert [attempt.status for attempt in stored(run.directory, "ORDER_PLACED:1005").attempts] == [503, 200]
        corrected = stored(run.directory, "ORDER_PLACED:1007")
        assert (corrected.state, corrected.dead_letters[0].resolution) == ("delivered", "replayed")


def test_retired_types_arrive_as_their_successors_once_the_dead_letter_was_heeded(runs: list[Told]) -> None:
    """Issue 3, line 3: the letter says what lacks and how to supply it; `account set` and `dead replay` deliver."""
    for run in runs:
        _, _, act = run.out.partition("\n7. RD Station retires the types of these events")
        lacking, setting, replay = act.index(LACKING), act.index(SETTING), act.index(REPLAY)
        assert lacking < setting < replay
        for key in ("ORDER_PLACED:1009", "CART_ABANDONED:504"):
            event = stored(run.directory, key)
            verdicts = [attempt.verdict for attempt in event.attempts]
            assert (event.state, event.failures, verdicts[-1]) == ("delivered", 0, "delivered")
            assert "untranslatable" in verdicts or event.event_type == "ORDER_PLACED"


def test_the_demo_leaves_only_its_directory_and_no_process(runs: list[Told]) -> None:
    assert runs[0].directory != runs[1].directory
    for run in runs:
        assert {path.name for path in run.home.iterdir()} - {".env"} == {"tmp"}
        assert not is_running(worker_of(run.out))


def test_the_commands_to_try_next_work_as_printed_also_beside_settings_of_ones_own(
    runs: list[Told], tmp_path: Path
) -> None:
    run = runs[1]
    first, second = run.commands("Try next:"), run.commands("Deliver the two events just enqueued")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | HOSTILE  # noqa: TID251 - what the demo saw

    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(first)],
        check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in first if line.startswith("dispatcher")] == [
        "status", "list", "show", "dead", "enqueue",
    ]  # fmt: skip
    assert done.stdout.endswith("enqueued 2, already known 0, known with other content 0, refused 0\n")
    deliver(run.directory, [line for line in second if line.startswith("dispatcher")])


def deliver(directory: Path, lines: list[str]) -> None:
    """Run the sandbox and the worker as the page says, until what was enqueued last is delivered."""
    with running(directory, lines[0].removesuffix(" &")), running(directory, lines[1]):
        for key in ("ECOMMERCE_ORDER_PLACED:1008", "ECOMMERCE_CART_ABANDONED:503"):
            wait_until(lambda key=key: stored(directory, key).state == "delivered")  # type: ignore[misc]  # lambda default


@contextmanager
def running(directory: Path, line: str) -> Iterator[None]:
    process = subprocess.Popen(
        [COMMAND, *shlex.split(line)[1:]],
        cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def wait_until(reached: Callable[[], bool]) -> None:
    clock, never = SystemClock(), threading.Event()
    until = clock.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert clock.monotonic() < until
        clock.wait(never, 0.1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_its_worker(tmp_path: Path, sent: signal.Signals) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    out = ""
    while "The worker is up" not in out:
        line = process.stdout.readline()
        assert line, process.communicate()
        out += line
    process.send_signal(sent)

    told = ended(process, tmp_path, already=out)

    left_behind = is_running(worker_of(told.out))
    if left_behind:
        os.kill(worker_of(told.out), signal.SIGTERM)  # a failing test must not leave it, either
    assert not left_behind
    assert told.code not in (0, None)
    assert "Traceback" not in told.err


def test_a_demo_whose_worker_dies_fails_and_shows_the_log(tmp_path: Path) -> None:
    (tmp_path / "celery.py").write_text("raise SystemExit('this worker cannot start')\n")

    told = ended(start(tmp_path / "home", PYTHONPATH=str(tmp_path)), tmp_path / "home")

    assert told.code == 1
    assert "this worker cannot start" in told.err
    assert "dispatcher: the worker ended by itself while the demo waited for the worker to start" in told.err
