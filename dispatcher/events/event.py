"""The base of every typed event: frozen, valid from the start, and able to say what will be sent."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from dispatcher.errors import InvalidEvent, Problem
from dispatcher.events import problems
from dispatcher.events.fields import MAX_BODY_BYTES, Email
from dispatcher.events.fingerprint import fingerprint
from dispatcher.events.keys import join_key, key_problem
from dispatcher.events.rules import Rules


def envelope_json(event_type: str, payload_json: str) -> str:
    """The body of `POST /platform/events` around a payload's JSON text (rdstation-api.md §2.1)."""
    return f'{{"event_type":{json.dumps(event_type)},"event_family":"CDP","payload":{payload_json}}}'


class Event(BaseModel):
    """One event of RD Station's. Subclasses declare the payload's fields and, beside them, the type's rules.

    Raises:
        InvalidEvent: From the constructor, with every problem and its path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    event_type: ClassVar[str]
    rules: ClassVar[Rules]
    EXAMPLE: ClassVar[Mapping[str, Any]]
    """A valid payload, for the docs and the tests."""

    known_fields: ClassVar[frozenset[str]]
    sent_fields: ClassVar[frozenset[str]]
    attached_fields: ClassVar[frozenset[str]]
    """The fields declared with `ATTACHED`; the others are the payload."""

    email: Email

    def __init__(self, **data: Any) -> None:
        kind = type(self)
        found: list[Problem] = []
        if not data.keys() <= kind.known_fields and (odd := [name for name in data if not kind.knows(name)]):
            found.extend(problems.unknown_fields(odd, kind.known_fields, kind.event_type, "$.payload"))
            data = {name: value for name, value in data.items() if kind.knows(name)}
        try:
            super().__init__(**data)
        except ValidationError as error:
            found.extend(problems.from_pydantic(error, "$.payload", kind.attached_fields))
        if not found and (excess := self._excess()):
            found.append(excess)
        if found:
            raise problems.refuse(found)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.known_fields = frozenset(cls.model_fields)
        cls.attached_fields = frozenset(name for name, field in cls.model_fields.items() if field.exclude)
        cls.sent_fields = cls.known_fields - cls.attached_fields

    @classmethod
    def knows(cls, name: str) -> bool:
        """True if the type has such a field, sent or attached."""
        return name in cls.known_fields

    @classmethod
    def key_rule(cls) -> str:
        """The default key as a template, `ORDER_PLACED:{cf_order_id}`; empty if the caller must pass `key`."""
        fields = cls.rules.key_fields
        return join_key(cls.event_type, tuple(f"{{{name}}}" for name in fields)) if fields else ""

    def payload(self) -> dict[str, Any]:
        """What is sent, as plain JSON values; absent fields are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def payload_json(self) -> str:
        """`payload()` as compact JSON text, exactly as it will be sent."""
        return self.model_dump_json(exclude_none=True)

    def attached(self) -> dict[str, Any]:
        """What travels beside the payload and is never sent, as plain JSON values; absent fields are left out."""
        present = {name: value for name in self.attached_fields if (value := getattr(self, name)) is not None}
        plain: dict[str, Any] = to_jsonable_python(present, exclude_none=True) if present else {}
        return plain

    def attached_json(self) -> str | None:
        """`attached()` as JSON text with sorted names; None if there is nothing."""
        attached = self.attached()
        return json.dumps(attached, ensure_ascii=False, sort_keys=True) if attached else None

    def key(self) -> str | None:
        """The default key; None if the type may repeat and the caller must pass one (`rules.key_advice`).

        Raises:
            InvalidEvent: If an identifier cannot be part of a key, with that field's path.
        """
        names = self.rules.key_fields
        if not names:
            return None
        parts: tuple[str, ...] = tuple(getattr(self, name) for name in names)
        key = join_key(self.event_type, parts)
        if key_problem(key) is None:
            return key
        guilty = [(name, problem) for name, part in zip(names, parts, strict=True) if (problem := key_problem(part))]
        if not guilty:  # each part fits, all of them together do not
            guilty = [(names[-1], str(key_problem(key)))]
        raise InvalidEvent(
            Problem(f"$.payload.{name}", f"as part of the default key {problem}; pass key= to enqueue")
            for name, problem in guilty
        )

    def fingerprint(self) -> str:
        """A versioned hash of the payload, the same for the same content (`dispatcher.events.fingerprint`)."""
        return fingerprint(self.payload())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002  # pydantic's signature; nothing inside is mutable
        """A copy with other content, validated like a new event."""
        present = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**present, **(update or {})})

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """No content: an event is full of personal data, and what is printed is logged."""
        return []

    def _excess(self) -> Problem | None:
        if self.attached_fields and (beside := self.attached_json()):
            size = len(beside.encode())
            if size > MAX_BODY_BYTES:
                fields = ", ".join(sorted(self.attached()))
                return Problem("attached", f"is {size} bytes as JSON, at most {MAX_BODY_BYTES} are kept: cut {fields}")
        text = self.payload_json()
        if len(text) < MAX_BODY_BYTES // 8:
            return None
        size = len(envelope_json(self.event_type, text).encode())
        if size <= MAX_BODY_BYTES:
            return None
        return Problem("$", f"is {size} bytes as JSON; RD Station takes at most {MAX_BODY_BYTES}: shorten the payload")
