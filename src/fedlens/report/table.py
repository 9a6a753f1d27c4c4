"""Several runs side by side: their numbers, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlens.report import story
from fedlens.report.folder import Record, read_run
from fedlens.report.units import ABSENT, duration, number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

UNSAID = "(not said)"


@dataclass(frozen=True)
class Entry:
    """One run's row. Accuracies are fractions; `gaps`: reference less run, by the reference's name."""

    name: str
    path: str
    status: str
    rounds: int
    metric: str
    last: float | None
    best: float | None
    mean_last_ten: float | None
    gaps: dict[str, float]
    train_seconds: float | None
    megabytes: float | None


@dataclass(frozen=True)
class Comparison:
    """Rows in the order given. `differing`: setting -> its value in each run, None where a run lacks it.

    `flags`: why some numbers must not be read against each other; empty when all may be.
    """

    rows: tuple[Entry, ...]
    differing: dict[str, list[Any]]
    flags: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


HEADS = ("run", "status", "rounds", "last", "best", "last ten", "training", "MB")


def compare(folders: Sequence[Path]) -> Comparison:
    """Read the runs and set them side by side. Raises when a folder is no run."""
    records = [read_run(Path(folder)) for folder in folders]
    names = labels(records)
    rows = tuple(_entry(record, name) for record, name in zip(records, names, strict=True))
    settings = [flatten(record.settings) for record in records]
    keys = dict.fromkeys(key for one in settings for key in one if key != "name")
    differing = {key: [one.get(key) for one in settings] for key in keys if _differs(key, settings)}
    return Comparison(rows, differing, tuple(_flags(rows)))


def compare_figure(folders: Sequence[Path]) -> Figure:
    """The accuracy curves of several runs in one frame."""
    from fedlens.report.drawings import accuracy_curve
    from fedlens.report.figures import overlay_figure

    records = [read_run(Path(folder)) for folder in folders]
    curves = [accuracy_curve(record, name) for record, name in zip(records, labels(records), strict=True)]
    return overlay_figure([curve for curve in curves if curve is not None])


def render(comparison: Comparison) -> RenderableType:
    """The comparison for the terminal: numbers, distances to references, differing settings, what not to compare."""
    from rich.console import Group
    from rich.text import Text

    rows = comparison.rows
    metrics = list(dict.fromkeys(row.metric for row in rows))
    parts: list[RenderableType] = []
    for metric in metrics:  # what is measured on other examples or models stands in a table of its own
        parts += [Text(metric, style="dim")] if len(metrics) > 1 else []
        parts.append(_table(HEADS, [_cells(row) for row in rows if row.metric == metric]))
    if names := list(dict.fromkeys(name for row in rows for name in row.gaps)):
        heads = ("points from", *names)
        parts += [Text(), _table(heads, [(row.name, *(signed(row.gaps.get(name)) for name in names)) for row in rows])]
    if comparison.differing:
        heads = ("setting that differs", *(row.name for row in rows))
        said = [(key, *(ABSENT if value is None else str(value) for value in values))
                for key, values in comparison.differing.items()]  # fmt: skip
        parts += [Text(), _table(heads, said)]
    parts += [Text(f"! {flag}", style="yellow") for flag in comparison.flags]
    return Group(*parts)


def labels(records: Sequence[Record]) -> list[str]:
    """The runs' names; where two are the same, the folders' names."""
    names = [record.name for record in records]
    return [
        name if names.count(name) == 1 else record.path.resolve().name
        for name, record in zip(names, records, strict=True)
    ]


def flatten(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys: {"local": {"lr": 0.1}} becomes {"local.lr": 0.1}."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(flatten(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value})
    return flat


def _differs(key: str, settings: Sequence[dict[str, Any]]) -> bool:
    return any(one.get(key, UNSAID) != settings[0].get(key, UNSAID) for one in settings)


def _entry(record: Record, name: str) -> Entry:
    final = record.summary.get("final") or {}
    cost = record.summary.get("cost") or {}
    moved = [number(cost.get(key)) for key in ("bytes_down", "bytes_up")]
    gaps = {
        str(one.get("name") or one.get("title")): float(one["gap"])
        for one in story.references(record) if number(one.get("gap")) is not None
    }  # fmt: skip
    return Entry(
        name=name,
        path=str(record.path),
        status=record.status,
        rounds=record.trained,
        metric=str(record.summary.get("metric") or UNSAID),
        last=story.last(record),
        best=number(final.get("best")),
        mean_last_ten=number(final.get("mean_last_ten")),
        gaps=gaps,
        train_seconds=number(cost.get("train_seconds")),
        megabytes=sum(part for part in moved if part is not None) / 1e6
        if any(part is not None for part in moved)
        else None,
    )


def _flags(rows: Sequence[Entry]) -> list[str]:
    flags = []
    metrics: dict[str, list[str]] = {}
    for row in rows:
        metrics.setdefault(row.metric, []).append(row.name)
    if len(metrics) > 1:
        said = "; ".join(f"{metric}: {', '.join(names)}" for metric, names in metrics.items())
        flags.append(f"Accuracies of different metrics must not be compared. {said}.")
    unfinished = [f"{row.name} ({row.status}, {row.rounds} rounds)" for row in rows if row.status != "done"]
    if unfinished:
        flags.append(f"Not finished: {', '.join(unfinished)}.")
    return flags


def _cells(row: Entry) -> tuple[str, ...]:
    worth = (percent(row.last), percent(row.best), percent(row.mean_last_ten))
    return (row.name, row.status, str(row.rounds), *worth, duration(row.train_seconds), megabytes(row.megabytes))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """A plain table: names at the left, which may be folded, and numbers at the right, which may not."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, head in enumerate(heads):
        widest = max((len(row[index]) for row in rows), default=0)
        number_like = index and head != "status"
        table.add_column(
            Text(head),
            justify="right" if number_like else "left",
            overflow="fold",
            min_width=min(widest, 18) if index else None,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text, so that brackets in a name are not read as markup
    return table


def signed(gap: float | None) -> str:
    """How far the run is from a reference, in percentage points; minus: below it. `gap` is reference less run."""
    return ABSENT if gap is None else f"{-100 * gap:+.1f}".replace("-", "−")


def megabytes(value: float | None) -> str:
    """Megabytes with as many digits as one reads."""
    return ABSENT if value is None else f"{value:,.1f}"
