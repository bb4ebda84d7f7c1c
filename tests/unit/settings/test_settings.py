"""Settings from given variables and files; nothing is doubled, and the process' environment is not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import ValidationError

from dispatcher.errors import ConfigurationError
from dispatcher.settings import Settings, load_settings


def load(**variables: str) -> Settings:
    return load_settings({f"DISPATCHER_{name}": value for name, value in variables.items()}, env_file=None)


def refused(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(**variables)
    return str(error.value)


def test_the_defaults_are_the_documented_ones() -> None:
    settings = load()

    assert settings.database_url.get_secret_value() == "sqlite:///dispatcher.db"
    assert settings.rd_base_url == "https://api.rd.services"
    assert (settings.account_per_minute, settings.lead_per_day, settings.quota_share) == (120, 120, 1.0)
    assert (settings.lease_seconds, settings.sweep_seconds, settings.probe_seconds) == (45, 5, 60)
    assert (settings.http_connect_seconds, settings.http_read_seconds, settings.http_total_seconds) == (5, 20, 30)
    assert (settings.max_failures, settings.max_age_seconds) == (12, 604_800)
    assert (settings.backoff_base_seconds, settings.backoff_cap_seconds) == (2, 900)
    assert (settings.concurrency, settings.legacy_events, settings.batch) == (0, "auto", "off")
    assert (settings.log_format, settings.allow_insecure_http, settings.encryption_keys) == ("text", False, ())


def test_what_follows_an_unknown_outcome_can_be_changed_for_a_type() -> None:
    settings = load(ON_UNCERTAIN="CART_ABANDONED=resend, SALE = hold,")

    assert settings.on_uncertain == (("CART_ABANDONED", "resend"), ("SALE", "hold"))
    assert hash(settings), "a shop's bell is remembered for its settings"
    assert "did you mean CART_ABANDONED" in refused(ON_UNCERTAIN="CART_ABANDOND=resend")
    for wrong in ("CART_ABANDONED", "CART_ABANDONED=drop"):
        assert "DISPATCHER_ON_UNCERTAIN" in refused(ON_UNCERTAIN=wrong)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load().lease_seconds = 1  # type: ignore[misc]  # the point of the test


def test_constructing_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHER_LEASE_SECONDS", "99")

    assert Settings().lease_seconds == 45
    assert load_settings(env_file=None).lease_seconds == 99


def test_the_environment_wins_over_the_file_and_an_empty_value_counts_as_unset(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("DISPATCHER_LEASE_SECONDS=60\nDISPATCHER_SWEEP_SECONDS=7\nDISPATCHER_BATCH=on\nPATH_OF_OTHERS=x\n")

    settings = load_settings({"DISPATCHER_LEASE_SECONDS": "70", "DISPATCHER_SWEEP_SECONDS": ""}, env_file=file)

    assert (settings.lease_seconds, settings.sweep_seconds, settings.batch) == (70, 7, "on")
    assert settings.warnings == ()


def test_every_problem_is_reported_at_once_also_those_between_two_settings() -> None:
    text = refused(
        DATABASE_URL="oracle://u:hunter2@db/x",
        RD_BASE_URL="http://api.example.com",
        HTTP_TOTAL_SECONDS="41",
        QUOTA_SHARE="0",
        BACKOFF_CAP_SECONDS="1",
        ENCRYPTION_KEYS="short-hunter2",
        LEGACY_EVENTS="hunter2",
        SWEEP_SECONDS="nan",
    )

    names = [line.partition(":")[0].removeprefix("DISPATCHER_") for line in text.splitlines()]
    assert sorted(names) == [
        "BACKOFF_CAP_SECONDS",
        "DATABASE_URL",
        "ENCRYPTION_KEYS",
        "HTTP_TOTAL_SECONDS",
        "LEGACY_EVENTS",
        "QUOTA_SHARE",
        "RD_BASE_URL",
        "SWEEP_SECONDS",
    ]
    assert "hunter2" not in text


def test_a_refused_value_hides_no_consequence_and_invents_none() -> None:
    assert refused(LEASE_SECONDS="soon").splitlines() == [
        "DISPATCHER_LEASE_SECONDS: Input should be a valid number, unable to parse string as a number"
    ]
    assert refused(HTTP_READ_SECONDS="soon").count("\n") == 0


@pytest.mark.parametrize(("lease", "total", "fits"), [("35", "30", True), ("34.9", "30", False), ("45", "40.1", False)])
def test_the_deadline_and_five_seconds_fit_into_the_lease(lease: str, total: str, fits: bool) -> None:
    if fits:
        assert load(LEASE_SECONDS=lease, HTTP_TOTAL_SECONDS=total).lease_seconds == float(lease)
    else:
        assert "LEASE_SECONDS" in refused(LEASE_SECONDS=lease, HTTP_TOTAL_SECONDS=total)


@pytest.mark.parametrize(
    ("connect", "read", "total"), [("1", "2", 3), ("5", "20", 30), ("5", "40", 30), ("1", "20", 21)]
)
def test_the_default_deadline_follows_shorter_phases(connect: str, read: str, total: float) -> None:
    assert load(HTTP_CONNECT_SECONDS=connect, HTTP_READ_SECONDS=read).http_total_seconds == total


def test_a_short_lease_alone_is_refused_because_of_the_default_deadline() -> None:
    assert refused(LEASE_SECONDS="10").startswith("DISPATCHER_HTTP_TOTAL_SECONDS: 30 s + 5 s")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/", "http://localhost:1", "http://[::1]:8080", "https://x.example"]
)
def test_clear_text_is_accepted_on_loopback(url: str) -> None:
    assert load(RD_BASE_URL=url).rd_base_url == url.rstrip("/")


def test_clear_text_elsewhere_needs_a_word() -> None:
    assert "ALLOW_INSECURE_HTTP" in refused(RD_BASE_URL="http://sandbox:8080")
    assert load(RD_BASE_URL="http://sandbox:8080", ALLOW_INSECURE_HTTP="1").rd_base_url == "http://sandbox:8080"


@pytest.mark.parametrize(
    "url", ["api.rd.services", "ftp://x", "https://u:p@x", "https://x/?a=1", "https://", "http://[::1"]
)
def test_a_base_url_that_cannot_work_is_refused(url: str) -> None:
    assert refused(RD_BASE_URL=url).startswith("DISPATCHER_RD_BASE_URL: ")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h/d",
        "mysql://u@h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "dispatcher.db",
        "",
        "postgresql+psycopg://u:p@h:port/d",
        "postgresql+psycopg://u:p@h",
    ],
)
def test_databases_other_than_the_three_are_refused(url: str) -> None:
    if url:
        assert refused(DATABASE_URL=url).startswith("DISPATCHER_DATABASE_URL: ")
    with pytest.raises(ValidationError):
        Settings.model_validate({"database_url": url})


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///outbox.db", Path("outbox.db")),
        ("sqlite:////srv/shop/outbox.db", Path("/srv/shop/outbox.db")),
        ("sqlite:///a%20b.db?timeout=5", Path("a b.db")),
        ("postgresql+psycopg://u:p@h/d", None),
        ("mysql+pymysql://u@h:3306/d", None),
    ],
)
def test_only_a_sqlite_file_without_a_broker_is_the_embedded_default(url: str, path: Path | None) -> None:
    assert load(DATABASE_URL=url).sqlite_path == path
    assert load(DATABASE_URL=url).embedded == (path is not None)
    assert not load(DATABASE_URL=url, BROKER_URL="redis://localhost/0").embedded


def test_keys_are_separated_by_commas_and_kept_in_order() -> None:
    first, second = Fernet.generate_key().decode(), Fernet.generate_key().decode()

    keys = load(ENCRYPTION_KEYS=f"{first}, {second},").encryption_keys

    assert [key.get_secret_value() for key in keys] == [first, second]


def test_no_secret_shows_in_a_repr() -> None:
    key = Fernet.generate_key().decode()
    settings = load(
        DATABASE_URL="postgresql+psycopg://u:hunter2@h/d",
        BROKER_URL="amqp://u:hunter2@h//",
        RD_CLIENT_SECRET="hunter2",
        RD_REFRESH_TOKEN="hunter2",
        RD_ACCESS_TOKEN="hunter2",
        RD_API_KEY="hunter2",
        ENCRYPTION_KEYS=key,
    )

    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

    assert "hunter2" not in shown
    assert key not in shown


def test_an_unknown_variable_is_a_warning_with_the_closest_name() -> None:
    settings = load(LEASE_SECOND="50", XYZZY="1", TEST_POSTGRES_URL="kept for the test suite")

    assert settings.warnings == (
        "DISPATCHER_LEASE_SECOND is no setting and is ignored; did you mean DISPATCHER_LEASE_SECONDS?",
        "DISPATCHER_XYZZY is no setting and is ignored",
    )
