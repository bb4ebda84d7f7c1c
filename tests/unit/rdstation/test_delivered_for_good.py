"""Real: the client. Doubled: the event endpoint, which accepts, and the tokens, whose store goes away afterwards."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from dispatcher.policy.outcome import Outcome, Stage
from dispatcher.rdstation.access_tokens import Renewal
from dispatcher.rdstation.client import Client

RECEIVED = Outcome(Stage.ANSWERED, status=200, event_uuid="uuid-of-rd")


class Accepting:
    def post_event(self, *_: Any, **__: Any) -> Outcome:
        return RECEIVED


class Forgetful:
    def token_for(self, *_: Any, **__: Any) -> Renewal:
        return Renewal(SecretStr("a token"))

    def worked(self, *_: Any) -> None:
        raise ConnectionError("the database went away")


def test_a_store_that_goes_away_after_the_answer_does_not_cost_the_answer() -> None:
    client = Client(Accepting(), Forgetful())  # type: ignore[arg-type]  # doubles of what is used
    assert client.send("default", b"{}", remaining=lambda: 30.0) == RECEIVED
