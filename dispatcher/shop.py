"""The shop's composition root: which bell its process rings, and where its settings and keys come from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispatcher import embedded
from dispatcher.bell import BackgroundBell, KombuPublisher, Publisher, Unheard
from dispatcher.errors import ConfigurationError
from dispatcher.outbox import ringing, sealing
from dispatcher.outbox.ringing import Bell

if TYPE_CHECKING:  # reading settings costs 150 ms, which belong to the thread that rings, not to `import dispatcher`
    from pydantic import SecretStr

    from dispatcher.settings import Settings


def connect(settings: Settings | None = None, *, bell: Bell | None = None) -> None:
    """Choose the bell and the keys of this process. Optional: without a call, both follow the `DISPATCHER_` settings.

    Nothing is read, opened or checked now. The first bell loads the settings, in its own thread; a mistake in them
    never reaches the shop's code, it is logged as `bell.lost` and sweeps find the work instead. Call it as often as
    you like; the last call counts.

    Args:
        settings: Instead of the environment and `.env`.
        bell: Instead of the broker: anything with `ring(accounts)`, for example in a test.
    """
    ringing.install(bell if bell is not None else _bell_of(settings))
    sealing.install(lambda: _keys_of(settings))


def _keys_of(settings: Settings | None) -> Sequence[SecretStr]:
    """The encryption keys, read when the first sealed text is met; an outbox that seals nothing never asks."""
    from dispatcher.outbox.vault import keys_at_hand  # see the top
    from dispatcher.settings import load_settings

    settings = settings or load_settings()
    return keys_at_hand(settings.encryption_keys, settings.sqlite_path)


class _Line:
    """Opens connections to the broker that the settings name; reads them once, and again after a mistake in them."""

    def __init__(self, settings: Settings | None) -> None:
        self.settings = settings

    def __call__(self) -> Publisher:
        if self.settings is None:
            from dispatcher.settings import load_settings  # see the top

            self.settings = load_settings()
        return KombuPublisher(_broker_url(self.settings))


def _broker_url(settings: Settings) -> str:
    if settings.broker_url is not None:
        return settings.broker_url.get_secret_value()
    if settings.sqlite_path is None:
        raise ConfigurationError(
            "DISPATCHER_BROKER_URL is not set, and the embedded broker stands beside a SQLite file only: "
            "set it to the broker of your workers, such as redis://host:6379/0"
        )
    address = embedded.address(settings.sqlite_path)  # read anew for each connection: the next owner may move
    if address is None:
        raise Unheard
    return address


@functools.cache  # the same settings ring the same bell: `connect` twice is one thread and one connection
def _bell_of(settings: Settings | None) -> BackgroundBell:
    return BackgroundBell(_Line(settings))


connect()
