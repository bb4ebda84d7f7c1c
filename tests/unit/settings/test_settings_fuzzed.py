"""Whatever stands in the environment or in `.env`: settings, or one error that names variables and no secret.

Pure but for files of its own. The values are made up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings, load_settings

NAMES = sorted(Settings.model_fields)
SECRET = [name for name in NAMES if "SecretStr" in str(Settings.model_fields[name].annotation)]

# What environment variables can hold; the likely shapes first, for most texts are refused at their first character.
texts = st.one_of(
    st.sampled_from(["1", "0", "-1", "nan", "inf", "1e400", "on", "[]", "{}", "null", "true", "a,b", "A=resend"]),
    st.builds("{}://{}:{}@{}/{}".format, *[st.text(st.characters(codec="utf-8"), max_size=8)] * 5),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
)
environments = st.dictionaries(st.sampled_from(NAMES).map(lambda name: f"DISPATCHER_{name.upper()}"), texts, max_size=6)


@settings(max_examples=150, deadline=None)
@given(environments)
def test_any_environment_gives_settings_or_one_error_that_names_variables(env: dict[str, str]) -> None:
    try:
        load_settings(env, None)
    except ConfigurationError as refused:
        lines = str(refused).splitlines()
        assert lines
        assert {line.partition(":")[0] for line in lines} <= {f"DISPATCHER_{name.upper()}" for name in NAMES}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SECRET), st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12, max_size=30))
def test_no_value_of_a_secret_stands_in_an_error_or_in_the_repr(name: str, value: str) -> None:
    canary = f"s3cr3t{value}"
    for text in (canary, f"nonsense://u:{canary}@h/x", f"http://{canary}.example"):
        try:
            made = load_settings({f"DISPATCHER_{name.upper()}": text}, None)
        except ConfigurationError as refused:
            assert canary not in str(refused)  # noqa: PT017 - either way is right
            assert refused.__cause__ is None  # noqa: PT017 - see above
        else:
            assert canary not in repr(made)
            assert canary not in str(made)


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda name, value: b"DISPATCHER_" + name.upper().encode() + b"=" + value,
            st.sampled_from(NAMES),
            st.binary(max_size=30),
        ),
    )
)
def test_any_bytes_in_the_file_give_settings_or_one_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ".env"
        file.write_bytes(content)
        try:
            load_settings({}, file)
        except ConfigurationError as refused:
            assert str(refused)  # noqa: PT017 - either way is right


def test_a_file_that_is_not_utf_8_is_refused_with_its_name_and_none_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"DISPATCHER_RD_CLIENT_SECRET=s3cr3t\xff\n")
    with pytest.raises(ConfigurationError, match=r"\.env is not UTF-8") as refused:
        load_settings({}, file)
    assert "s3cr3t" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_whatever_is_called_secret_is_one_by_its_type() -> None:
    """So that no `repr`, log line or traceback shows it, whoever forgets to leave it out."""
    words = ("secret", "token", "api_key", "keys", "database_url", "broker_url", "notice_url")
    named = [name for name in NAMES if any(word in name for word in words)]
    assert {"rd_client_secret", "rd_refresh_token", "database_url", "encryption_keys"} <= set(named)
    assert set(named) <= set(SECRET), f"no {SecretStr.__name__}: {set(named) - set(SECRET)}"
