"""Audio and video that a lead plays (rdstation-api.md §3.8)."""

from typing import ClassVar

from pydantic import Field

from dispatcher.events.event import Event
from dispatcher.events.fields import Count, FilledText, Flag, Moment, Text, Url
from dispatcher.events.parts import LegalBases
from dispatcher.events.rules import Rules


class _Playback(Event):
    """What both have in common."""

    media_type: FilledText = Field(description="For example Áudio or Video; the accepted words are not documented.")
    media_identifier: FilledText
    name: Text | None = None
    company_name: Text | None = None
    company_site: Text | None = None
    job_title: Text | None = None
    personal_phone: Text | None = None
    mobile_phone: Text | None = None
    twitter: Text | None = None
    facebook: Text | None = None
    linkedin: Text | None = None
    website: Text | None = None
    media_metadata: Url | None = None
    media_recorded_content: Flag | None = None
    media_category: Text | None = None
    media_duration: Count | None = Field(default=None, description="Seconds.")
    media_published_date_timestamp: Moment | None = None
    legal_bases: LegalBases | None = None


class MediaPlaybackStarted(_Playback):
    """The lead began to play a medium. Needs an explicit key."""

    event_type = "MEDIA_PLAYBACK_STARTED"
    rules = Rules(
        uncertain="hold",
        key_advice="A lead may play it again: name this time, e.g. MEDIA_PLAYBACK_STARTED:{id of the session}.",
    )
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "media_type": "Áudio", "media_identifier": "podcast-12"}


class MediaPlaybackStopped(_Playback):
    """The lead stopped playing a medium. Needs an explicit key."""

    event_type = "MEDIA_PLAYBACK_STOPPED"
    rules = Rules(
        uncertain="hold",
        key_advice="A lead may play it again: name this time, e.g. MEDIA_PLAYBACK_STOPPED:{id of the session}.",
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "media_type": "Áudio",
        "media_identifier": "podcast-12",
        "media_duration": 1800,
        "media_finished": False,
        "media_user_interaction_duration": 95,
        "media_user_interaction_percentage": 5,
        "media_user_interaction_date_timestamp": "2026-03-02T10:00:05-03:00",
    }

    media_finished: Flag | None = None
    media_user_interaction_duration: Count | None = Field(default=None, description="Seconds.")
    media_user_interaction_percentage: Count | None = None
    media_user_interaction_date_timestamp: Text | None = None
