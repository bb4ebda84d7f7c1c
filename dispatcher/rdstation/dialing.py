"""Opening a connection to the host within the deadline, and whom to trust there; the same for every transport."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from dispatcher.rdstation.flight import Flight
from dispatcher.rdstation.resolver import Resolver

NO_DELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """TLS that verifies the peer and its name, by this file of certificates or by those that `requests` brings."""
    return ssl.create_default_context(cafile=ca_file or DEFAULT_CA_BUNDLE_PATH)


def dial(
    resolver: Resolver, flight: Flight, options: Iterable[tuple[int, int, int | bytes]] = NO_DELAY
) -> socket.socket:
    """Look the name up, and connect to the first of its addresses that takes us.

    Raises:
        socket.gaierror: The name was not found in time.
        OSError: What the last address said, a `TimeoutError` if it said nothing.
        DeadlinePassed: No time is left.
    """
    trouble: OSError = OSError("the name has no addresses")
    for family, kind, proto, _, address in resolver.addresses(flight.within(flight.timeouts.connect)):
        sock = socket.socket(family, kind, proto)
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(flight.within(flight.timeouts.connect))
            sock.connect(address)
            sock.settimeout(flight.within(flight.timeouts.connect))
        except OSError as error:
            sock.close()
            trouble = error
        except BaseException:
            sock.close()
            raise
        else:
            flight.tcp = True
            return sock
    raise trouble
