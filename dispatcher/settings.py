"""Every setting, from the environment (prefix `DISPATCHER_`) or a `.env` file; the environment wins.

Only composition roots call `load_settings`; everything else is handed a `Settings`, or the few values it needs.
No secret, and no URL that may carry a password, shows in a repr or in an error. docs/settings.md is made from it.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dispatcher.errors import ConfigurationError
from dispatcher.events import CATALOGUE, Uncertain
from dispatcher.events.account_defaults import AccountDefaults, currency_problem, template_problem

PREFIX = "DISPATCHER_"
SHUTDOWN_MARGIN_SECONDS = 5.0
"""A lease outlives the HTTP deadline by at least this much, so that a finished send can still be settled."""

_DIALECTS = ("sqlite", "postgresql+psycopg", "mysql+pymysql")
_FOREIGN_PREFIX = "DISPATCHER_TEST_"  # read by the test suite, not by us

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Limit = Annotated[int, Field(ge=0)]
Days = Annotated[int, Field(ge=0, le=36_500)]


def _deadline(known: dict[str, Any]) -> float:
    phases: float = known["http_connect_seconds"] + known["http_read_seconds"]
    return phases if phases < 25 else 30.0


class Settings(BaseSettings):
    """All settings, validated together and frozen. Constructing one reads no environment; `load_settings` does."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True, validate_default=True
    )
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///dispatcher.db"),
        description="Where the outbox lives: `sqlite:///…`, `postgresql+psycopg://…` or `mysql+pymysql://…`.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Where bells travel, as Celery writes it: `redis://…`, `amqp://…`. "
        "Unset beside a SQLite file: the embedded broker, for one machine.",
    )

    allow_insecure_http: bool = Field(
        default=False, description="Accept an `http://` base URL outside loopback. Tokens then travel in clear text."
    )
    rd_base_url: str = Field(default="https://api.rd.services", description="RD Station's API, or a sandbox.")
    rd_client_id: str | None = Field(default=None, description="OAuth client of the RD Station app.")
    rd_client_secret: SecretStr | None = Field(default=None, description="Its secret.")
    rd_refresh_token: SecretStr | None = Field(
        default=None,
        description="Seeds the account `default`; tokens then live in the database, "
        "and this wins only when its value has changed since it was last read.",
    )
    rd_access_token: SecretStr | None = Field(default=None, description="As the refresh token; lives 24 hours.")
    rd_api_key: SecretStr | None = Field(
        default=None,
        description="Seeds the API key of the account `default`; RD Station takes it for conversions only.",
    )
    conversions_by_key: bool = Field(
        default=False,
        description="Send conversions with the account's API key also where it has tokens. "
        "An account without tokens sends them so in any case.",
    )
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(),
        description="Fernet keys, separated by commas; the first encrypts, all decrypt. "
        "Without one nothing secret is stored (the embedded default keeps a key file beside its SQLite file). "
        "They seal tokens, and payloads where `dispatcher payloads seal` was run: then the shop needs them, too.",
    )

    account_per_minute: Limit = Field(default=120, description="Events an account may send in 60 s; 0 = no limit.")
    lead_per_day: Limit = Field(default=120, description="Events a lead may receive in 24 h; 0 = no limit.")
    quota_share: float = Field(
        default=1.0, gt=0, le=1, description="The part of both limits that is ours, above 0 and up to 1."
    )

    lease_seconds: Seconds = Field(
        default=45, description="How long a claim holds an event; what a killed worker held is free again after it."
    )
    sweep_seconds: Seconds = Field(default=5, description="Between two sweeps of a worker; jitter only shortens it.")
    watchdog_seconds: float = Field(
        default=60,
        ge=0,
        allow_inf_nan=False,
        description="A worker whose pool takes no bell for so long, although its sweeper rings for due work and nobody "
        "else does it, ends with exit code 75 to be started again; 0 = never.",
    )
    probe_seconds: Seconds = Field(default=60, description="Between two probes of a suspended account.")
    http_connect_seconds: Seconds = Field(default=5, description="To open a connection.")
    http_read_seconds: Seconds = Field(default=20, description="Between two bytes of an answer.")
    http_total_seconds: Seconds = Field(
        default_factory=_deadline,
        description="For one whole send; with 5 s on top it must fit into the lease. "
        "Default 30, or the sum of connect and read where that is below 25.",
    )
    concurrency: Limit = Field(default=0, description="Sends in parallel per drain; 0 = by latency.")
    http_transport: Literal["requests", "lean"] = Field(
        default="requests",
        description="What sends the events: `requests`, or `lean` (the extra of that name) for a fraction of its CPU.",
    )

    on_uncertain: Annotated[tuple[tuple[str, Uncertain], ...], NoDecode] = Field(
        default=(),
        description="What follows when an event may have arrived, for types where the usual is not wanted: "
        "`TYPE=resend` or `TYPE=hold` (a dead letter that waits for a person), separated by commas.",
    )
    max_failures: int = Field(default=12, ge=1, description="Failed attempts before an event becomes a dead letter.")
    max_age_seconds: Seconds = Field(
        default=604_800,
        description="Age at which a waiting event becomes a dead letter; stops of the account excluded.",
    )
    backoff_base_seconds: Seconds = Field(default=2, description="Ceiling of the wait after the first failure.")
    backoff_cap_seconds: Seconds = Field(default=900, description="Highest ceiling of a wait.")

    retain_delivered_days: Days = Field(
        default=30, description="Days after which a delivered event is pruned, with its payload; 0 = never."
    )
    retain_cancelled_days: Days = Field(
        default=30, description="Days after which a cancelled event is pruned; 0 = never."
    )
    retain_dead_days: Days = Field(
        default=180, description="Days after which a dead letter that nobody has ended is discarded; 0 = never."
    )
    retain_operations_days: Days = Field(
        default=730,
        description="Days after which the record of an operation is deleted; receipts of `forget` stay. 0 = never.",
    )

    legacy_events: Literal["auto", "send", "translate", "refuse"] = Field(
        default="auto",
        description="What happens to deprecated event types: `auto` sends them until RD Station refuses the type, "
        "then translates them to their successors.",
    )
    batch: Literal["off", "on"] = Field(
        default="off",
        description="Send several events in one request. Each still takes its permit; a refused batch is taken apart.",
    )
    batch_events: int = Field(default=50, ge=1, le=1000, description="Events in one batch at most.")
    batch_bytes: int = Field(
        default=190_000, ge=1_000, description="Length of a batch's body at most; RD Station documents 0.2 Mb."
    )
    notice_url: SecretStr | None = Field(
        default=None,
        description="Webhook that hears notices (docs/monitoring.md) as JSON; its path may be a secret. "
        "Unset: they are in the log only.",
    )
    notice_secret: SecretStr | None = Field(default=None, description="Signs what the webhook is sent.")
    notice_dead_letters: Limit = Field(
        default=10, description="A notice when so many dead letters of the last hour are open; 0 = never."
    )
    notice_drain_seconds: float = Field(
        default=900,
        ge=0,
        allow_inf_nan=False,
        description="A notice when an account uses its limit up and would need longer than this for what is due; "
        "0 = never.",
    )
    traces: Literal["off", "otlp"] = Field(
        default="off",
        description="Goes on with the traces of shops that trace: `otlp` sends the workers' spans to where "
        "OpenTelemetry's own `OTEL_EXPORTER_OTLP_ENDPOINT` says. Needs the extra `otel`.",
    )
    currency: str = Field(
        default="BRL",
        description="Of the account `default`, for translated events that name none; "
        "`dispatcher account set` goes before it.",
    )
    checkout_url_template: str | None = Field(
        default=None,
        description="Of the account `default`, for translated carts without a checkout URL: "
        "`https://loja.example/checkout/{cart_id}`; `dispatcher account set` goes before it.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="How the processes write their logs.")

    @property
    def sqlite_path(self) -> Path | None:
        """The SQLite file, or None if the database is a server."""
        return _sqlite_path(urlsplit(self.database_url.get_secret_value()))

    @property
    def account_defaults(self) -> AccountDefaults:
        """What the environment says once for the translated events of the account `default`."""
        return AccountDefaults(self.currency, self.checkout_url_template)

    @property
    def embedded(self) -> bool:
        """True if nothing is configured but a SQLite file: one machine, with the embedded broker."""
        return self.broker_url is None and self.sqlite_path is not None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about `DISPATCHER_` variables that nothing reads, each with the closest known name."""
        return self._warnings

    @field_validator("database_url")
    @classmethod
    def _known_dialect(cls, value: SecretStr) -> SecretStr:
        url = _split(value.get_secret_value())
        if url.scheme not in _DIALECTS:
            raise ValueError(f"starts with none of {', '.join(f'{dialect}://' for dialect in _DIALECTS)}")
        if url.scheme == "sqlite" and _sqlite_path(url) is None:
            raise ValueError("an in-memory SQLite cannot be shared between processes; name a file: sqlite:///outbox.db")
        if url.scheme != "sqlite" and not url.path.strip("/"):
            raise ValueError("names no database; write …://user:password@host/database")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_with_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _split(value.get_secret_value()).scheme:
            raise ValueError("is no URL; write redis://host:6379/0 or amqp://user:password@host:5672//")
        return value

    @field_validator("rd_base_url")
    @classmethod
    def _encrypted_outside_loopback(cls, value: str, info: ValidationInfo) -> str:
        url = _split(value)
        if url.scheme not in ("https", "http") or not url.hostname:
            raise ValueError("is no http(s) URL; write https://api.rd.services")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("carries credentials, a query or a fragment; write scheme, host and path only")
        if url.scheme == "http" and not _is_loopback(url.hostname) and info.data.get("allow_insecure_http") is False:
            raise ValueError(
                f"is http:// outside this machine, so tokens would travel in clear text; "
                f"use https://, or set {PREFIX}ALLOW_INSECURE_HTTP=1 for a test network"
            )
        return value.rstrip("/")

    @field_validator("notice_url")
    @classmethod
    def _webhook(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        url = _split(value.get_secret_value())
        if url.scheme not in ("https", "http") or not url.hostname:
            raise ValueError("is no http(s) URL; write https://host/path")
        if url.scheme == "http" and not _is_loopback(url.hostname) and info.data.get("allow_insecure_http") is False:
            raise ValueError(f"is http:// outside this machine; use https://, or set {PREFIX}ALLOW_INSECURE_HTTP=1")
        return value

    @field_validator("currency")
    @classmethod
    def _accepted_currency(cls, value: str) -> str:
        if problem := currency_problem(value):
            raise ValueError(problem)
        return value

    @field_validator("checkout_url_template")
    @classmethod
    def _usable_template(cls, value: str | None) -> str | None:
        if value is not None and (problem := template_problem(value)):
            raise ValueError(problem)
        return value

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _keys_apart(cls, value: object) -> object:
        return [key.strip() for key in value.split(",") if key.strip()] if isinstance(value, str) else value

    @field_validator("encryption_keys")
    @classmethod
    def _fernet_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for position, key in enumerate(value, start=1):
            if not _is_fernet_key(key.get_secret_value()):
                raise ValueError(
                    f"key {position} is no Fernet key (32 bytes, URL-safe base64); make one with: python -c "
                    '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
                )
        return value

    @field_validator("on_uncertain", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [tuple(part.strip() for part in pair.partition("=")[::2]) for pair in value.split(",") if pair.strip()]

    @field_validator("on_uncertain")
    @classmethod
    def _known_types(cls, value: tuple[tuple[str, Uncertain], ...]) -> tuple[tuple[str, Uncertain], ...]:
        for event_type, _ in value:
            if event_type not in CATALOGUE:
                close = difflib.get_close_matches(event_type, CATALOGUE, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"{event_type!r} is no event type{hint}")
        return value

    @field_validator("http_total_seconds")
    @classmethod
    def _within_the_lease(cls, value: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease_seconds")
        if lease is not None and value + SHUTDOWN_MARGIN_SECONDS > lease:
            raise ValueError(
                f"{value:g} s + {SHUTDOWN_MARGIN_SECONDS:g} s do not fit into {PREFIX}LEASE_SECONDS ({lease:g} s), "
                f"so a finished send could no longer be settled; lower it, or set the lease to at least "
                f"{value + SHUTDOWN_MARGIN_SECONDS:g}"
            )
        return value

    @field_validator("backoff_cap_seconds")
    @classmethod
    def _cap_above_base(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("backoff_base_seconds", 0):
            raise ValueError(f"is below {PREFIX}BACKOFF_BASE_SECONDS; raise it or lower the base")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls it with these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Constructing a `Settings` takes its arguments only: tests and libraries must not pick up an environment."""
        return (init_settings,)


def load_settings(env: Mapping[str, str] | None = None, env_file: Path | str | None = ".env") -> Settings:
    """Read, validate and freeze the settings. For composition roots only.

    Args:
        env: The variables; the process' own environment if None.
        env_file: A file of `NAME=value` lines, which the environment overrides; missing or None is fine.

    Raises:
        ConfigurationError: names every refused variable and its fix, at once, and no value of any secret.
    """
    environment = EnvSettingsSource(Settings)
    if env is not None:
        environment.env_vars = {name.lower(): value for name, value in env.items() if value}
    try:
        file = DotEnvSettingsSource(Settings, env_file=env_file, dotenv_filtering="only_existing")
    except UnicodeDecodeError:  # the error carries the whole file: it must not be seen, nor anything that came of it
        raise ConfigurationError(f"{env_file} is not UTF-8: save it as UTF-8") from None
    try:
        settings = Settings(**{**file(), **environment()})
    except ValidationError as refused:
        raise ConfigurationError("\n".join(_problems(refused))) from None
    settings._warnings = tuple(_unread([*file.env_vars, *environment.env_vars]))  # noqa: SLF001 - set once, here
    return settings


def _problems(refused: ValidationError) -> Iterable[str]:
    for error in refused.errors(include_url=False, include_context=False, include_input=False):
        if error["type"] != "default_factory_not_called":  # follows from another problem of the list
            yield f"{PREFIX}{str(error['loc'][0]).upper()}: {error['msg'].removeprefix('Value error, ')}"


def _unread(names: Iterable[str]) -> Iterable[str]:
    known = [field.upper() for field in Settings.model_fields]
    for name in sorted({name.upper() for name in names}):
        word = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and not name.startswith(_FOREIGN_PREFIX) and word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            yield f"{name} is no setting and is ignored" + (f"; did you mean {PREFIX}{close[0]}?" if close else "")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed, and refused, on access only
    except ValueError:
        raise ValueError("is no URL: check the brackets, the port and the characters of the password") from None
    return parts


def _sqlite_path(url: SplitResult) -> Path | None:
    if url.scheme != "sqlite" or url.netloc or len(url.path) < 2 or url.path == "/:memory:":
        return None
    return Path(unquote(url.path[1:]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_fernet_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text)) == 32
    except (binascii.Error, ValueError):
        return False
