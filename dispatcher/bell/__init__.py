"""Bells on their way from a process to the broker: bounded, coalesced, best effort.

A bell is a message that says "there may be work", with an account as a hint. It carries nothing else, may be lost at
any time, and never delays who rings it. Nothing here knows Celery or SQL; kombu is imported by the thread that rings.
"""

from dispatcher.bell.background import BackgroundBell
from dispatcher.bell.courier import Courier, Stats
from dispatcher.bell.kombu_publisher import KombuPublisher
from dispatcher.bell.message import QUEUE, TASK
from dispatcher.bell.publisher import Publisher, Unheard

__all__ = ["QUEUE", "TASK", "BackgroundBell", "Courier", "KombuPublisher", "Publisher", "Stats", "Unheard"]
