"""One attempt, from a claimed event to a settlement: send, judge, decide. The only place where the three meet."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa

from dispatcher import telemetry
from dispatcher.clock import Clock
from dispatcher.errors import ConfigurationError
from dispatcher.events import rules_for
from dispatcher.events.uncertain import UncertainPolicy
from dispatcher.outbox.claimed import Claimed
from dispatcher.outbox.settlement import Settlement
from dispatcher.outbox.sweep import Abandoned
from dispatcher.policy.decision import Budget, EventFacts, decide
from dispatcher.policy.effects import CloseWindow, SuspendAccount, effects_of
from dispatcher.policy.outcome import Outcome, Stage, TransportFailure
from dispatcher.policy.verdict import Judgement, abandoned, batch_refused, judge, released
from dispatcher.rdstation.api_keys import CONVERSION
from dispatcher.rdstation.client import Client
from workers.forms import Form, Formless, form_of

T = TypeVar("T")

_EMAIL = re.compile(r'"email":\s*"((?:[^"\\]|\\.)*)"')
_HOLD_SECONDS = 5.0
_AS_THE_TYPE_SAYS = UncertainPolicy()


class Attempting:
    """Makes the attempts of one process. Serves many threads.

    Args:
        client: Sends.
        budget: When to give up.
        clock: For deadlines.
        rng: For jitter.
        on_uncertain: What follows for a type when an event of it may have arrived.
    """

    def __init__(
        self,
        client: Client,
        budget: Budget,
        *,
        clock: Clock,
        rng: random.Random,
        on_uncertain: UncertainPolicy = _AS_THE_TYPE_SAYS,
    ) -> None:
        self._client = client
        self._budget = budget
        self._clock = clock
        self._rng = rng
        self._on_uncertain = on_uncertain
        self._held: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def prepare(self, events: Sequence[Claimed]) -> None:
        """Read at once what the sends of these events need of their accounts. Raises nothing."""
        converting = {event.account for event in events if event.event_type == CONVERSION}
        self._client.prepare({event.account for event in events}, converting)

    def make(self, event: Claimed, seconds: float) -> Settlement:
        """Send the event within so many seconds, judge and decide. Raises nothing."""
        held = self.hold(event.account)
        if held is not None:
            return self.unsent(event, held)
        form = form_of(event)
        if isinstance(form, Formless):
            return self.settlement(event, form.judgement, form.outcome)
        outcome = self._send(event, form, seconds)
        if isinstance(outcome, Judgement):
            return self.settlement(event, outcome, Outcome(Stage.NOT_CONNECTED))
        return self.settlement(event, self.judged(form, outcome), outcome, form)

    def judged(self, form: Form, outcome: Outcome) -> Judgement:
        """What came of a request in which the event had this form."""
        retired = rules_for(form.event_type).retired is not None
        judgement = judge(outcome, event_type=form.event_type, retired=retired)
        return judgement._replace(why=f"{judgement.why}; {form.note}") if form.note else judgement

    def unsent(self, event: Claimed, why: str) -> Settlement:
        """Give the event back: nothing was sent."""
        judgement = batch_refused(why) if event.alone else released(why)  # what has to go alone stays marked so
        return self.settlement(event, judgement, Outcome(Stage.NOT_CONNECTED))

    def _send(self, event: Claimed, form: Form, seconds: float) -> Outcome | Judgement:
        deadline = self._clock.monotonic() + seconds
        return guarded(
            lambda: self._client.send(
                event.account,
                form.body,
                remaining=lambda: deadline - self._clock.monotonic(),
                private=emails_in(event.payload),
                event_type=event.event_type,
            )
        )

    def settlement(
        self, event: Claimed, judgement: Judgement, outcome: Outcome | None, form: Form | None = None
    ) -> Settlement:
        """What becomes of the event, and of its account, after this judgement; in which form it went, if it did."""
        facts = EventFacts(
            event_type=event.event_type,
            lead=event.lead,
            failures=event.failures,
            age_seconds=event.age_seconds,
            on_uncertain=self._on_uncertain(event.event_type),
            unreachable_streak=event.postponed,
            translatable=event.retired is not None and event.retired.translatable,
            probe=event.probe,
        )
        settlement = Settlement(
            held=event.held,
            account=event.account,
            event_type=event.event_type,
            key=event.key,
            verdict=judgement.verdict,
            decision=decide(judgement, facts, self._budget, self._rng),
            effects=effects_of(judgement, facts),
            outcome=outcome,
            why=judgement.why,
            quota=event.quota,
            sent_as=form.event_type if form is not None and form.event_type != event.event_type else None,
        )
        self._note(settlement)
        return settlement

    def hold(self, account: str) -> str | None:
        """Why this process should not even try for the account now: the fleet learns of it with the settlement."""
        with self._lock:
            until, why = self._held.get(account, (0.0, ""))
            if until > self._clock.monotonic():
                return why
            self._held.pop(account, None)
            return None

    def _note(self, settlement: Settlement) -> None:
        for effect in settlement.effects:
            if isinstance(effect, SuspendAccount | CloseWindow):
                seconds = effect.seconds if isinstance(effect, CloseWindow) else _HOLD_SECONDS
                with self._lock:
                    until = self._clock.monotonic() + min(seconds, _HOLD_SECONDS)
                    self._held[settlement.account] = (until, f"another send of the account was {settlement.verdict}")


def emails_in(payload: str) -> list[str]:
    """Every e-mail address of a payload, as its JSON spells it: what must not appear in a stored text."""
    return _EMAIL.findall(payload)


def guarded(send: Callable[[], T]) -> T | Outcome | Judgement:
    """Run a send that raises only for defects and for what surrounds the network, and make facts of that too."""
    try:
        return send()
    except ConfigurationError as error:  # no key opens the stored tokens: as good as none
        return Outcome(Stage.NOT_CONNECTED, failure=TransportFailure.CREDENTIALS, detail=str(error))
    except sa.exc.SQLAlchemyError as error:  # of the token store: before the send, or after a 401
        return released(f"the account's tokens could not be read or stored ({telemetry.where(error)})")
    except Exception as error:  # noqa: BLE001 - a thread that dies would hold its event until the lease ends
        detail = f"{type(error).__name__} inside the dispatcher while sending; whether it left is not known"
        return Outcome(Stage.WRITTEN, failure=TransportFailure.PROTOCOL, detail=detail)


def abandon(
    found: Abandoned, budget: Budget, rng: random.Random, on_uncertain: UncertainPolicy = _AS_THE_TYPE_SAYS
) -> Settlement:
    """The settlement of an attempt whose worker died, by the same decision."""
    judgement = abandoned()
    facts = EventFacts(
        event_type=found.event_type,
        lead=found.lead,
        failures=found.failures,
        age_seconds=found.age_seconds,
        on_uncertain=on_uncertain(found.event_type),
        abandoned_before=found.abandoned_before,
    )
    return Settlement(
        held=found.held,
        account=found.account,
        event_type=found.event_type,
        key=found.key,
        verdict=judgement.verdict,
        decision=decide(judgement, facts, budget, rng),
        effects=effects_of(judgement, facts),
        why=judgement.why,
    )
