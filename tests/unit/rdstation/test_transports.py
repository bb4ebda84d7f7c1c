"""The choice of a transport. Doubles nothing; a missing package is hidden from the import system."""

from __future__ import annotations

import sys

import pytest

from dispatcher.clock import SystemClock
from dispatcher.errors import ConfigurationError
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.lean_transport import LeanTransport
from dispatcher.rdstation.requests_transport import RequestsTransport
from dispatcher.rdstation.transport import Timeouts, Transport
from dispatcher.rdstation.transports import make_transport


def made(name: str) -> Transport:
    return make_transport(name, BaseUrl.parse("http://127.0.0.1:1"), timeouts=Timeouts(), clock=SystemClock())


def test_the_name_chooses() -> None:
    assert isinstance(made("requests"), RequestsTransport)
    assert isinstance(made("lean"), LeanTransport)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(ConfigurationError, match=r"rdstation-dispatcher\[lean\]"):
        made("lean")
    assert isinstance(made("requests"), RequestsTransport)
