"""Pure: the address a person is sent to, and what a browser may bring back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.rdstation.authorization import Redirect, Spelling, dialog_url, is_code, new_state
from dispatcher.rdstation.base_url import BaseUrl

STATE = SecretStr("canary-state")


@pytest.mark.parametrize("spelling", Spelling)
def test_the_dialogs_address_is_the_documented_one_in_either_spelling(spelling: Spelling) -> None:
    url = dialog_url(
        BaseUrl.parse("https://api.rd.services"),
        client_id="id&1",
        redirect_uri="http://localhost:8765/a?b=c",
        state=STATE,
        spelling=spelling,
    )
    assert url == (
        "https://api.rd.services/auth/dialog?client_id=id%261"
        f"&{spelling.value}=http%3A%2F%2Flocalhost%3A8765%2Fa%3Fb%3Dc&state=canary-state"
    )


def test_a_redirect_answers_only_its_own_question() -> None:
    assert Redirect.read("/callback?code=c&state=canary-state").answers(STATE)
    for target in (
        "/callback?code=c",
        "/callback?code=c&state=",
        "/callback?code=c&state=other",
        "/callback?code=c&state=caf%C3%A9",
        "/callback?code=c&state=canary-state&state=canary-state",
        "/callback?code=c#state=canary-state",
    ):
        assert not Redirect.read(target).answers(STATE)


def test_states_differ_and_hide_themselves() -> None:
    states = {new_state().get_secret_value() for _ in range(50)}
    assert len(states) == 50
    assert min(map(len, states)) >= 32
    redirect = Redirect.read("/callback?code=canary-code&state=canary-state")
    assert redirect.code == SecretStr("canary-code")
    assert "canary" not in repr(redirect)


def test_a_refusals_word_is_passed_on_and_a_sentence_is_not() -> None:
    assert Redirect.read("/?error=access_denied").error == "access_denied"
    assert Redirect.read("/?error=call%20now%1b[2J").error == "an error without a known name"


@given(st.text(max_size=300))
def test_no_target_breaks_the_reading(target: str) -> None:
    redirect = Redirect.read(target)
    assert not redirect.answers(STATE)
    Redirect.read(f"http://[{target}?{target}")


def test_a_code_is_told_from_an_address_and_from_a_sentence() -> None:
    assert [is_code(text) for text in ("4f0c-A_b.~x", "x" * 2_048)] == [True, True]
    for text in ("", "a b", "code=a", "https://x/?code=a", "a&b", "é", "a\n", "x" * 2_049):
        assert not is_code(text)
