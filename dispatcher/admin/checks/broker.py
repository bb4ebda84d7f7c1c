"""Whether bells arrive. Nothing is lost without a broker: sweeps find the work, a few seconds later."""

from __future__ import annotations

from collections.abc import Iterator

from dispatcher import embedded
from dispatcher.admin.checks.finding import Finding, error, ok, warning
from dispatcher.settings import Settings

_SECONDS = 2


def examine(settings: Settings) -> Iterator[Finding]:
    """Connect to the broker, with a short timeout."""
    url = settings.broker_url.get_secret_value() if settings.broker_url else None
    if url is None and settings.sqlite_path is None:
        yield error(
            "broker.missing",
            "DISPATCHER_BROKER_URL is not set, and the embedded broker stands beside a SQLite file only",
            "set it to the broker of your workers, such as redis://host:6379/0",
        )
        return
    if url is None and settings.sqlite_path is not None:
        yield ok("broker.embedded", "the embedded broker is used, which is for one machine; its first worker serves it")
        url = embedded.address(settings.sqlite_path)
        if url is None:
            yield warning("broker.silent", "no worker has served it yet", "start one with `dispatcher worker`")
            return
    if url is not None:
        yield _reached(url)


def _reached(url: str) -> Finding:
    failure = _connect(url)
    if failure is None:
        return ok("broker.reachable", "the broker answers")
    return warning(
        "broker.unreachable",
        f"the broker does not answer within {_SECONDS} s ({failure}); events are still delivered, by sweeps",
        "start the broker (the embedded one runs inside a worker), or correct DISPATCHER_BROKER_URL",
    )


def _connect(url: str) -> str | None:
    """Why the broker cannot be reached; the class only, for the text may hold the URL's password."""
    from kombu import Connection  # only this check needs it

    limits = {"socket_connect_timeout": _SECONDS, "socket_timeout": _SECONDS, "max_retries": 0}
    try:
        connection = Connection(url, connect_timeout=_SECONDS)
        if connection.transport.driver_type != "amqp":
            connection.transport_options = limits
        with connection:
            connection.ensure_connection(max_retries=1, timeout=_SECONDS)
    except Exception as error:  # noqa: BLE001 - whatever a transport raises means the same here
        return type(error).__name__
    return None
