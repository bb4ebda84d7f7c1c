"""The objects inside payloads (rdstation-api.md §3.1, §3.5)."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from dispatcher.events import problems
from dispatcher.events.fields import Amount, Categories, PositiveCount, Text, Url, listed
from dispatcher.events.problems import NOT_BLANK


class Part(BaseModel):
    """The base of the objects inside payloads; a plain dict is taken in their place.

    Raises:
        InvalidEvent: From the constructor, with every problem and its path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    def __init__(self, **data: Any) -> None:
        found = []
        try:
            super().__init__(**data)
        except ValidationError as error:
            found = list(problems.from_pydantic(error, "$"))
        if found:
            raise problems.refuse(found)

    # Inside an event pydantic fills a part without calling __init__, so that the event reports all problems at once.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # pydantic's own mark, as on RootModel


class LegalBasis(Part):
    """Why this lead may be written to (LGPD)."""

    category: Literal["communications"] = Field(description="The only category of the current API.")
    type: Literal[
        "pre_existent_contract", "consent", "legitimate_interest", "judicial_process", "vital_interest",
        "public_interest",
    ]  # fmt: skip
    status: Literal["granted", "declined"]


ProductId = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=150, pattern=NOT_BLANK)]
ProductTitle = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=255, pattern=NOT_BLANK)]


class LineItem(Part):
    """One product line of an order or a cart."""

    product_id: ProductId
    product_title: ProductTitle
    price: Amount = Field(description="Of one unit.")
    quantity: PositiveCount
    product_url: Url | None = None
    image_url: Url | None = None
    variant_id: Text | None = None
    variant_title: Text | None = None
    sku: Text | None = None
    categories: Categories | None = None


LegalBases = Annotated[Sequence[LegalBasis], BeforeValidator(listed), AfterValidator(tuple)]
MAX_LINES: Final = 20
LineItems = Annotated[Sequence[LineItem], Field(max_length=MAX_LINES), BeforeValidator(listed), AfterValidator(tuple)]
"""At most 20; send the first ones of a longer order and keep its totals whole (rdstation-api.md §3.5)."""
