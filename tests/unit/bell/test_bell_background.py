"""The thread behind a bell. Real: threads, forks and the exits of child processes. Doubled: the broker."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from queue import SimpleQueue

import pytest

from dispatcher.bell import BackgroundBell, Stats, background

PATIENCE = 30.0


class Line:
    """A connection whose messages a test reads; `gate` holds them back while it is closed."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[str] = SimpleQueue()
        self.reached = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = threading.Event()
        self.threads: set[str] = set()
        self.fatal: BaseException | None = None

    def publish(self, account: str) -> None:
        self.threads.add(threading.current_thread().name)
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        fatal, self.fatal = self.fatal, None
        if fatal is not None:
            raise fatal
        self.heard.put(account)

    def close(self) -> None:
        self.closed.set()

    def next(self) -> str:
        return self.heard.get(timeout=PATIENCE)


class ImpatientClock:
    """The machine's clock, but a minute of silence passes at once when a test says so."""

    def __init__(self) -> None:
        self.silence_over = threading.Event()
        self.waits: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        if seconds >= 60 and self.silence_over.wait(PATIENCE):
            return event.is_set()
        return event.wait(PATIENCE)


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.gate.set()


@pytest.fixture
def bell(line: Line) -> BackgroundBell:
    return BackgroundBell(lambda: line)


def test_no_thread_runs_before_the_first_bell(bell: BackgroundBell) -> None:
    assert bell._thread is None


def test_a_bell_leaves_through_a_daemon_thread(bell: BackgroundBell, line: Line) -> None:
    bell.ring(["shop-17"])
    assert line.next() == "shop-17"
    assert line.threads == {"dispatcher-bell"}
    assert bell._thread is not None
    assert bell._thread.daemon


def test_ringing_goes_on_while_the_broker_hangs(bell: BackgroundBell, line: Line) -> None:
    line.gate.clear()
    bell.ring(["hangs"])
    assert line.reached.wait(PATIENCE)
    for number in range(2000):
        bell.ring([f"shop-{number}"])  # would never come back if a ring waited for the broker
    assert bell.stats == Stats(rung=2001, dropped=1000)


def test_making_a_connection_also_happens_in_the_thread(line: Line) -> None:
    makers: SimpleQueue[str] = SimpleQueue()

    def make() -> Line:
        makers.put(threading.current_thread().name)
        return line

    BackgroundBell(make).ring(["a"])
    assert makers.get(timeout=PATIENCE) == "dispatcher-bell"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced_at_the_next_bell(bell: BackgroundBell, line: Line) -> None:
    line.fatal = KeyboardInterrupt()
    bell.ring(["a"])
    assert bell._thread is not None
    bell._thread.join(PATIENCE)
    bell.ring(["b"])
    assert line.next() == "b"


def test_a_process_without_threads_left_loses_the_bell_and_nothing_else(
    bell: BackgroundBell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    bell.ring(["a"])
    assert bell.stats == Stats(rung=1)


def test_the_thread_ends_and_hangs_up_after_a_minute_of_silence_and_a_later_bell_starts_another(line: Line) -> None:
    clock = ImpatientClock()
    bell = BackgroundBell(lambda: line, clock=clock)
    bell.ring(["a"])
    assert line.next() == "a"
    thread = bell._thread
    assert thread is not None
    clock.silence_over.set()
    thread.join(PATIENCE)
    assert line.closed.is_set()
    assert bell._thread is None
    bell.ring(["b"])
    clock.silence_over.clear()
    assert line.next() == "b"


def test_a_flush_waits_until_what_was_rung_before_has_left(bell: BackgroundBell, line: Line) -> None:
    for _ in range(20):
        bell.ring(["a"])
        assert bell.flush(PATIENCE)
        assert line.heard.get_nowait() == "a"


def test_a_flush_of_a_bell_that_never_rang_needs_no_thread(bell: BackgroundBell) -> None:
    assert bell.flush(PATIENCE)
    assert bell._thread is None


def test_a_flush_gives_up_when_its_time_is_over(bell: BackgroundBell, line: Line) -> None:
    line.gate.clear()
    bell.ring(["a"])
    assert not bell.flush(0.0)


def test_the_last_words_of_a_process_take_half_a_second_at_most(line: Line) -> None:
    asked: list[float] = []

    class Counting(ImpatientClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:
            if threading.current_thread() is threading.main_thread():
                asked.append(seconds)
                return False
            return super().wait(event, seconds)

    bell = BackgroundBell(lambda: line, clock=Counting())
    line.gate.clear()
    bell.ring(["a"])
    background._last_words()
    assert len(asked) == 1
    assert 0 < asked[0] <= 0.5


Script = Callable[[str], str]


@pytest.fixture
def script() -> Script:
    """Runs a script in a process of its own, and answers what it printed."""

    def run(body: str) -> str:
        head = """
            import os, sys, threading
            from dispatcher.bell import BackgroundBell

            class Line:
                def publish(self, account):
                    os.write(1, f"{account} from {role}\\n".encode())
                def close(self):
                    pass

            role = "parent"
        """
        text = textwrap.dedent(head) + textwrap.dedent(body)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_the_last_bell_of_a_short_script_leaves(script: Script) -> None:
    printed = script("""
        import atexit
        class Slow(Line):
            def publish(self, account):
                ending.wait()
                sum(range(300_000))  # an exit that does not wait is over by now
                super().publish(account)
        ending = threading.Event()
        atexit.register(ending.set)  # runs before ours, which was registered earlier
        BackgroundBell(Slow).ring(["a"])
    """)
    assert printed == "a from parent\n"


def test_a_broker_that_never_answers_does_not_keep_a_script_from_ending(script: Script) -> None:
    printed = script("""
        class Hanging(Line):
            def publish(self, account):
                threading.Event().wait()
        bell = BackgroundBell(Hanging)
        bell.ring(["a"])
        print("done")
    """)
    assert printed == "done\n"


def test_a_forked_child_rings_with_a_thread_of_its_own_and_without_the_parents_bells(script: Script) -> None:
    printed = script("""
        class Held(Line):
            def publish(self, account):
                if role == "parent":
                    reached.set(), gate.wait()
                super().publish(account)
        reached, gate = threading.Event(), threading.Event()
        bell = BackgroundBell(Held)
        bell.ring(["hanging"])
        reached.wait()
        bell.ring(["waiting"])
        bell._threading.acquire()  # the worst moment to fork: another thread holds a lock
        bell._courier._lock.acquire()
        child = os.fork()
        if child == 0:
            role = "child"
            bell.ring(["fresh"])
            os._exit(0 if bell.flush(30) and bell.stats == (1, 1, 0, 0) else 1)
        bell._courier._lock.release()
        bell._threading.release()
        assert os.waitpid(child, 0)[1] == 0
        gate.set()
        assert bell.flush(30)
    """)
    assert printed.splitlines() == ["fresh from child", "hanging from parent", "waiting from parent"]
