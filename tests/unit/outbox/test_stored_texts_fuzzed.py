"""What the database hands back as sealed: any text is opened, kept as it is, or refused by one error.

Pure: sealed texts. No database.
"""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.sealing import SEALED, PayloadKeys, is_sealed, name_of

KEY, OTHER = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
KEYS = PayloadKeys([KEY])


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.text().map(lambda text: f"{SEALED}{text}"),
                 st.text().map(lambda text: f"{SEALED}{name_of(KEY)}:{text}")))  # fmt: skip
def test_any_stored_text_is_opened_or_stays_as_it_is(stored: str) -> None:
    """What no key opens must stay: a worker that turned it into something else would send that."""
    assert KEYS.opened(stored) == stored


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_what_is_sealed_comes_back_whole_and_shows_nothing(text: str) -> None:
    sealed = KEYS.seal(name_of(KEY), text)
    assert KEYS.opened(sealed) == text
    if not is_sealed(text):
        assert is_sealed(sealed)
    if len(text) > len(SEALED) and not is_sealed(text):
        assert text not in sealed
    assert PayloadKeys([OTHER]).opened(sealed) == sealed


def test_a_key_is_called_as_the_rows_that_it_has_sealed_call_it() -> None:
    """Another name would leave what is stored unreadable."""
    assert name_of(SecretStr("a key")) == "8fa3aab2"


def test_what_is_sealed_is_not_sealed_again() -> None:
    sealed = PayloadKeys([OTHER]).seal(name_of(OTHER), "ana@cliente.example")
    assert KEYS.seal(name_of(KEY), sealed) == sealed


def test_a_text_cannot_be_sealed_with_a_key_that_is_not_at_hand() -> None:
    with pytest.raises(ConfigurationError):
        KEYS.seal(name_of(OTHER), "ana@cliente.example")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_sealed_text_that_was_changed_is_not_opened(data: st.DataObject) -> None:
    sealed = KEYS.seal(name_of(KEY), "ana@cliente.example")
    at = data.draw(st.integers(len(SEALED) + 9, len(sealed) - 4))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda letter: letter != sealed[at]))
    changed = f"{sealed[:at]}{other}{sealed[at + 1 :]}"
    assert KEYS.opened(changed) == changed
