"""A run in numbers: as JSON, and as a table for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.chaos.checker import MAY_HAVE_ARRIVED, Kind, Violation, copies
from tests.chaos.history import End
from tests.chaos.run import Plan, Played

_SHOWN = 20
"""Violations of one kind that are printed; all are counted."""


def numbers(plan: Plan, played: Played, violations: list[Violation]) -> dict[str, Any]:
    """Everything worth keeping of a run."""
    history = played.history
    ends = Counter(dict.fromkeys(End, 0))
    for transaction_end in {one.transaction: one.end for one in history.enqueued}.values():
        ends[transaction_end] += 1
    doubled = copies(history)
    verdicts = Counter(attempt.verdict for attempt in history.attempts)
    found = Counter(violation.kind for violation in violations)
    return {
        "seed": plan.seed,
        "database": plan.database,
        "broker": plan.broker,
        "seconds": round(played.seconds, 1),
        "committed": len({one.key for one in history.enqueued if one.end is End.COMMITTED}),
        "transactions": {end.value: ends[end] for end in End},
        "states": dict(sorted(Counter(row.state for row in history.rows).items())),
        "reasons": dict(sorted(Counter(row.reason for row in history.rows if row.reason).items())),
        "requests": played.requests,
        "faulty": sum(played.faults.values()),
        "faults": dict(sorted(played.faults.items())),
        "deeds": {deed.value: count for deed, count in sorted(played.deeds.items())},
        "not_played": {deed.value: reason for deed, reason in played.not_played.items()},
        "attempts": dict(sorted(verdicts.items())),
        "copies": doubled.total(),
        "may_explain": sum(verdicts[verdict] for verdict in MAY_HAVE_ARRIVED - {"delivered"}),
        "violations": {kind.value: found[kind] for kind in Kind},
    }


def table(given: dict[str, Any], violations: list[Violation]) -> str:
    """For people; the violations last."""
    share = 100 * given["faulty"] / max(1, given["requests"])
    lines = [
        f"chaos: {given['database']} + {given['broker']}, seed {given['seed']}, {given['seconds']:.0f} s",
        f"  committed events      {given['committed']}",
        f"  transactions          {_words(given['transactions'])}",
        f"  ended                 {_words(given['states'])}",
        f"  reasons               {_words(given['reasons'])}",
        f"  requests              {given['requests']}, of them with a fault {given['faulty']} ({share:.1f} %)",
        f"  faults                {_words(given['faults'])}",
        f"  done to the machines  {_words(given['deeds'])}",
        f"  attempts              {_words(given['attempts'])}",
        f"  copies                {given['copies']}, uncertain and abandoned attempts {given['may_explain']}",
    ]
    lines += [f"  not played            {deed}: {reason}" for deed, reason in given["not_played"].items()]
    lines += [
        f"  {kind:<22}{count}{'' if count == 0 else '  <- VIOLATION'}" for kind, count in given["violations"].items()
    ]
    shown: Counter[Kind] = Counter()
    for violation in violations:
        shown[violation.kind] += 1
        if shown[violation.kind] <= _SHOWN:
            lines.append(f"VIOLATION {violation}")
    return "\n".join(lines)


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
