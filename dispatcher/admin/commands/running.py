"""`worker` and `sandbox`: the processes that keep running."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.errors import ConfigurationError
from dispatcher.settings import load_settings

if TYPE_CHECKING:  # the sandbox is loaded by its own command only
    from dispatcher.sandbox import Fault, FaultKind, Sandbox

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


Switches = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A switch of the sandbox, such as account_per_minute=0.", show_default=False
    ),
]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="KIND=RATE",
        help="A fault and how often it strikes, such as status=0.05 for 503 on one request in twenty.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed plays the same faults for the same events.")]


def sandbox(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0 picks a free port.")] = 8600,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    switches: Switches = None,
    faults: Faults = None,
    seed: Seed = 0,
) -> None:
    """Play RD Station on this machine: tokens, events, limits, errors and faults.

    Its page, at the address it prints, shows what arrived. It says which settings point a worker to it, and at the end
    how many events arrived and whether a limit was exceeded. Ends with Ctrl-C. docs/sandbox.md lists the switches and
    the faults.
    """
    from dispatcher import sandbox as played  # a web server, which no other command needs

    rates: dict[FaultKind | Fault, float] = {}
    try:
        for name, value in _pairs(faults, "--fault"):
            rates[played.FaultKind(name)] = float(value)
        schedule = played.faults_schedule(seed, rates) if rates else None
    except (ConfigurationError, ValueError):
        known = ", ".join(played.FaultKind)
        problem = f"write KIND=RATE with rates from 0 to 1 that sum up to 1 at most; the kinds are {known}"
        raise typer.BadParameter(problem, param_hint="--fault") from None
    try:
        options = played.Options().switched(dict(_pairs(switches, "--set")))
    except ConfigurationError as refused:
        raise typer.BadParameter(str(refused), param_hint="--set") from None

    def announce(sandbox: Sandbox) -> None:
        _announce(sandbox)
        if rates:
            told = ", ".join(f"{kind} {rate:.1%}" for kind, rate in rates.items())
            typer.echo(f"Faults strike at random, repeatably (seed {seed}): {told}")
        sys.stdout.flush()

    played.serve(
        host, port, options, schedule=schedule, announce=announce, report=lambda sandbox: typer.echo(sandbox.summary())
    )


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = [one.partition("=") for one in given or ()]
    if odd := [name for name, equals, _ in pairs if not equals]:
        raise typer.BadParameter(f"write NAME=VALUE, not {odd[0]!r}", param_hint=option)
    return [(name, value) for name, _, value in pairs]


def _announce(sandbox: Sandbox) -> None:
    typer.echo(f"The sandbox listens at {sandbox.url} (what arrived: open it in a browser). Point a worker to it with:")
    for name, value in sandbox.environment.items():
        typer.echo(f"  export {name}={value}")
