"""The composition root of the processes: settings become objects here, once in each process, after its fork."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from dispatcher.bell import Publisher
from dispatcher.clock import Clock, SystemClock
from dispatcher.events.uncertain import UncertainPolicy
from dispatcher.outbox import sealing
from dispatcher.outbox.api_keys import ApiKeyStore
from dispatcher.outbox.claimed import ClaimRules
from dispatcher.outbox.credentials import CredentialStore
from dispatcher.outbox.engine import create_engine
from dispatcher.outbox.limits_view import Configured
from dispatcher.outbox.permits import Quota
from dispatcher.outbox.prune import Retention
from dispatcher.outbox.retirement import LegacyRules
from dispatcher.outbox.vault import Vault, keys_at_hand
from dispatcher.policy.backoff import Backoff
from dispatcher.policy.decision import Budget
from dispatcher.policy.notices import Thresholds
from dispatcher.policy.packing import Bounds
from dispatcher.rdstation.access_tokens import AccessTokens
from dispatcher.rdstation.api_keys import ApiKeys
from dispatcher.rdstation.base_url import BaseUrl
from dispatcher.rdstation.batch_api import BatchApi
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.credential_check import CredentialCheck
from dispatcher.rdstation.events_api import EventsApi
from dispatcher.rdstation.oauth import App, OAuthApi
from dispatcher.rdstation.transport import KeptTransport, Timeouts
from dispatcher.rdstation.transports import make_transport
from dispatcher.settings import Settings, load_settings
from workers.attempts import Attempting, abandon
from workers.batching import Batching
from workers.counting import CountKeeper
from workers.drain import Drain
from workers.noticing import Noticing
from workers.plan import DrainPlan
from workers.probe import Probe
from workers.seeding import Seeding
from workers.sharing import Sharing
from workers.stop import StopSign
from workers.sweeper import Sweeper, SweepPlan
from workers.tracing import Traces, make_traces
from workers.watchdog import Watchdog
from workers.webhook import Webhook

_PROBES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Process:
    """The objects of one process. Not to be used across a fork.

    Attributes:
        engine: Its own connections.
        drain: What a bell starts.
        make_sweeper: Makes a sweeper over the same engine.
        reseed: Reads the environment's credentials, and stores them if they have changed.
        counts: Stores what the process counts.
        traces: Goes on with the shops' traces.
    """

    engine: sa.Engine
    drain: Drain
    make_sweeper: Callable[[Callable[[], None]], Sweeper]
    reseed: Callable[[], None]
    counts: CountKeeper
    traces: Traces


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process reaches the world through, and is told apart by; the simulation has its own.

    Attributes:
        clock: Of this machine.
        rng: For jitter.
        engine: To the database.
        transport: To RD Station.
        worker: Names the process in the fleet.
        make_probes: Where probes of suspended accounts run.
        read_settings: Reads the environment again.
    """

    clock: Clock
    rng: random.Random
    engine: sa.Engine
    transport: KeptTransport
    worker: str
    make_probes: Callable[[], Executor]
    read_settings: Callable[[], Settings]


def build(settings: Settings, stop: StopSign, make_publisher: Callable[[], Publisher]) -> Process:
    """Make the objects of this process. Opens no connection yet."""
    clock = SystemClock()
    sealing.install(lambda: keys_at_hand(settings.encryption_keys, settings.sqlite_path))
    base_url = BaseUrl.parse(settings.rd_base_url, allow_insecure_http=settings.allow_insecure_http)
    timeouts = Timeouts(settings.http_connect_seconds, settings.http_read_seconds, settings.http_total_seconds)
    surroundings = Surroundings(
        clock=clock,
        rng=random.Random(),  # noqa: S311 - jitter, not secrets
        engine=create_engine(settings.database_url.get_secret_value()),
        transport=make_transport(settings.http_transport, base_url, timeouts=timeouts, clock=clock),
        worker=f"{socket.gethostname()[:64]}:{os.getpid()}",
        make_probes=lambda: ThreadPoolExecutor(_PROBES_AT_ONCE, thread_name_prefix="dispatcher-probe"),
        read_settings=load_settings,
    )
    return assemble(settings, stop.is_set, make_publisher, surroundings)


