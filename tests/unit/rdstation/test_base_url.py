"""Pure: which base URLs are accepted."""

from __future__ import annotations

import pytest

from dispatcher.errors import ConfigurationError
from dispatcher.rdstation.base_url import BaseUrl


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://api.rd.services", "https://api.rd.services"),
        ("https://api.rd.services/", "https://api.rd.services"),
        ("https://api.rd.services:8443/prefix/", "https://api.rd.services:8443/prefix"),
        ("http://127.0.0.1:8099", "http://127.0.0.1:8099"),
        ("http://localhost:8099", "http://localhost:8099"),
        ("http://[::1]:8099", "http://[::1]:8099"),
    ],
)
def test_https_and_loopback_are_accepted(text: str, normal: str) -> None:
    assert str(BaseUrl.parse(text)) == normal


def test_clear_text_beyond_this_machine_needs_to_be_meant() -> None:
    for host in ("api.rd.services", "10.0.0.1", "127.0.0.1.example", "localhost.example"):
        with pytest.raises(ConfigurationError, match="ALLOW_INSECURE_HTTP"):
            BaseUrl.parse(f"http://{host}")
        assert BaseUrl.parse(f"http://{host}", allow_insecure_http=True).host == host


@pytest.mark.parametrize(
    "text",
    [
        "", "api.rd.services", "ftp://api.rd.services", "https://", "https://canary:pw@api.rd.services",
        "https://api.rd.services?token=canary", "https://api.rd.services/#canary", "https://api.rd.services:port",
        "https://a b", "https://[::1", "https://" + "a" * 70, "https://api.rd.services/a b", "https://a|b",
    ],
)  # fmt: skip
def test_anything_else_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        BaseUrl.parse(text)
    assert "canary" not in str(refusal.value)
