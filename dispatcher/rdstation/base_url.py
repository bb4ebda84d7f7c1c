"""The one host that requests may go to."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from dispatcher.errors import ConfigurationError

DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A checked base URL, taken apart. `prefix` is its path without a trailing slash."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, text: str, *, allow_insecure_http: bool = False) -> BaseUrl:
        """Check and take apart a base URL.

        Raises:
            ConfigurationError: It is no usable URL, carries credentials, a query or a fragment, or would send tokens
                in clear text beyond this machine. The message never repeats the URL: it may hold a password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ConfigurationError("RD_BASE_URL is not a URL; write it like https://api.rd.services") from None
        host = parts.hostname
        if parts.scheme not in DEFAULT_PORTS or not host or not _is_hostname(host):
            raise ConfigurationError("RD_BASE_URL must be https://host[:port]; the default is https://api.rd.services")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ConfigurationError("RD_BASE_URL must not hold credentials, a query or a fragment; remove them")
        if not parts.path.isascii() or any(character.isspace() for character in parts.path):
            raise ConfigurationError("RD_BASE_URL has a path with spaces or non-ASCII characters; remove them")
        if parts.scheme == "http" and not allow_insecure_http and not _is_loopback(host):
            raise ConfigurationError(
                "RD_BASE_URL uses http:// beyond this machine, where tokens could be read on the way; "
                "use https://, or set ALLOW_INSECURE_HTTP if that is meant"
            )
        return cls(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port, parts.path.rstrip("/"))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"


def _is_hostname(host: str) -> bool:
    try:
        return bool(host.encode("idna")) and not any(c.isspace() or c in '\\^`{}|"<>' for c in host)
    except UnicodeError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
