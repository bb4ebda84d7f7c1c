"""The facts of a request with several events, and what they mean for each of them. `verdict.py` judges single ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispatcher.policy.bisection import Parts, halves, together
from dispatcher.policy.effects import (
    CloseWindow,
    Effect,
    Effects,
    FeedBreaker,
    RestBreaker,
    StrangeAnswer,
    SuspendAccount,
    SuspendType,
)
from dispatcher.policy.outcome import Outcome, ProviderError
from dispatcher.policy.verdict import HoldScope, Judgement, batch_refused, judge
from dispatcher.policy.verdicts import Verdict

_ITEM_REFUSED = 400
"""What an error beside an event in a 2xx is judged as; no status comes with it (rdstation-api.md §2.2)."""


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What happened to one request with several events.

    Attributes:
        whole: The facts of the request.
        results: How many results a 2xx had; None if it was no list of them.
        items: The facts of each event by position, if there were as many results as events; else empty.
        blamed: The errors of each position that a refusal names; empty unless every error names one.
        limited: The positions of the lead that the lead limiter names; empty if it names none of them.
    """

    whole: Outcome
    results: int | None = None
    items: tuple[Outcome, ...] = ()
    blamed: dict[int, tuple[ProviderError, ...]] | None = None
    limited: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """One event's judgement, with the facts that are kept beside it."""

    judgement: Judgement
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a request means for its events.

    Attributes:
        judged: By position.
        again: Positions to send again at once, part by part; of a refused batch, the others go alone.
    """

    judged: tuple[Judged, ...]
    again: Parts[int] = ()


def resolve(outcome: BatchOutcome, event_types: Sequence[str]) -> Resolution:
    """What the request came to for each of its events. Total: nothing is raised.

    Args:
        outcome: The facts.
        event_types: By position. None of them is retired: those travel alone.
    """
    if outcome.whole.status is not None and outcome.whole.status // 100 == 2:
        return Resolution(_accepted(outcome, event_types))
    whole = judge(outcome.whole, event_type=" and ".join(sorted(set(event_types))), retired=False)
    everybody = range(len(event_types))
    match whole.verdict:
        case Verdict.REJECTED if outcome.blamed:
            innocent = [position for position in everybody if position not in outcome.blamed]
            return Resolution(_refused(whole, outcome, event_types), together([innocent]))
        case Verdict.REJECTED:
            return Resolution(_refused(whole, outcome, event_types), halves(everybody, one_is_bad=True))
        case Verdict.TOO_LARGE:
            return Resolution(_refused(whole, outcome, event_types), halves(everybody, one_is_bad=False))
        case Verdict.REFUSED if whole.scope is HoldScope.TYPE and len(set(event_types)) > 1:
            return Resolution(_refused(whole, outcome, event_types), together(_by_type(event_types)))
        case Verdict.LEAD_THROTTLED:
            return _lead_throttled(whole, outcome, event_types)
        case _:
            said = _said(whole, event_types)
            return Resolution(tuple(Judged(said, outcome.whole) for _ in everybody))


def once_per_request(effects: Iterable[Effects]) -> list[Effects]:
    """The effects of a batch's events, in their order, without repeating what concerns the one request."""
    kept: list[Effects] = []
    seen: set[object] = set()
    for of_one in effects:
        fresh = tuple(effect for effect in of_one if _about(effect) not in seen)
        seen.update(about for effect in fresh if (about := _about(effect)) is not None)
        kept.append(fresh)
    return kept


def _about(effect: Effect) -> object:
    """What makes two effects of one request the same; None if each event's own counts."""
    match effect:
        case FeedBreaker() | RestBreaker() | StrangeAnswer() | CloseWindow() | SuspendAccount():
            return type(effect)
        case SuspendType(event_type):
            return event_type
        case _:
            return None


def _accepted(outcome: BatchOutcome, event_types: Sequence[str]) -> tuple[Judged, ...]:
    status = outcome.whole.status
    if outcome.items:
        return tuple(
            Judged(_item(item, event_type), item) for item, event_type in zip(outcome.items, event_types, strict=True)
        )
    if outcome.results is None:  # as the same answer to a single event
        said = _said(judge(outcome.whole, event_type="", retired=False), event_types)
    else:
        counts = f"{outcome.results} results for {len(event_types)} events"
        said = Judgement(
            Verdict.UNCERTAIN, f"RD Station answered {status} with {counts}: which of them it took is not known"
        )
    return tuple(Judged(said, outcome.whole) for _ in event_types)


def _item(item: Outcome, event_type: str) -> Judgement:
    if item.event_uuid:
        return judge(item, event_type=event_type, retired=False)
    if item.errors:
        said = judge(item._replace(status=_ITEM_REFUSED), event_type=event_type, retired=False)
        return said._replace(why=f"in a batch that was answered {item.status}, for this event alone: {said.why}")
    return Judgement(
        Verdict.UNCERTAIN,
        f"RD Station answered {item.status} to the batch, with neither receipt nor error for this event",
    )


def _refused(whole: Judgement, outcome: BatchOutcome, event_types: Sequence[str]) -> tuple[Judged, ...]:
    """The mark for all; errors stay with the events that they name."""
    blamed = outcome.blamed or {}
    bare = outcome.whole._replace(excerpt=None)
    said = batch_refused(f"refused as one of a batch of {len(event_types)}: {whole.why}")
    return tuple(Judged(said, bare._replace(errors=blamed.get(at, ()))) for at in range(len(event_types)))


def _lead_throttled(whole: Judgement, outcome: BatchOutcome, event_types: Sequence[str]) -> Resolution:
    refused = _refused(whole, outcome, event_types)
    if not outcome.limited:
        return Resolution(refused, halves(range(len(event_types)), one_is_bad=True))
    said = _said(whole, event_types)
    others = [at for at in range(len(event_types)) if at not in outcome.limited]
    judged = tuple(
        Judged(said, outcome.whole) if at in outcome.limited else refused[at] for at in range(len(event_types))
    )
    return Resolution(judged, together([others]))


def _by_type(event_types: Sequence[str]) -> list[list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for position, event_type in enumerate(event_types):
        groups[event_type].append(position)
    return list(groups.values())


def _said(judgement: Judgement, event_types: Sequence[str]) -> Judgement:
    return judgement._replace(why=f"in a batch of {len(event_types)}: {judgement.why}")
