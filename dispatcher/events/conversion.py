"""CONVERSION: whatever a lead did, with the account's own custom fields (rdstation-api.md §3.2)."""

import re
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, StringConstraints

from dispatcher.events.event import Event
from dispatcher.events.fields import CustomValue, Flag, Phone, Tags, Text
from dispatcher.events.parts import LegalBases
from dispatcher.events.problems import NOT_BLANK
from dispatcher.events.rules import Rules

CUSTOM_FIELD = re.compile(r"cf_[^\s\x00-\x1f\x7f@\ud800-\udfff]{1,252}")
"""The `api_identifier` of a custom field. RD Station drops the ones that the account does not have, without a word."""


class Conversion(Event):
    """A lead converted. Custom fields are passed by their `api_identifier`: `Conversion(…, cf_tamanho="M")`.

    RD Station would drop any other undocumented field silently; here it is refused. Needs an explicit key.
    """

    model_config = ConfigDict(extra="allow")

    event_type = "CONVERSION"
    rules = Rules(
        uncertain="hold",
        key_advice="A lead may convert many times: name this one, e.g. CONVERSION:newsletter:{id of the form's post}.",
    )
    EXAMPLE: ClassVar = {
        "email": "ana@cliente.example",
        "conversion_identifier": "newsletter-rodape",
        "name": "Ana Prado",
        "mobile_phone": "+5548999990000",
        "tags": ["newsletter", "loja"],
        "available_for_mailing": True,
        "traffic_source": "google",
        "traffic_medium": "cpc",
        "cf_tamanho": "M",
        "legal_bases": [{"category": "communications", "type": "consent", "status": "granted"}],
    }

    __pydantic_extra__: dict[str, CustomValue] = Field(init=False)

    conversion_identifier: Annotated[
        str, StringConstraints(strict=True, min_length=1, max_length=255, pattern=NOT_BLANK)
    ] = Field(description="The conversion's name in the lead's timeline.")
    phone: Phone | None = None
    name: Text | None = None
    job_title: Text | None = None
    state: Text | None = None
    city: Text | None = None
    country: Text | None = None
    personal_phone: Text | None = None
    mobile_phone: Text | None = None
    twitter: Text | None = None
    facebook: Text | None = None
    linkedin: Text | None = None
    website: Text | None = None
    company_name: Text | None = None
    company_site: Text | None = None
    company_address: Text | None = None
    client_tracking_id: Text | None = Field(default=None, description="The cookie _rdtrk.")
    traffic_source: Text | None = Field(default=None, description="utm_source, or the cookie __trf.src as it is.")
    traffic_medium: Text | None = None
    traffic_campaign: Text | None = None
    traffic_value: Text | None = Field(default=None, description="utm_term.")
    tags: Tags | None = None
    available_for_mailing: Flag | None = None
    legal_bases: LegalBases | None = None

    @classmethod
    def knows(cls, name: str) -> bool:
        """See `Event.knows`; custom fields are known by their form."""
        return super().knows(name) or CUSTOM_FIELD.fullmatch(name) is not None
