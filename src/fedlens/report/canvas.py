"""Blank figures, and how a drawn one becomes a file or a part of the page.

A figure is drawn in sentinel colours. On paper they are black, grey and white to the eye; inside the page each is
replaced by a CSS colour, so that one drawing follows the reader's light or dark theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

INK, FAINT, PAPER = "#010203", "#7a7b7c", "#fdfeff"
THEME = {INK: "currentColor", FAINT: "var(--faint, gray)", PAPER: "var(--paper, white)"}
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442",
)  # fmt: skip  # Okabe and Ito 2008
# lines use only those four that have 3:1 contrast on white and on near-black
LINES = (BLUE, VERMILION, GREEN, PURPLE)
AREAS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, "#7F6BB3", "#8C6D46", "#8E9AA6")
WIDTH = 9.0  # inches: at the page's 57 rem a 9.5 point letter is then 13 pixels high
FONT = 9.5
FEW = 12  # values up to which every one gets a dot
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"


def blank(
    height: float, columns: Sequence[float] = (1,), *, width: float = WIDTH, **margins: float
) -> tuple[Figure, list[Any]]:
    """A figure with one row of axes of the given relative widths: (figure, [axes])."""
    figure = Figure(figsize=(width, height), facecolor="none")
    options = {"left": 0.065, "right": 0.985, "bottom": 0.15, "top": 0.93, "wspace": 0.22, **margins}
    row = figure.subplots(1, len(columns), squeeze=False, gridspec_kw={"width_ratios": list(columns), **options})[0]
    for axes in row:
        _dress(axes)
    return figure, list(row)


def _dress(axes: Axes) -> None:
    axes.set_facecolor("none")
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(FAINT)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=INK, labelsize=FONT, length=0, pad=5)
    axes.grid(axis="y", color=FAINT, alpha=0.28, linewidth=0.7)
    axes.set_axisbelow(True)


def title(axes: Axes, text: str) -> None:
    """What the vertical axis measures, written above it: nobody turns the head to read."""
    axes.set_title(text, loc="left", fontsize=FONT, color=INK, pad=10)


def label_rounds(axes: Axes, rounds: Sequence[float] | np.ndarray) -> None:
    """A horizontal axis of rounds, whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    axes.set_xlabel("round", fontsize=FONT, color=INK)
    first, last = float(min(rounds)), float(max(rounds))
    axes.set_xlim(first - 0.01 * max(last - first, 1), last + 0.01 * max(last - first, 1))


def marker(values: Sequence[float] | np.ndarray) -> str | None:
    """A dot for every value while they are few: a line alone hides how often one looked."""
    return "o" if len(values) <= FEW else None


def spread(wanted: Sequence[float], room: Sequence[float], low: float, high: float) -> list[float]:
    """Heights of labels near the `wanted` ones, so that none touches another nor leaves [low, high] at the top.

    `room`: how high each label is; its height is the middle of it.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [max(wanted[index], low) for index in order]
    apart = [(room[one] + room[other]) / 2 for one, other in pairwise(order)]
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + apart[index - 1])
    ceiling = high
    for index in range(len(placed) - 1, -1, -1):
        placed[index] = min(placed[index], ceiling - (room[order[index]] / 2 if index == len(placed) - 1 else 0))
        ceiling = placed[index] - (apart[index - 1] if index else 0)
    result = [0.0] * len(wanted)
    for index, height in zip(order, placed, strict=True):
        result[index] = height
    return result


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` on white as .svg or .png, whichever `path` ends in; the same figure gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        none = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, facecolor="white", dpi=160, metadata=none)
    return path


def to_svg(figure: Figure, name: str, words: str = "") -> str:
    """`figure` as an <svg> element for the page. `name` makes its ids its own; `words` is what a screen reader says."""
    sink = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(sink, format="svg", transparent=True, metadata=nothing)
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    for sentinel, colour in THEME.items():
        text = text.replace(sentinel, colour)
    text = re.sub(r"font: ([\d. a-z]*?[\d.]+px) [^;\"]*", rf"font: \1 {SANS}", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)  # matplotlib's comments repeat every label
    text = _own_ids(text, name)
    box = re.search(r'viewBox="[^"]*"', text)
    spaces = 'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg"'
    body = text[text.index(">") + 1 :]
    return f'<svg {spaces} role="img" {box[0] if box else ""} aria-label="{escape(words or name)}">{body}'


def _own_ids(text: str, name: str) -> str:
    """Keep only the ids that something refers to, and begin them with `name`: matplotlib reuses figure_1, p123..."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
