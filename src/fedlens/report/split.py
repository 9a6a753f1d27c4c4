"""How the training samples are dealt out: one bar a client, one colour a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedlens.report.canvas import AREAS, FAINT, FONT, INK, blank, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 100  # clients that still have a bar of visible width
NAMED = len(AREAS)  # classes that still have a colour the eye can tell from the others


def split_figure(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Samples of each class per client, and how many classes a client has. `counts`: [clients, classes]."""
    counts = np.asarray(counts)
    figure, (bars, histogram) = blank(3.7, [3.4, 1], left=0.06, bottom=0.14, top=0.79, wspace=0.16)
    shown = chosen(counts)
    part = counts[shown]
    colours = _colours(counts.shape[1])
    bottom = np.zeros(len(part))
    width = 0.82 if len(part) <= 40 else 0.9
    for index, colour in enumerate(colours):
        _boxes(bars, part[:, index], bottom, width, colour)
        bottom = bottom + part[:, index]
    bars.set_xlim(-0.7, len(part) - 0.3)
    bars.set_ylim(0, 1.05 * max(bottom.max(initial=0), 1))
    _name_clients(bars, len(counts), shown)
    bars.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    bars.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    title(bars, "training samples")
    _legend(figure, colours, classes)
    _histogram(histogram, (counts > 0).sum(1), counts.shape[1])
    return figure


def chosen(counts: np.ndarray) -> np.ndarray:
    """The clients that are drawn: all, or 100 evenly spaced among them from the largest to the smallest."""
    if len(counts) <= SHOWN:
        return np.arange(len(counts))
    order = np.argsort(-np.asarray(counts).sum(1), kind="stable")
    picked: np.ndarray = order[np.linspace(0, len(order) - 1, SHOWN).round().astype(int)]
    return picked


def split_caption(counts: np.ndarray) -> str:
    """What one should see in `split_figure`."""
    which = f": {SHOWN} of {len(counts):,}, evenly spaced by size" if len(counts) > SHOWN else ""
    return (
        f"One bar a client{which}; its height is the client's training samples, its colours are their classes. "
        "If every client saw the same mixture, all bars would have the same stripes. "
        "Right: how many clients have so many classes."
    )


def _colours(classes: int) -> list[str]:
    if classes <= NAMED:
        return list(AREAS[:classes])
    scale = matplotlib.colormaps["viridis"]  # even in lightness, so that the colour-blind see the order too
    return [to_hex(scale(0.08 + 0.92 * index / (classes - 1))) for index in range(classes)]


def _boxes(axes: Axes, heights: np.ndarray, bottom: np.ndarray, width: float, colour: str) -> None:
    """All boxes of one class as one outline: a path a class instead of a path a box keeps the page small."""
    corners = []
    for place in np.flatnonzero(heights):
        left, right, low, high = place - width / 2, place + width / 2, bottom[place], bottom[place] + heights[place]
        corners += [(left, low), (left, high), (right, high), (right, low), (left, low)]
    if corners:
        steps = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
        axes.add_patch(PathPatch(Outline(corners, steps * (len(corners) // 5)), facecolor=colour, linewidth=0))


def _name_clients(axes: Axes, clients: int, shown: np.ndarray) -> None:
    if len(shown) < clients:
        axes.set_xticks([])
        axes.set_xlabel("clients, from most samples to fewest", fontsize=FONT, color=INK, labelpad=8)
        return
    step = max(1, -(-clients // 20))
    axes.set_xticks(range(0, clients, step))
    axes.set_xlabel("client", fontsize=FONT, color=INK)


def _legend(figure: Figure, colours: Sequence[str], classes: Sequence[str]) -> None:
    """The classes' names over the bars; where there are too many, only the first, middle and last."""
    names = list(classes) if len(classes) == len(colours) else [str(index) for index in range(len(colours))]
    picked = range(len(names))
    if len(names) > NAMED:
        picked = range(0, len(names), -(-len(names) // 6))
    short = [names[index] if len(names[index]) <= 12 else names[index][:11] + "…" for index in picked]
    columns = len(short) if sum(map(len, short)) < 62 else -(-len(short) // 2)
    top = 0.96 if columns == len(short) else 1.0  # one row of names sits closer to the bars than two
    figure.legend(
        [Patch(facecolor=colours[index], linewidth=0) for index in picked], short, ncols=columns, loc="upper left",
        bbox_to_anchor=(0.05, top), frameon=False, fontsize=FONT, labelcolor=INK, handlelength=0.9, handleheight=0.9,
        columnspacing=1.3, handletextpad=0.5, borderaxespad=0.2,
    )  # fmt: skip


def _histogram(axes: Axes, held: np.ndarray, classes: int) -> None:
    values, clients = np.unique(held, return_counts=True)
    axes.bar(values, clients, color=FAINT, width=0.8)
    axes.set_xlim(min(values.min(initial=1), 1) - 0.8, max(values.max(initial=1), min(classes, 10)) + 0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_xlabel("classes a client has", fontsize=FONT, color=INK)
    title(axes, "clients")
