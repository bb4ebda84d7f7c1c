"""The whole path of one event to RD Station: a token, the request, and after a 401 one refresh and one more request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from pydantic import SecretStr

from dispatcher.policy.batch import BatchOutcome
from dispatcher.policy.outcome import Outcome, Stage, TransportFailure
from dispatcher.rdstation.access_tokens import AccessTokens, Remaining
from dispatcher.rdstation.api_keys import CONVERSION, ApiKeys
from dispatcher.rdstation.batch_api import BatchApi, Envelope
from dispatcher.rdstation.events_api import EventsApi

SECOND_SEND_SECONDS = 5.0
"""A second request is not begun with less time than this: cut off midway it would be uncertain for no reason."""


class Client:
    """Sends events for accounts. Serves many threads.

    Args:
        events: The event endpoint.
        tokens: Where access tokens come from.
        batches: The batch endpoint; None: this client sends single events only.
        keys: The accounts' API keys; None: every event goes with an access token.
    """

    def __init__(
        self, events: EventsApi, tokens: AccessTokens, batches: BatchApi | None = None, keys: ApiKeys | None = None
    ) -> None:
        self._events = events
        self._tokens = tokens
        self._batches = batches
        self._keys = keys

    def prepare(self, accounts: Collection[str], converting: Collection[str] = ()) -> None:
        """Read at once what the next sends of these accounts need. Raises nothing: each send asks again for itself.

        Args:
            accounts: Whose events will go.
            converting: Of these, those with a conversion among them: it may go with the account's API key.
        """
        with suppress(Exception):
            self._tokens.prepare(accounts)
        with suppress(Exception):
            if self._keys is not None and converting:
                self._keys.prepare(converting)

    def goes_by_key(self, account: str, event_type: str) -> bool:
        """True if events of this type go with the account's API key. The store's errors pass."""
        if self._keys is None or event_type != CONVERSION or self._keys.of(account) is None:
            return False
        return self._keys.preferred or not self._tokens.has_tokens(account)

    def send(
        self, account: str, body: bytes, *, remaining: Remaining, private: Iterable[str] = (), event_type: str = ""
    ) -> Outcome:
        """Send one event. Raises nothing for anything that the network or RD Station does; the store's errors pass.

        Args:
            account: In whose name.
            body: From `events_api.build_body`.
            remaining: Seconds left for all of it; asked again before each step.
            private: Values to remove from every stored text, above all the event's own e-mail.
            event_type: A conversion may go with the account's API key.

        Returns:
            The facts. A 401 is final: either the token could not be renewed (`detail` says why), or the renewed one
            was refused as well (`refreshed`). `TransportFailure.CREDENTIALS`: there was no token to try.
        """
        if self._keys is not None and self.goes_by_key(account, event_type):
            key = self._keys.of(account)
            if key is not None:
                return self._events.post_conversion(key, body, seconds=remaining(), private=private)
        return self._carry(
            account,
            lambda token: self._events.post_event(token, body, seconds=remaining(), private=private),
            remaining,
        )

    def send_together(self, account: str, envelopes: Sequence[Envelope], *, remaining: Remaining) -> BatchOutcome:
        """Send several events of an account in one request; as `send` otherwise. `whole` is what `send` returns."""
        batches, outcomes = self._batches, list[BatchOutcome]()
        if batches is None:
            raise ValueError("a client without the batch endpoint was asked for a batch")

        def post(token: SecretStr) -> Outcome:
            outcomes.append(batches.post_events(token, envelopes, seconds=remaining()))
            return outcomes[-1].whole

        whole = self._carry(account, post, remaining)
        return replace(outcomes[-1], whole=whole) if outcomes else BatchOutcome(whole)

    def _carry(self, account: str, post: Callable[[SecretStr], Outcome], remaining: Remaining) -> Outcome:
        first = self._tokens.token_for(account, remaining=remaining)
        if first.token is None:
            by_key = self._keys is not None and self._keys.of(account) is not None
            why_not = f"{first.why_not} (its API key is for conversions only)" if by_key else first.why_not
            failure = TransportFailure.CREDENTIALS
            return Outcome(Stage.NOT_CONNECTED, failure=failure, detail=why_not, by_key=by_key)
        outcome = post(first.token)
        if outcome.status != 401:
            self._note(account, first.token, outcome)
            return outcome

        second = self._tokens.renew(account, first.token, remaining=remaining)
        if second.token is None:
            return outcome._replace(detail="; ".join(filter(None, (outcome.detail, second.why_not))))
        if remaining() < SECOND_SEND_SECONDS:
            # The 401 says for certain that the event was not taken, and the account is well again.
            return Outcome(
                Stage.NOT_CONNECTED,
                failure=TransportFailure.DEADLINE,
                detail="the access token was renewed after a 401; too little time was left to send again",
                seconds=outcome.seconds,
                refreshed=True,
            )
        again = post(second.token)
        if again.status == 401:
            self._tokens.refused_anew(account)
        self._note(account, second.token, again)
        return again._replace(refreshed=True, seconds=outcome.seconds + again.seconds)

    def _note(self, account: str, token: SecretStr, outcome: Outcome) -> None:
        if outcome.status is not None and outcome.status // 100 == 2:  # a gateway's 429 or 5xx proves nothing
            with suppress(Exception):  # the event is delivered; a store that is away now must not make that uncertain
                self._tokens.worked(account, token)
