"""What somebody reads who has not installed the driver of their database. The drivers named here are none of ours."""

from __future__ import annotations

import pytest

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.engine import create_engine


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgresql+pg8000://a@localhost/b", "pg8000", "postgres"),
        ("mysql+cymysql://a@localhost/b", "cymysql", "mysql"),
        ("mariadb+cymysql://a@localhost/b", "cymysql", "mysql"),
    ],
)
def test_the_message_names_the_driver_and_the_extra_that_brings_one(url: str, driver: str, extra: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        create_engine(url)
    assert f"'{driver}'" in str(refused.value)
    assert f"pip install 'rdstation-dispatcher[{extra}]'" in str(refused.value)
