"""A corner of our own in a broker that may serve others: an empty Redis database, a new RabbitMQ vhost."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import uuid
from urllib.parse import urlsplit, urlunsplit

import redis
from kombu import Connection, Queue

_OURS = "dispatcher-test:taken-by"
_LEFT_BEHIND_SECONDS = 7200


class NoCorner(Exception):
    """The broker has no corner that could be ours alone."""


class RedisCorner:
    """One logical database of a Redis server, empty when it was taken and flushed when it is given back."""

    def __init__(self, server_url: str) -> None:
        for number in range(15, 0, -1):
            self.url = urlunsplit(urlsplit(server_url)._replace(path=f"/{number}"))
            self._client = redis.Redis.from_url(self.url)
            with contextlib.suppress(redis.ResponseError):  # a server with fewer databases
                if self._client.dbsize() == 0 and self._take():
                    return
            self._client.close()
        raise NoCorner("every database of this Redis holds somebody's data")

    def clean(self) -> None:
        """Forget what a test left; the mark that the corner is ours stays."""
        self._client.flushdb()
        self._take()

    def close(self) -> None:
        """Give it back empty."""
        self._client.flushdb()
        self._client.close()

    def _take(self) -> bool:
        return bool(self._client.set(_OURS, uuid.uuid4().hex, nx=True, ex=_LEFT_BEHIND_SECONDS))


class RabbitCorner:
    """A new vhost, where this machine's `rabbitmqctl` may make one; else the vhost of the given address as it is."""

    def __init__(self, server_url: str) -> None:
        self.url = server_url
        self._vhost: str | None = f"dispatcher_test_{uuid.uuid4().hex[:16]}"
        parts = urlsplit(server_url)
        local = parts.hostname in ("127.0.0.1", "localhost")
        if local and self._control("add_vhost", self._vhost):
            self._control("set_permissions", "-p", self._vhost, parts.username or "guest", ".*", ".*", ".*")
            self.url = urlunsplit(parts._replace(path=f"/{self._vhost}"))
        else:
            self._vhost = None

    def clean(self) -> None:
        """Delete the queues that a test left in our vhost; a vhost that is not ours is left alone."""
        if self._vhost is None:
            return
        names = self._control("list_queues", "-p", self._vhost, "--no-table-headers", "name").split()
        with Connection(self.url) as connection:
            for name in names:
                Queue(name, channel=connection.default_channel).delete()

    def close(self) -> None:
        """Delete the vhost if it is ours."""
        if self._vhost is not None:
            self._control("delete_vhost", self._vhost)

    @staticmethod
    def _control(*words: str) -> str:
        program = shutil.which("rabbitmqctl")
        if program is None:
            return ""
        done = subprocess.run([program, "-q", *words], capture_output=True, text=True, timeout=60, check=False)
        return (done.stdout or "\n") if done.returncode == 0 else ""