def assemble(
    settings: Settings,
    stopping: Callable[[], bool],
    make_publisher: Callable[[], Publisher],
    surroundings: Surroundings,
) -> Process:
    """Put the objects of one process together over its surroundings."""
    clock, rng, worker = surroundings.clock, surroundings.rng, surroundings.worker
    engine, transport = surroundings.engine, surroundings.transport
    vault = Vault.of(settings.encryption_keys, settings.sqlite_path)
    store = CredentialStore(engine, vault)
    oauth = OAuthApi(transport, clock=clock)
    app = App.of(settings.rd_client_id, settings.rd_client_secret)
    tokens = AccessTokens(store, oauth, app_of=lambda _account: app, clock=clock, rng=rng, owner=worker)
    budget = Budget(
        settings.max_failures,
        settings.max_age_seconds,
        Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds),
    )
    probe_every = timedelta(seconds=settings.probe_seconds)
    retention = Retention.of_days(
        settings.retain_delivered_days,
        settings.retain_cancelled_days,
        settings.retain_dead_days,
        settings.retain_operations_days,
    )
    rules = ClaimRules(
        lease=timedelta(seconds=settings.lease_seconds),
        quota=Quota.of(settings.account_per_minute, settings.lead_per_day, settings.quota_share),
        max_age=timedelta(seconds=settings.max_age_seconds),
        probe_every=probe_every,
        quota_share=settings.quota_share,
        legacy=LegacyRules(settings.legacy_events, settings.account_defaults),
    )
    api_keys = ApiKeyStore(engine, vault)
    keys = ApiKeys(api_keys, clock, preferred=settings.conversions_by_key)
    client = Client(EventsApi(transport, clock=clock), tokens, BatchApi(transport, clock=clock), keys)
    on_uncertain = UncertainPolicy.of(settings.on_uncertain)
    attempts = Attempting(client, budget, clock=clock, rng=rng, on_uncertain=on_uncertain)
    traces = make_traces(settings.traces, clock)
    plan = DrainPlan(rules, settings.http_total_seconds, settings.concurrency, worker, rng, traces)
    sharing = None
    if settings.batch == "on":
        batching = Batching(client, attempts, Bounds(settings.batch_events, settings.batch_bytes), clock=clock)
        sharing = Sharing(batching, deadline_seconds=settings.http_total_seconds, clock=clock, stopping=stopping)
    seeding = Seeding(surroundings.read_settings, store, api_keys)
    drain = Drain(
        engine,
        attempts,
        plan,
        sharing=sharing,
        before_claim=seeding.once,
        before_sends=attempts.prepare,
        clock=clock,
        stopping=stopping,
    )
    # A lease, not a deadline: a probe may check, refresh and check again, and a refresh is not begun in a hurry.
    probe = Probe(engine, CredentialCheck(tokens, oauth, clock), seeding.again, settings.lease_seconds)

    def make_sweeper(before_sweep: Callable[[], None]) -> Sweeper:
        probes = surroundings.make_probes()
        limits = Configured(settings.account_per_minute, settings.lead_per_day, settings.quota_share)
        thresholds = Thresholds(settings.notice_dead_letters, settings.notice_drain_seconds)

        def before_each_sweep() -> None:
            transport.close_idle()
            before_sweep()

        return Sweeper(
            engine=engine,
            plan=SweepPlan(settings.sweep_seconds, probe_every, worker, retention),
            decide=lambda found: abandon(found, budget, rng, on_uncertain),
            probe=probe,
            probes=probes,
            make_publisher=make_publisher,
            drain=drain.run,
            before_sweep=before_each_sweep,
            clock=clock,
            rng=rng,
            stopping=stopping,
            watchdog=Watchdog(settings.watchdog_seconds),
            notices=Noticing(engine, limits, thresholds, _webhook(settings, clock), probes).look,
        )

    return Process(engine, drain, make_sweeper, seeding.again, CountKeeper(engine, clock), traces)


def _webhook(settings: Settings, clock: Clock) -> Webhook | None:
    return None if settings.notice_url is None else Webhook(settings.notice_url, settings.notice_secret, clock)
