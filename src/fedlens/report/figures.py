"""The figures of a run: each function takes plain arrays and returns a matplotlib Figure; save writes it to a file."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fedlens.report.accuracy import Curve, accuracy_figure, overlay_figure
from fedlens.report.canvas import (
    BLUE,
    FONT,
    GREEN,
    INK,
    VERMILION,
    blank,
    label_rounds,
    marker,
    save,
    title,
    to_svg,
)
from fedlens.report.split import split_figure

__all__ = [
    "Curve",
    "accuracy_figure",
    "local_figure",
    "overlay_figure",
    "recall_figure",
    "save",
    "split_figure",
    "to_svg",
    "updates_figure",
]


def recall_figure(recall: Sequence[float | None], classes: Sequence[str], accuracy: float | None = None) -> Figure:
    """Of each class's test samples, the part that was recognised; a class that was never tested stays empty."""
    values = np.array([np.nan if value is None else value for value in recall], float)
    few = len(values) <= 40
    figure, (axes,) = blank(2.7, left=0.06, bottom=0.16, top=0.86)
    axes.bar(np.arange(len(values)), np.nan_to_num(values), color=BLUE, width=0.72)
    axes.set_ylim(0, 1.0)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
    if accuracy is not None:
        axes.axhline(accuracy, color=VERMILION, linewidth=1.3, linestyle=(0, (5, 2.5)))
    if few:
        names = [textwrap.shorten(str(name), 14, placeholder="…") for name in classes]
        turn = 90 if len(names) > 20 else 30 if sum(map(len, names)) > 100 else 0
        axes.set_xticks(range(len(values)), names[: len(values)], rotation=turn)
    if len(values) <= 20:
        for index, value in enumerate(values):
            text = "none tested" if np.isnan(value) else f"{100 * value:.0f}"
            axes.annotate(
                text, (index, 0), (0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=FONT,
                color="white" if value > 0.15 else INK,
            )  # fmt: skip
    title(axes, "recall per class, %")
    return figure


def updates_figure(rounds: np.ndarray, norm: np.ndarray) -> Figure:
    """Norms of the clients' updates over rounds: the median of a round's clients, and the middle 80 % of them."""
    figure, (axes,) = blank(2.9, [1], left=0.06, bottom=0.17, top=0.87)
    seen = np.unique(rounds)
    table = np.array([(number, *np.percentile(norm[rounds == number], [10, 50, 90])) for number in seen])
    axes.fill_between(table[:, 0], table[:, 1], table[:, 3], color=BLUE, alpha=0.22, linewidth=0)
    axes.plot(table[:, 0], table[:, 2], color=BLUE, linewidth=1.8, marker=marker(table), markersize=4)
    label_rounds(axes, seen)
    axes.set_ylim(bottom=0)
    title(axes, "norm of a client's update")
    return figure


def local_figure(
    rounds: Sequence[int], first: Sequence[float], last: Sequence[float], coherence: Curve | None
) -> Figure:
    """Mean local loss at a visit's first and last step, and how far the updates of a round agree (1: all the same)."""
    figure, row = blank(2.9, [1, 1] if coherence else [1], left=0.06, bottom=0.17, top=0.87)
    axes = row[0]
    axes.fill_between(rounds, first, last, color=BLUE, alpha=0.16, linewidth=0)
    for values, name, colour in ((first, "first step", VERMILION), (last, "last step", BLUE)):
        axes.plot(rounds, values, color=colour, linewidth=1.8, marker=marker(rounds), markersize=4, label=name)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=FONT, labelcolor=INK,
        handlelength=1.2, handletextpad=0.5, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip  # above the frame: where the two curves are flat there is no room beside them
    axes.set_ylim(bottom=0)
    label_rounds(axes, rounds)
    title(axes, "local training loss, nats")
    if coherence:
        row[1].plot(
            coherence.rounds,
            coherence.values,
            color=GREEN,
            linewidth=1.8,
            marker=marker(coherence.rounds),
            markersize=4,
        )
        row[1].set_ylim(0, 1.02)
        label_rounds(row[1], coherence.rounds)
        title(row[1], "coherence of the updates")
    return figure
