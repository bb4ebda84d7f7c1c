"""Name lookup that ends in time: nothing can interrupt `getaddrinfo`, so a thread runs it and can be left behind."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address

from dispatcher.clock import Clock

Address = tuple[int, int, int, str, tuple[object, ...]]


class _Lookup:
    """One running lookup; `done` is set when it has ended either way."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.addresses: list[Address] = []
        self.error: OSError | UnicodeError | None = None


class Resolver:
    """Looks up one host. Threads that ask while a lookup runs share it, so a dead resolver holds one thread at most."""

    def __init__(self, host: str, port: int, *, clock: Clock) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._lock = threading.Lock()
        self._running: _Lookup | None = None

    def addresses(self, seconds: float) -> list[Address]:
        """The addresses of the host, freshly looked up, within `seconds`.

        Raises:
            socket.gaierror: The lookup failed or did not end in time.
        """
        try:
            ip_address(self._host)
        except ValueError:
            return self._look_up(seconds)
        return _getaddrinfo(self._host, self._port)

    def _look_up(self, seconds: float) -> list[Address]:
        with self._lock:
            lookup = self._running
            if lookup is None:
                lookup = self._running = _Lookup()
                threading.Thread(target=self._run, args=(lookup,), name="rdstation-lookup", daemon=True).start()
        if not self._clock.wait(lookup.done, seconds):
            raise socket.gaierror(socket.EAI_AGAIN, "the name lookup did not end in time")
        if isinstance(lookup.error, OSError):
            raise lookup.error
        if lookup.error is not None:
            raise socket.gaierror(socket.EAI_NONAME, "the host name cannot be encoded") from lookup.error
        return lookup.addresses

    def _run(self, lookup: _Lookup) -> None:
        try:
            lookup.addresses = _getaddrinfo(self._host, self._port)
        except (OSError, UnicodeError) as error:
            lookup.error = error
        finally:
            with self._lock:
                self._running = None
            lookup.done.set()


def _getaddrinfo(host: str, port: int) -> list[Address]:
    return [
        (family, kind, proto, name, tuple(address))
        for family, kind, proto, name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ]
