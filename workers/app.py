"""The Celery app: `celery -A workers worker`, or `dispatcher worker`. The composition root of the worker.

Celery carries bells, not data: tasks ignore results, are acknowledged early, and never use ETA, countdown or retry.
"""

from __future__ import annotations

import gc
from typing import Any

from celery import Celery, signals
from kombu import Queue

from dispatcher.bell import QUEUE, KombuPublisher, Publisher
from dispatcher.outbox.engine import load_driver
from dispatcher.settings import Settings, load_settings
from workers import logs
from workers.beside import SweeperStep
from workers.embedding import Embedding
from workers.processes import Processes
from workers.stop import StopSign
from workers.tasks import register
from workers.tracing import require_extra


def make_app(settings: Settings) -> Celery:
    """The app for these settings. Opens no connection; under the embedded default it chooses the broker's port."""
    require_extra(settings.traces)
    embedding = Embedding(settings)
    broker_url = embedding.broker_url

    def make_publisher() -> Publisher:
        return KombuPublisher(broker_url)

    processes = Processes(settings, StopSign(), make_publisher)
    app = Celery("dispatcher", broker=broker_url, set_as_current=False)
    app.conf.update(
        # Named twice more, or a CELERY_BROKER_URL meant for the shop's own Celery would win over our setting.
        broker_read_url=broker_url,
        broker_write_url=broker_url,
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_queues=[Queue(QUEUE)],
        task_default_queue=QUEUE,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4,
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 4},
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    register(app, processes)
    step = type("Sweeper", (SweeperStep,), {"processes": processes, "embedding": embedding})
    app.steps["worker"].add(step)
    _obey_signals(processes, settings)
    return app


def _obey_signals(processes: Processes, settings: Settings) -> None:
    def stop(**_: Any) -> None:
        # Celery tells only the master; the pool's processes see the stop sign before each claim and each send.
        processes.stop.set()

    def set_up_logs(**_: Any) -> None:
        logs.configure(settings.log_format)

    def keep_shared(**_: Any) -> None:
        # What a process loads after its fork it has for itself: the driver alone is 7 MB of each.
        load_driver(settings.database_url.get_secret_value())
        # A collection writes to every object it looks at, so each process would get a copy of all that was loaded.
        gc.collect()
        gc.freeze()

    signals.worker_shutting_down.connect(stop, weak=False)
    signals.worker_before_create_process.connect(keep_shared, weak=False)
    signals.setup_logging.connect(set_up_logs, weak=False)
    signals.worker_process_shutdown.connect(lambda **_: processes.close(), weak=False)
    signals.worker_init.connect(lambda **_: processes.stop.clear(), weak=False)


app = make_app(load_settings())
