"""Chats and calls (rdstation-api.md §3.6, §3.7). Their enumerations are not documented: any text that is not blank."""

from typing import ClassVar

from pydantic import Field

from dispatcher.events.event import Event
from dispatcher.events.fields import FilledText, Moment, Seconds, Text, Url
from dispatcher.events.parts import LegalBases
from dispatcher.events.rules import Rules


class _Chat(Event):
    """What both chat types have in common."""

    chat_subject: FilledText
    cf_chat_status: FilledText = Field(description="For example online.")
    cf_chat_type: Text | None = None
    cf_birthdate: Text | None = None
    cf_gender: Text | None = None
    name: Text | None = None
    job_title: Text | None = None
    personal_phone: Text | None = None
    mobile_phone: Text | None = None
    twitter: Text | None = None
    facebook: Text | None = None
    linkedin: Text | None = None
    website: Text | None = None
    company_name: Text | None = None
    company_site: Text | None = None
    legal_bases: LegalBases | None = None


class ChatStarted(_Chat):
    """A chat with the lead began. Needs an explicit key."""

    event_type = "CHAT_STARTED"
    rules = Rules(
        uncertain="hold", key_advice="A lead may chat many times: name this one, e.g. CHAT_STARTED:{id of the chat}."
    )
    EXAMPLE: ClassVar = {"email": "ana@cliente.example", "chat_subject": "Troca", "cf_chat_status": "online"}


class ChatFinished(_Chat):
    """A chat with the lead ended. Needs an explicit key."""

    event_type = "CHAT_FINISHED"
    rules = Rules(
        uncertain="hold", key_advice="A lead may chat many times: name this one, e.g. CHAT_FINISHED:{id of the chat}."
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "chat_subject": "Troca",
        "cf_chat_status": "offline",
        "cf_chat_transcript_message": "Ana: posso trocar o tamanho?",
    }

    cf_chat_transcript_message: FilledText


class CallFinished(Event):
    """A call with the lead ended. Needs an explicit key."""

    event_type = "CALL_FINISHED"
    rules = Rules(
        uncertain="hold", key_advice="A lead may call many times: name this call, e.g. CALL_FINISHED:{id of the call}."
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "call_from_number": "+5548999990000",
        "call_status": "Finalizada",
        "call_started_at": "2026-03-02T10:00:05-03:00",
        "call_duration": "95",
        "call_type": "Inbound",
    }

    call_from_number: FilledText
    call_status: FilledText
    name: Text | None = None
    company_name: Text | None = None
    company_site: Text | None = None
    job_title: Text | None = None
    personal_phone: Text | None = None
    call_user_email: Text | None = Field(default=None, description="The agent's.")
    call_started_at: Moment | None = None
    call_duration: Seconds | None = None
    call_type: FilledText | None = Field(default=None, description="Inbound or Outbound.")
    call_status_description: Text | None = None
    call_phone_type: Text | None = None
    call_carrier: Text | None = None
    call_record: Url | None = Field(default=None, description="The recording.")
    legal_bases: LegalBases | None = None
