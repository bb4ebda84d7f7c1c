"""The bare client: a loop that sends what it is given, with no queue behind it. The ceiling for whoever uses it.

`python -m benchmarks.contenders.bare CLIENT URL FIRST END THREADS` is one of its two processes.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.lab import Lab
from benchmarks.sample import HEADERS, PATH, body

Send = Callable[[bytes], str]
PROCESSES = 2


@dataclass(frozen=True)
class Bare:
    """Two processes with so many threads each, one connection for each thread.

    Attributes:
        client: A name of `CLIENTS`.
        threads: For each process, by the delay in milliseconds.
        label: Tells it from another with the same client.
    """

    client: str
    threads: dict[int, int]
    label: str = ""

    @property
    def name(self) -> str:
        """See `Contender`."""
        return f"bare {self.client}{self.label}"

    def fill(self, lab: Lab, count: int) -> None:
        """There is no queue."""

    def start(self, lab: Lab, count: int, delay_ms: int) -> list[subprocess.Popen[bytes]]:
        """See `Contender`."""
        share = count // PROCESSES
        processes = []
        for number in range(PROCESSES):
            first = number * share
            end = count if number == PROCESSES - 1 else first + share
            arguments = [self.client, lab.sink.url, str(first), str(end), str(self.threads[delay_ms])]
            command = [sys.executable, "-m", "benchmarks.contenders.bare", *arguments]
            processes.append(lab.start(command, {}, f"bare-{number}"))
        return processes


def _naive(url: str) -> Send:
    """What everybody writes."""
    import requests

    session = requests.Session()

    def send(data: bytes) -> str:
        return str(session.post(url + PATH, data=data, headers=HEADERS, timeout=10).json()["event_uuid"])

    return send


def _prepared(url: str) -> Send:
    """`requests` at its best: a prepared request as a template, nothing read from the environment."""
    import requests

    session = requests.Session()
    session.trust_env = False
    template = session.prepare_request(requests.Request("POST", url + PATH, headers=HEADERS))

    def send(data: bytes) -> str:
        request = template.copy()
        request.body = data
        request.headers["Content-Length"] = str(len(data))
        answer = session.send(request, timeout=10, allow_redirects=False)
        return str(json.loads(answer.content)["event_uuid"])

    return send


def _http_client(url: str) -> Send:
    """The standard library's."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)

    def send(data: bytes) -> str:
        connection.request("POST", PATH, data, HEADERS)
        return str(json.loads(connection.getresponse().read())["event_uuid"])

    return send


CLIENTS: dict[str, Callable[[str], Send]] = {
    "requests, naive": _naive,
    "requests, prepared": _prepared,
    "http.client": _http_client,
}


def main(client: str, url: str, first: int, end: int, threads: int) -> None:
    """Send events `first` to `end` - 1. The bodies are made before, as those of a queue are."""
    bodies = [body(number) for number in range(first, end)]
    place = iter(range(len(bodies)))
    sends = [CLIENTS[client](url) for _ in range(threads)]

    def run(send: Send) -> None:
        for index in place:  # a range's iterator is one step of C: threads share it safely
            send(bodies[index])

    running = [threading.Thread(target=run, args=(send,)) for send in sends]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
