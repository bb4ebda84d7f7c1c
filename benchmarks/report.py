"""Tables with ratios, and a plot. Medians, with the least and the most beside them."""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_WIDTH, _ROW, _LEFT = 760, 22, 330


@dataclass
class Series:
    """What one thing came to in each repeat."""

    what: str
    unit: str
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Goal:
    """Something is to come to so much, by itself or as a ratio `of` something else of the same repeat.

    Attributes:
        what: A series.
        of: Another one, or None.
        at_least: The least, or None.
        at_most: The most, or None.
    """

    what: str
    of: str | None = None
    at_least: float | None = None
    at_most: float | None = None


@dataclass
class Answer:
    """What a benchmark found.

    Attributes:
        question: What was asked.
        series: By what each is of.
        goals: They are judged if what they are about was measured.
        notes: What a reader has to know of the figures, such as who took no part.
    """

    question: str
    series: dict[str, Series] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, unit: str, value: float) -> None:
        """One value of one repeat."""
        self.series.setdefault(what, Series(what, unit)).values.append(value)

    def ratios(self, goal: Goal) -> list[float]:
        """The goal's value in each repeat; empty if something it needs was not measured."""
        if goal.what not in self.series or (goal.of is not None and goal.of not in self.series):
            return []
        values = self.series[goal.what].values
        if goal.of is None:
            return values
        return [value / other for value, other in zip(values, self.series[goal.of].values, strict=False) if other]


def markdown(answers: Iterable[Answer]) -> str:
    """All tables."""
    lines: list[str] = []
    for answer in answers:
        lines += [
            f"### {answer.question}",
            "",
            "| what | median | least to most | unit | repeats |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {one.what} | {_number(statistics.median(one.values))} | {_number(min(one.values))} to "
            f"{_number(max(one.values))} | {one.unit} | {len(one.values)} |"
            for one in answer.series.values()
        ]
        judged = [(goal, ratios) for goal in answer.goals if (ratios := answer.ratios(goal))]
        if judged:
            lines += ["", "| goal | reached | least to most | |", "|---|---|---|---|"]
        lines += [_judgement(goal, ratios) for goal, ratios in judged]
        lines += [line for note in answer.notes for line in ("", f"**{note}**")]
        lines.append("")
    return "\n".join(lines)


def plot(answers: Sequence[Answer], path: Path) -> None:
    """One bar for each series, scaled within its question and unit, as an SVG file."""
    parts, y = [], 10
    for answer in answers:
        y += _ROW
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{html.escape(answer.question)}</text>')
        largest: dict[str, float] = {}
        for one in answer.series.values():
            largest[one.unit] = max(largest.get(one.unit, 0.0), *one.values)
        for one in answer.series.values():
            y += _ROW
            middle = statistics.median(one.values)
            length = (_WIDTH - _LEFT - 130) * middle / (largest[one.unit] or 1)
            label = f"{_number(middle)} {one.unit}"
            parts += [
                f'<text x="{_LEFT - 8}" y="{y}" text-anchor="end">{html.escape(one.what)}</text>',
                f'<rect x="{_LEFT}" y="{y - 12}" width="{max(length, 1):.0f}" height="14" fill="#4878a8"/>',
                f'<text x="{_LEFT + max(length, 1) + 6:.0f}" y="{y}">{html.escape(label)}</text>',
            ]
        y += _ROW // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 20}" font-family="sans-serif" '
    path.write_text(f'{head}font-size="12">\n' + "\n".join(parts) + "\n</svg>\n")


def _judgement(goal: Goal, ratios: Sequence[float]) -> str:
    middle = statistics.median(ratios)
    wanted = f"at least {goal.at_least:g}" if goal.at_least is not None else f"at most {goal.at_most:g}"
    met = (goal.at_least is None or middle >= goal.at_least) and (goal.at_most is None or middle <= goal.at_most)
    name = goal.what if goal.of is None else f"{goal.what} / {goal.of}"
    reached = f"{_number(middle)} | {_number(min(ratios))} to {_number(max(ratios))}"
    return f"| {name}: {wanted} | {reached} | {'met' if met else 'missed'} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
