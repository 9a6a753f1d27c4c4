"""A run and a split in a few lines of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedlens.report.story import SPLIT_WORDS, judged, last_of, plain
from fedlens.report.units import duration, percent, side

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.measure import Measurement

BAR = 16  # characters of a bar that means 100 %
LINE = 48  # characters of the largest client
DRAWN = 20  # clients that still get a line of their own
PALETTE = (
    "blue",
    "yellow",
    "green",
    "magenta",
    "cyan",
    "red",
    "bright_yellow",
    "bright_blue",
    "bright_red",
    "bright_black",
)


@dataclass(frozen=True)
class Bar:
    """A horizontal bar of `fraction` of `width` characters, in eighths where the terminal can draw them."""

    fraction: float
    style: str = ""
    width: int = BAR

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        eighths = round(min(max(self.fraction, 0.0), 1.0) * self.width * 8)
        text = (
            "#" * round(eighths / 8) if options.ascii_only else "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        )
        yield Text(text.ljust(self.width), style=self.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(self.width, self.width)


def render_summary(summary: Mapping[str, Any]) -> RenderableType:
    """Accuracy beside its references, and what stands out."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    final = summary.get("final") or {}
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=BAR, no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    own = judged(final)
    table.add_row(
        Text(str(summary.get("name") or "this run"), style="bold"),
        Text(percent(own), style="bold"),
        Bar(own or 0, "blue"),
        f"mean of {last_of(final)}; last {percent(final.get('last'))}, best {percent(final.get('best'))}",
    )
    for entry in summary.get("references") or []:
        worth = judged(entry)
        title = str(entry.get("title") or entry.get("name"))
        said = side(entry.get("gap")).replace("below", "more").replace("above", "less")
        budget = f"; {entry['budget']}" if entry.get("budget") else ""
        table.add_row(Text(title), Text(percent(worth)), Bar(worth or 0, "bright_black"), Text(said + budget))
    parts: list[RenderableType] = [Text(str(summary.get("metric") or "accuracy"), style="dim"), table]
    both = [final.get(key) for key in ("personal_accuracy", "holdout_accuracy")]
    if None not in both:  # never in the column above: it is measured on other examples
        personal, shared = (percent(value) for value in both)
        parts.append(Text(f"on the clients' own hold-outs: their own models {personal}, the global one {shared}"))
    notable = " ".join(str(sentence) for sentence in summary.get("notable") or [])
    if notable:
        parts.append(Padding(Text(notable), (1, 0, 0, 0)))
    if "examples/s" in str(summary.get("engine")):  # it was timed
        parts.append(Text(f"engine: {summary['engine']}", style="dim"))
    return Group(*parts)


def render_profile(profile: Mapping[str, Any]) -> RenderableType:
    """Where the rounds' time went, most first: seconds of all workers together and of the run's own process, and which
    part they are of the time that those lived."""
    from rich.table import Table
    from rich.text import Text

    roles = {"this process": profile["parent"]}
    if profile["workers"]:
        roles = {f"{profile['workers']['processes']} workers": profile["workers"], **roles}
    table = Table.grid(padding=(0, 3))
    table.add_row(
        Text("time of the rounds", style="dim"), *(Text(title, style="dim", justify="right") for title in roles)
    )
    for name in dict.fromkeys(name for role in roles.values() for name in role["seconds"]):
        cells = []
        for role in roles.values():
            spent, lived = role["seconds"].get(name, 0.0), sum(role["seconds"].values())
            cells.append(Text(f"{duration(spent)} {percent(spent / lived if lived else None):>7}", justify="right"))
        table.add_row(Text(name), *cells)
    return table


def render_split(description: Mapping[str, Any], counts: np.ndarray, classes: Sequence[str] = ()) -> RenderableType:
    """The numbers that describe a split and, for at most 20 clients, a line of letters, one per class."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for key in [
        *(key for key in SPLIT_WORDS if key in description),
        *(key for key in description if key not in SPLIT_WORDS),
    ]:
        table.add_row(Text(SPLIT_WORDS.get(key, key.replace("_", " "))), Text(plain(description[key])))
    parts: list[RenderableType] = [table, Text()]
    names = (
        [str(name) for name in classes]
        if len(classes) == counts.shape[1]
        else [str(index) for index in range(counts.shape[1])]
    )
    parts += _split_lines(counts)
    if len(counts) > DRAWN:
        parts.append(Text(f"{DRAWN} of the {len(counts):,} clients; `--figure split.png` draws more", style="dim"))
    parts.append(_key(names))
    return Group(*parts)


def _split_lines(counts: np.ndarray) -> list[RenderableType]:
    """One line a client, its length in proportion to the client's samples; each letter stands for one class."""
    import numpy as np
    from rich.text import Text

    shown = sorted({round(client) for client in np.linspace(0, len(counts) - 1, DRAWN)})
    sizes, width = counts.sum(1), len(str(len(counts) - 1))
    most = max(int(sizes[shown].max(initial=0)), 1)
    lines: list[RenderableType] = []
    for client in shown:
        row, samples = counts[client], sizes[client]
        line = Text(f"client {client:>{width}} {int(samples):>7,}  ")
        before = 0
        for index, held in enumerate(row):
            until = before + int(held)
            # cut the running sum, not each class: rounding errors then do not add up along the line
            blocks = round(LINE * until / most) - round(LINE * before / most)
            line.append(letter(index) * blocks, style=f"black on {PALETTE[index % len(PALETTE)]}")
            before = until
        lines.append(line)
    return lines


def letter(index: int) -> str:
    """The sign of a class: its digit for the first ten, then letters; it tells classes apart without colours."""
    signs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return signs[index % len(signs)]


def _key(names: Sequence[str]) -> RenderableType:
    from rich.text import Text

    if all(name == letter(index) for index, name in enumerate(names)):
        return Text(f"{'':18}each digit: samples of that class", style="dim")
    return Text("classes  " + "  ".join(f"{letter(index)} {name}" for index, name in enumerate(names)), style="dim")
