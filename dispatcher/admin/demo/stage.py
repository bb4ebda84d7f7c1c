"""What the demo plays on: a fresh directory with an embedded default of its own, the sandbox, and the worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

import dispatcher
from dispatcher.admin.demo.interruption import Interruption, interruptible
from dispatcher.admin.demo.worker import Worker, running
from dispatcher.errors import DispatcherError
from dispatcher.outbox import schema
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.explaining import explained
from dispatcher.sandbox import Sandbox
from dispatcher.settings import PREFIX, Settings, load_settings

_COMMAND_SECONDS = 60.0
_RUN = "from dispatcher.admin.cli import main; main()"
_STEERING = (PREFIX, "CELERY_")
"""Variables of the user's own set-up; Celery reads its broker from one of them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything real that the demo runs on.

    Attributes:
        directory: Holds the database, the settings (`.env`), the corrections and the worker's log. Kept.
        sandbox: Plays RD Station.
        engine: To look at the outbox.
        shop_engine: The shop's own, made as any shop makes it.
        worker: Delivers.
        interruption: Asked wherever the demo waits.
    """

    directory: Path
    sandbox: Sandbox
    engine: sa.Engine
    shop_engine: sa.Engine
    worker: Worker
    interruption: Interruption

    @property
    def port(self) -> str:
        """The port that the settings name for RD Station."""
        return self.sandbox.url.rpartition(":")[2]

    def run(self, *arguments: str) -> None:
        """Run a `dispatcher` command in the directory; it prints to our own standard output and error.

        Raises:
            DispatcherError: It failed.
            KeyboardInterrupt: The user wants no more.
        """
        self.interruption.check()
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            [sys.executable, "-c", _RUN, *arguments],
            cwd=self.directory,
            env=_neutral_environment(),
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise DispatcherError(f"`dispatcher {' '.join(arguments)}` exited {done.returncode}; see what it printed")


def new_directory() -> Path:
    """A directory of this run alone, so that no database of the user's is touched."""
    return Path(tempfile.mkdtemp(prefix="dispatcher-demo-"))


@contextmanager
def set_up(directory: Path) -> Iterator[Stage]:
    """Migrate, start the sandbox and the worker, and point this process' bells to them; all of it ends on the way out.

    SIGTERM and SIGHUP are taken as Ctrl-C, so that the worker is stopped then, too.
    """
    with ExitStack() as stack:
        interruption = stack.enter_context(interruptible())
        sandbox = stack.enter_context(Sandbox())
        settings = _write_settings(directory, sandbox)
        dispatcher.connect(settings)
        url = settings.database_url.get_secret_value()
        engine, shop_engine = create_engine(url), sa.create_engine(url)
        dispatcher.prepare_sqlite(shop_engine)
        for opened in (engine, shop_engine):
            stack.callback(opened.dispose)
        stack.enter_context(explained(engine))
        schema.upgrade(engine)
        worker = stack.enter_context(running(directory, _neutral_environment()))
        yield Stage(directory, sandbox, engine, shop_engine, worker, interruption)


def command_directory() -> Path | None:
    """Where the command `dispatcher` is, if the shell would not find it by itself."""
    own = Path(sys.executable).with_name("dispatcher")
    found = shutil.which("dispatcher")
    return None if found is not None and Path(found).samefile(own) else own.parent


def _write_settings(directory: Path, sandbox: Sandbox) -> Settings:
    """The embedded default, with the sandbox in the place of RD Station and a backoff that fits a demo."""
    values = {**sandbox.environment, f"{PREFIX}BACKOFF_BASE_SECONDS": "1"}
    file = directory / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
    # Processes in the directory use the default, dispatcher.db; this one is elsewhere and must name it in full.
    return load_settings({f"{PREFIX}DATABASE_URL": f"sqlite:///{directory / 'dispatcher.db'}"}, file)


def users_own_settings() -> list[str]:
    """Variables of the environment that would steer a command away from the demo's directory."""
    names = os.environ  # noqa: TID251 - a composition root; see below
    return sorted(name for name in names if name.upper().startswith(_STEERING))


def _neutral_environment() -> dict[str, str]:
    inherited = os.environ  # noqa: TID251 - a composition root: the demo's children must not obey the user's settings
    return {name: value for name, value in inherited.items() if not name.upper().startswith(_STEERING)}
