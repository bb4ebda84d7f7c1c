"""What the settings say, without asking anybody else."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.fernet import Fernet

from dispatcher.admin.checks.finding import Finding, error, ok, warning
from dispatcher.settings import Settings

_OFFICIAL = "https://api.rd.services"
_BASIC_PLAN = 120
"""RD Station's limits of the smaller plans: per account and minute, per lead and day (rdstation-api.md §6)."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Names nobody reads, the encryption key, the limits, the lease, the address."""
    for sentence in settings.warnings:
        yield warning("settings.unknown", sentence, "correct the name, or remove it")
    yield _encryption(settings)
    yield _address(settings)
    yield from _limits(settings)
    yield _recovery(settings)


def _encryption(settings: Settings) -> Finding:
    if settings.encryption_keys:
        return ok("encryption.configured", f"{len(settings.encryption_keys)} encryption key(s); the first one encrypts")
    if settings.sqlite_path is not None:
        return ok("encryption.key_file", f"tokens are encrypted with the key file {settings.sqlite_path}.key")
    return error(
        "encryption.missing",
        "there is no encryption key, so no credentials can be stored",
        f"set DISPATCHER_ENCRYPTION_KEYS={Fernet.generate_key().decode()} (made just now, stored nowhere), "
        "the same for every process; keep it as safe as a password",
    )


def _address(settings: Settings) -> Finding:
    if settings.rd_base_url == _OFFICIAL:
        return ok("provider.official", f"events go to {_OFFICIAL}")
    return warning(
        "provider.other",
        f"events go to {settings.rd_base_url}, which is not RD Station's own address",
        f"right for a sandbox or a proxy; else unset DISPATCHER_RD_BASE_URL (default {_OFFICIAL})",
    )


def _limits(settings: Settings) -> Iterator[Finding]:
    for name, value, span in (
        ("ACCOUNT_PER_MINUTE", settings.account_per_minute, "a minute per account"),
        ("LEAD_PER_DAY", settings.lead_per_day, "a day per lead"),
    ):
        code = f"limits.{name.lower()}"
        if value == 0:
            yield warning(
                code,
                f"there is no limit on the events {span}: RD Station will answer 429 to what is too much",
                f"set DISPATCHER_{name} to the limit of your plan ({_BASIC_PLAN} for most)",
            )
        elif value > _BASIC_PLAN:
            yield warning(
                code,
                f"{value} events {span} are more than the {_BASIC_PLAN} that most plans allow",
                f"right if your plan allows it; else set DISPATCHER_{name}={_BASIC_PLAN}",
            )
        else:
            yield ok(code, f"at most {value} events {span}, of which {settings.quota_share:.0%} are ours")


def _recovery(settings: Settings) -> Finding:
    seconds = settings.lease_seconds + settings.sweep_seconds
    message = f"what a killed worker held is free again within {seconds:g} s (lease + one sweep)"
    if seconds <= 300:
        return ok("lease.recovery", message)
    fix = "lower DISPATCHER_LEASE_SECONDS and DISPATCHER_SWEEP_SECONDS; a lease needs the HTTP deadline + 5 s"
    return warning("lease.recovery", message, fix)
