"""Which transport sends: `requests`, or the lean one of an extra."""

from __future__ import annotations

import importlib.util

from dispatcher.clock import Clock
from dispatcher.errors import ConfigurationError
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import KeptTransport, Timeouts


def make_transport(name: str, base_url: BaseUrl, *, timeouts: Timeouts, clock: Clock) -> KeptTransport:
    """The transport of this name (`HTTP_TRANSPORT`). Opens no connection.

    Raises:
        ConfigurationError: The lean one is asked for, and its extra is not installed.
    """
    if name != "lean":
        return RequestsTransport(base_url, timeouts=timeouts, clock=clock)
    if importlib.util.find_spec("httptools") is None:
        raise ConfigurationError(
            "DISPATCHER_HTTP_TRANSPORT=lean needs the package httptools: pip install 'rdstation-dispatcher[lean]', "
            "or set it back to requests"
        )
    from dispatcher.rdstation.lean_transport import LeanTransport  # the extra is optional

    return LeanTransport(base_url, timeouts=timeouts, clock=clock)
