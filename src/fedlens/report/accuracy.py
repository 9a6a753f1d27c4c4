"""Accuracy over the rounds, each curve named at its end."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from fedlens.report.canvas import (
    BLUE,
    FAINT,
    FONT,
    GREEN,
    INK,
    LINES,
    PAPER,
    PURPLE,
    VERMILION,
    blank,
    label_rounds,
    marker,
    spread,
    title,
)
from fedlens.report.units import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 40  # evaluations from which the raw curve goes faint behind its moving mean
SMOOTH = 7  # evaluations in that moving mean
LETTERS = 35  # of a label that fit beside the curves


@dataclass(frozen=True)
class Curve:
    """Fractions over rounds under a name; one value only is drawn as a level line across the figure."""

    label: str
    rounds: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class End:
    """Where a curve ends (`height`, and `at` in rounds; None: at the frame) and what is written beside it."""

    height: float
    text: str
    colour: str
    at: float | None = None


def accuracy_figure(
    curves: Sequence[Curve], references: Sequence[Curve] = (), *, chance: float | None = None
) -> Figure:
    """Accuracy per round: `curves` solid (the first bold, its best marked), `references` dashed, chance dotted."""
    figure, (axes,) = blank(4.0, right=0.695, left=0.06, bottom=0.13)
    last = _last_round([*curves, *references])
    ends = [
        _reference(axes, curve, colour, last)
        for curve, colour in zip(references, cycle((INK, VERMILION, PURPLE, FAINT)), strict=False)
    ]
    for index, (curve, colour) in enumerate(zip(curves, cycle((BLUE, GREEN, PURPLE, VERMILION)), strict=False)):
        end = _run(axes, curve, colour, width=1.5 if index else 2.3)
        best = "" if index else _mark_best(axes, curve)
        ends.append(replace(end, text=end.text + best))
    if chance is not None:
        axes.axhline(chance, color=INK, linewidth=1, linestyle=(0, (1, 2.5)))
        ends.append(End(chance, f"{percent(chance)}  chance", INK))
    _frame(axes, [*curves, *references], last)
    _name_ends(figure, axes, ends)
    return figure


def overlay_figure(curves: Sequence[Curve]) -> Figure:
    """The accuracy of several runs in one frame, each named at its end; after four colours the lines are broken."""
    figure, (axes,) = blank(4.0, right=0.695, left=0.06, bottom=0.13)
    styles = [(colour, style) for style in ("-", (0, (5, 2)), (0, (1.5, 1.5))) for colour in LINES]
    ends = [
        _run(axes, curve, colour, style=style) for curve, (colour, style) in zip(curves, cycle(styles), strict=False)
    ]
    _frame(axes, curves, _last_round(curves))
    _name_ends(figure, axes, ends)
    return figure


def _last_round(curves: Sequence[Curve]) -> int:
    return max((max(curve.rounds) for curve in curves), default=1) or 1


def _frame(axes: Axes, curves: Sequence[Curve], last: int) -> None:
    highest = max((max(curve.values) for curve in curves), default=1.0)
    axes.set_ylim(0, min(1.02, 1.08 * highest) or 1.0)
    label_rounds(axes, [0, last])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
    title(axes, "accuracy, %")


def _run(axes: Axes, curve: Curve, colour: str, *, width: float = 1.8, style: Any = "-") -> End:
    x, y = np.asarray(curve.rounds, float), np.asarray(curve.values, float)
    look = {"color": colour, "linewidth": width, "linestyle": style}
    if len(x) >= MANY:
        axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.35)
        padded = np.pad(y, SMOOTH // 2, mode="edge")
        axes.plot(x, np.convolve(padded, np.ones(SMOOTH) / SMOOTH, mode="valid"), **look)
    else:
        axes.plot(x, y, **look, marker=marker(x), markersize=4)
    axes.plot(x[-1:], y[-1:], "o", color=colour, markersize=2.6 * width, clip_on=False, zorder=4)
    return End(float(y[-1]), f"{percent(y[-1])}  {curve.label}", colour, float(x[-1]))


def _reference(axes: Axes, curve: Curve, colour: str, last: int) -> End:
    x, y = list(curve.rounds), list(curve.values)
    if len(y) == 1:
        x, y = [0, last], [y[0], y[0]]
    axes.plot(x, y, color=colour, linewidth=1.3, linestyle=(0, (5, 2.5)))
    return End(float(y[-1]), f"{percent(y[-1])}  {curve.label}", colour, float(x[-1]))


def _mark_best(axes: Axes, curve: Curve) -> str:
    """A ring around the best evaluation; returns the words for the curve's label."""
    where = int(np.nanargmax(curve.values))
    if where == len(curve.values) - 1:
        return ", its best"
    x, y = curve.rounds[where], curve.values[where]
    axes.plot([x], [y], "o", markersize=7, markerfacecolor=PAPER, markeredgecolor=BLUE, markeredgewidth=1.8, zorder=5)
    return f"\nbest {percent(y)} in round {x}"


def _name_ends(figure: Figure, axes: Axes, ends: Sequence[End]) -> None:
    """Name each curve at its end, moved apart where two would touch; a thin line leads from the curve to its name."""
    low, high = axes.get_ylim()
    letters = figure.get_size_inches()[1] * axes.get_position().height * 72 / (high - low)  # points per unit
    texts = ["\n".join(textwrap.fill(line, LETTERS) for line in end.text.split("\n")) for end in ends]
    room = [((1 + text.count("\n")) * FONT * 1.27 + 3) / letters for text in texts]
    heights = spread([end.height for end in ends], room, low, high + FONT / letters)
    across = axes.get_yaxis_transform()  # x in parts of the axes, y in data
    for end, text, height in zip(ends, texts, heights, strict=True):
        look: dict[str, Any] = {"transform": across, "color": end.colour, "linewidth": 0.9, "clip_on": False}
        stop = axes.transAxes.inverted().transform(axes.transData.transform((end.at or 0, end.height)))[0]
        if end.at is not None and stop < 0.97:  # it ended before the others did: lead on, but not as if it were a curve
            axes.plot([stop + 0.012, 1.0], [end.height] * 2, **{**look, "alpha": 0.6, "linestyle": (0, (1, 3))})
        axes.plot([1.004, 1.016, 1.034, 1.044], [end.height, end.height, height, height], **look, alpha=0.75)
        axes.text(1.052, height, text, transform=across, fontsize=FONT, color=INK, va="center", linespacing=1.25)
