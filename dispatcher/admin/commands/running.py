"""`worker` and `sandbox`: the processes that keep running."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.errors import ConfigurationError
from dispatcher.settings import load_settings

if TYPE_CHECKING:  # the sandbox is loaded by its own command only
    from dispatcher.sandbox import Sandbox

PASSED_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


def worker(context: typer.Context) -> None:
    """Deliver events: run a Celery worker with a sweeper beside it.

    The same as `celery -A workers worker`; further options go to Celery, such as `--concurrency 4` or
    `--pool threads`. SIGTERM finishes or gives back what is in flight. Run as many as you like, on one machine or
    several.
    """
    load_settings()  # a mistake is told in one line here, and in a page of traceback by Celery
    arguments = [sys.executable, "-m", "celery", "-A", "workers", "worker", *context.args]
    if not any(argument.startswith(("-l", "--loglevel")) for argument in context.args):
        arguments.append("--loglevel=INFO")
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell; signals reach Celery itself


def sandbox(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0 picks a free port.")] = 8600,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    switches: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A switch of the sandbox, such as account_per_minute=0.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Play RD Station on this machine: tokens, events, limits, errors and faults.

    Its page, at the address it prints, shows what arrived. It says which settings point a worker to it. Ends with
    Ctrl-C.
    """
    from dispatcher.sandbox import Options, serve  # a web server that no other command needs

    pairs = [switch.partition("=") for switch in switches or ()]
    if odd := [name for name, equals, _ in pairs if not equals]:
        raise typer.BadParameter(f"write NAME=VALUE, not {odd[0]!r}", param_hint="--set")
    try:
        options = Options().switched({name: value for name, _, value in pairs})
    except ConfigurationError as refused:
        raise typer.BadParameter(str(refused), param_hint="--set") from None
    serve(host, port, options, announce=_announce)


def _announce(sandbox: Sandbox) -> None:
    from dispatcher.sandbox import ACCESS_TOKEN, CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN  # see above

    typer.echo(f"The sandbox listens at {sandbox.url} (what arrived: open it in a browser). Point a worker to it with:")
    for name, value in {
        "RD_BASE_URL": sandbox.url,
        "RD_CLIENT_ID": CLIENT_ID,
        "RD_CLIENT_SECRET": CLIENT_SECRET,
        "RD_REFRESH_TOKEN": REFRESH_TOKEN,
        "RD_ACCESS_TOKEN": ACCESS_TOKEN,
    }.items():
        typer.echo(f"  export DISPATCHER_{name}={value}")
    sys.stdout.flush()
