"""The evidence of a diagnosis, drawn: where accuracy is lost, who enters the mean, how updates agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedlens.report import canvas
from fedlens.report.canvas import BLUE, FAINT, FONT, INK, VERMILION, blank
from fedlens.report.doctor.terminal import budget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Told = Mapping[str, Any]
VAGUE = 0.25  # of the largest weight: with a larger standard error, as noise makes it, there is nothing to be seen


def drawn(told: Told) -> list[dict[str, str]]:
    """Every drawing that the diagnosis has numbers for: name, title, caption, svg."""
    made = []
    for name, (draw, title, caption) in MAKERS.items():
        figure = draw(told)
        if figure is not None:
            svg = canvas.to_svg(figure, f"doctor-{name}", f"{title}. {caption}")
            made.append({"name": f"doctor-{name}", "title": title, "caption": caption, "svg": svg})
    return made


def waterfall(told: Told) -> Figure | None:
    """From pooled training down to the job, a bar a level, with standard errors and the change written beside."""
    bars = [one for one in told.get("bars") or [] if one["accuracy"] is not None and one["error"] is not None]
    if len(bars) < 2:
        return None
    height = 0.62 + 0.42 * len(bars)
    figure, [axes] = blank(height, left=0.33, right=0.9, bottom=0.46 / height)
    places = range(len(bars), 0, -1)
    colours = [FAINT] * (len(bars) - 1) + [BLUE]
    values = [100 * one["accuracy"] for one in bars]
    axes.barh(list(places), values, height=0.6, color=colours)
    axes.errorbar(values, list(places), xerr=[100 * one["error"] for one in bars], fmt="none", ecolor=INK, capsize=2.5)
    for place, one, value in zip(places, bars, values, strict=True):
        change = "" if one is bars[0] or one["change"] is None else f" ({100 * one['change']:+.1f})"
        beside = value + 100 * one["error"] + 1
        axes.text(beside, place, f"{value:.1f}{change}", va="center", fontsize=FONT, color=INK)
    axes.set_yticks(list(places), [one["what"] for one in bars])
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, max(100.0, max(values) + 12) if max(values) > 60 else max(1.0, 1.35 * max(values)))
    axes.set_xlabel(f"test accuracy, % {budget(told)}".rstrip(), fontsize=FONT, color=INK)
    return figure


def weights(told: Told) -> Figure | None:
    """The coefficients of the clients in the model's change, beside the declared ones, of the first watched round."""
    rounds = [one for one in _rounds(told) if one.get("weights")]
    if not rounds:
        return None
    found, wanted = rounds[0]["weights"], rounds[0]["wanted"]
    if len(found) != len(wanted) or len(found) > 40 or rounds[0].get("weights_error", 0.0) > VAGUE * max(wanted):
        return None
    figure, [axes] = blank(2.3, bottom=0.24, top=0.84)
    at = range(len(found))
    axes.bar([x - 0.2 for x in at], wanted, width=0.36, color=FAINT, label="declared")
    axes.bar([x + 0.2 for x in at], found, width=0.36, color=VERMILION, label="measured")
    axes.set_xticks(list(at), [str(client) for client in rounds[0]["asked"][: len(found)]])
    axes.set_xlabel("client", fontsize=FONT, color=INK)
    axes.legend(frameon=False, fontsize=FONT, labelcolor=INK, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.22))
    canvas.title(axes, f"weight in the mean, round {rounds[0]['number']}")
    return figure


def agreement(told: Told) -> Figure | None:
    """Sizes of updates and their coherence over the rounds that were run."""
    rounds = [one for one in _rounds(told) if one.get("visits") and one.get("coherence") is not None]
    if len(rounds) < 3:
        return None
    figure, [sizes, together] = blank(2.4, (1, 1), bottom=0.22, top=0.86)
    numbers = [one["number"] for one in rounds]
    for one in rounds:
        every = [visit["size"] for visit in one["visits"] if visit["size"] is not None]
        sizes.plot([one["number"]] * len(every), every, ".", color=BLUE, alpha=0.5, markersize=4)
    canvas.title(sizes, "size of each update by the model's")
    sizes.set_yscale("log")
    sizes.yaxis.set_major_formatter("{x:g}")
    sizes.yaxis.set_minor_formatter("")
    together.plot(
        numbers, [one["coherence"] for one in rounds], color=BLUE, marker=canvas.marker(numbers), markersize=3
    )
    canvas.title(together, "coherence: 1 all agree, 1/m all orthogonal")
    together.set_ylim(0, 1)
    for axes in (sizes, together):
        canvas.label_rounds(axes, numbers)
    return figure


def _rounds(told: Told) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = (told.get("evidence") or {}).get("rounds") or []
    return found


MAKERS: dict[str, tuple[Callable[[Told], Figure | None], str, str]] = {
    "waterfall": (
        waterfall,
        "Where accuracy is lost",
        "Each level was run: what pooled training reaches on the same samples, the same examples dealt again IID, the "
        "doctor's own code on the real split, and the job. In brackets the change from the level above; whiskers: one "
        "standard error.",
    ),
    "weights": (
        weights,
        "Who enters the mean",
        "Each client's coefficient in the change of the global model, by least squares, beside what is declared.",
    ),
    "agreement": (
        agreement,
        "What the clients send",
        "Left: a dot for each visit. Right: early coherence is high on IID data; late it falls in healthy runs too.",
    ),
}
