"""`metrics` and `health`: for monitoring systems, and for the probes of containers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.admin import health as judging
from dispatcher.admin.health import Health
from dispatcher.admin.monitoring.gauges import SILENT_AFTER_SECONDS
from dispatcher.admin.monitoring.reader import Reader
from dispatcher.admin.monitoring.server import Answer, MonitoringServer
from dispatcher.admin.options import Json
from dispatcher.admin.root import Root, opened
from dispatcher.admin.terminal import note, print_json
from dispatcher.errors import ConfigurationError, DispatcherError
from dispatcher.outbox.explaining import explained

if TYPE_CHECKING:  # the extra `metrics` need not be installed
    from dispatcher.admin.monitoring.gauges import Reading
    from dispatcher.meters import Counts

PORT = 9464
"""Where Prometheus is used to find exporters of this kind."""

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def metrics(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0 picks a free port.")] = PORT,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    accounts: Annotated[
        int, typer.Option("--accounts", min=0, help="Accounts with metrics of their own; the others are summed up.")
    ] = 50,
) -> None:
    """Serve the metrics of the whole fleet for Prometheus, and health endpoints beside them.

    One of these is enough, however many workers run: `/metrics` reads the outbox, where the workers put their counts.
    `/ready` says whether the database answers with the tables of this release, `/live` whether any worker makes
    progress; both answer 200 or 503 with one line. It needs the extra `metrics`, and ends with Ctrl-C.
    """
    try:
        from dispatcher.admin.monitoring.collector import OutboxCollector, exposition  # the extra may be missing
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"{missing.name!r} is not installed: pip install 'rdstation-dispatcher[metrics]'"
        ) from None
    with opened() as root:
        reader = Reader(root.engine, root.limits, root.clock)
        collector = OutboxCollector(
            lambda: _read(root, reader), lambda: judging.standing(root.engine), at_most=accounts
        )
        paths: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: Answer(HTTPStatus.OK, exposition(collector), _EXPOSITION),
            "/ready": lambda: _answer(judging.ready(root.engine)),
            "/live": lambda: _answer(judging.live(root.engine, None, within=SILENT_AFTER_SECONDS)),
        }
        try:
            server = MonitoringServer((host, port), paths)
        except OSError as error:
            raise DispatcherError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from None
        with server:
            typer.echo(f"metrics at {server.url}/metrics, health at {server.url}/ready and {server.url}/live")
            server.serve_forever()


def health(
    *,
    live: Annotated[bool, typer.Option("--live", help="Ask whether a worker of this host makes progress.")] = False,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether the database answers with the tables of this release.")
    ] = False,
    fleet: Annotated[bool, typer.Option("--fleet", help="With --live: a worker of any host will do.")] = False,
    within: Annotated[
        float, typer.Option("--within", min=1, help="With --live: seconds in which progress counts.")
    ] = SILENT_AFTER_SECONDS,
    as_json: Json = False,
) -> None:
    """Answer a probe: exit 0 if all is well, 1 if not, and one line that says why.

    `--ready` is for starting: is the database there, and migrated? `--live` is for restarting: does the worker of this
    host make progress, or is it only alive? A database that is away does not make a worker dead. Without either, both
    are asked.
    """
    with opened() as root:
        answers: dict[str, Health] = {}
        if ready or not live:
            answers["ready"] = judging.ready(root.engine)
        if live or not ready:
            host = None if fleet else socket.gethostname()[:64]
            answers["live"] = judging.live(root.engine, host, within=within)
    if as_json:
        print_json({name: answer._asdict() for name, answer in answers.items()})
    else:
        for name, answer in answers.items():
            (typer.echo if answer.well else note)(f"{name}: {'yes' if answer.well else 'no'}: {answer.why}")
    if not all(answer.well for answer in answers.values()):
        raise typer.Exit(1)


def _read(root: Root, reader: Reader) -> tuple[Reading, Counts] | None:
    try:
        with explained(root.engine):
            return reader.read()
    except DispatcherError:
        return None


def _answer(health: Health) -> Answer:
    return Answer(HTTPStatus.OK if health.well else HTTPStatus.SERVICE_UNAVAILABLE, f"{health.why}\n".encode())
