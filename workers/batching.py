"""Several events in one request: which ones, what came of it, what of it goes again. One event: `attempts.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dispatcher.clock import Clock
from dispatcher.errors import ConfigurationError
from dispatcher.events import may_share_a_request
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settlement import Settlement
from dispatcher.policy.batch import BatchOutcome, Judged, Resolution, once_per_request, resolve
from dispatcher.policy.bisection import Part, Parts, after_passing, after_refusal
from dispatcher.policy.effects import RestBreaker
from dispatcher.policy.outcome import Outcome, Stage
from dispatcher.policy.packing import Bounds, pack
from dispatcher.policy.verdict import Judgement
from dispatcher.policy.verdicts import Verdict
from dispatcher.rdstation.batch_api import Envelope, is_object
from dispatcher.rdstation.client import Client
from dispatcher.rdstation.events_api import build_body
from workers.attempts import Attempting, emails_in, guarded

_SAYS_NOTHING_OF_THE_REST = frozenset({Verdict.DELIVERED, Verdict.REJECTED, Verdict.LEAD_THROTTLED})


@dataclass(frozen=True, slots=True)
class Made:
    """What came of one request with several events.

    Attributes:
        settlements: Of its events, and of those leased with them that will not be sent.
        again: Parts of them to be leased anew with these settlements, and sent first.
        waiting: Parts that are leased already and come after those.
        leases_end: Of the waiting ones, on the monotonic clock.
    """

    settlements: list[Settlement]
    again: Parts[Claimed] = ()
    waiting: Parts[Claimed] = ()
    leases_end: float = 0.0


class Batching:
    """Makes the attempts of several events at once. Serves many threads.

    Args:
        client: Sends; made with the batch endpoint.
        attempting: Decides for each event.
        bounds: Of one request.
        clock: For deadlines.
    """

    def __init__(self, client: Client, attempting: Attempting, bounds: Bounds, *, clock: Clock) -> None:
        self._client = client
        self.attempting = attempting
        self._clock = clock
        self.bounds = bounds

    def share(self, events: Sequence[Claimed]) -> list[tuple[Claimed, ...]]:
        """Which claimed events go in one request, account by account, each account's in its order."""
        accounts: dict[str, list[Claimed]] = {}
        for event in events:
            accounts.setdefault(event.account, []).append(event)
        return [
            tuple(of_one[position] for position in positions)
            for of_one in accounts.values()
            for positions in pack([None if self._goes_by_key(event) else _size(event) for event in of_one], self.bounds)
        ]

    def _goes_by_key(self, event: Claimed) -> bool:
        """True if it goes to another endpoint, which takes single events only; also if nobody can tell now."""
        try:
            return self._client.goes_by_key(event.account, event.event_type)
        except (sa.exc.SQLAlchemyError, ConfigurationError):
            return True

    def make(self, parts: Parts[Claimed], leases_end: float) -> Made:
        """Send the first part, all of it in one request, and say what goes next. Raises nothing."""
        events, rest = parts[0].members, parts[1:]
        held = self.attempting.hold(events[0].account)
        if held is not None:
            return self.unsent(parts, held)
        resolution = self._send(events, leases_end)
        settlements = self._settlements(events, resolution.judged)
        again = tuple(
            Part(tuple(events[position] for position in part.members), part.heir) for part in resolution.again
        )
        waiting = _next(rest, {settlement.verdict for settlement in settlements})
        kept = {event.id for part in waiting for event in part.members}
        dropped = [event for part in rest for event in part.members if event.id not in kept]
        settlements += [self.attempting.unsent(event, "what is left of its batch goes alone") for event in dropped]
        return Made(settlements, again, waiting, leases_end)

    def unsent(self, parts: Parts[Claimed], why: str) -> Made:
        """Give all of them back without a try."""
        return Made([self.attempting.unsent(event, why) for part in parts for event in part.members])

    def _send(self, events: Sequence[Claimed], leases_end: float) -> Resolution:
        def send() -> BatchOutcome:
            envelopes = [
                Envelope(build_body(event.event_type, event.payload), tuple(emails_in(event.payload)))
                for event in events
            ]
            return self._client.send_together(
                events[0].account, envelopes, remaining=lambda: leases_end - self._clock.monotonic()
            )

        outcome = guarded(send)
        if isinstance(outcome, Judgement):
            return Resolution(tuple(Judged(outcome, Outcome(Stage.NOT_CONNECTED)) for _ in events))
        if isinstance(outcome, Outcome):
            outcome = BatchOutcome(outcome)
        return resolve(outcome, [event.event_type for event in events])

    def _settlements(self, events: Sequence[Claimed], judged: Sequence[Judged]) -> list[Settlement]:
        made = [
            self.attempting.settlement(event, one.judgement, one.outcome)
            for event, one in zip(events, judged, strict=True)
        ]
        answered = (RestBreaker(),)  # RD Station was there to refuse the batch
        effects = once_per_request(
            answered if settlement.verdict is Verdict.BATCH_REFUSED else settlement.effects for settlement in made
        )
        return [settlement._replace(effects=of_one) for settlement, of_one in zip(made, effects, strict=True)]


def _next(waiting: Parts[Claimed], verdicts: set[Verdict]) -> Parts[Claimed]:
    """What of the parts that wait is sent after a part with these verdicts; the others go alone."""
    if verdicts == {Verdict.DELIVERED}:
        return after_passing(waiting)
    if Verdict.BATCH_REFUSED in verdicts or verdicts <= _SAYS_NOTHING_OF_THE_REST:
        return after_refusal(waiting)
    return ()  # trouble of the account or the network: not a moment to go on with a search


def _size(event: Claimed) -> int | None:
    """The bytes of its envelope; None if it goes alone: to spare its neighbours, or because a batch must not hold it.

    An event that failed before goes alone: one that makes RD Station fail would spend its neighbours' budgets.
    """
    alone = event.alone or event.probe or event.failures > 0 or not may_share_a_request(event.event_type)
    if alone or not is_object(event.payload):
        return None
    try:
        return len(build_body(event.event_type, event.payload))
    except ValueError:
        return None
