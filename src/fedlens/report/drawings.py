"""Which figures a run gets, from which of its files, and the caption that says what to see in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedlens.report import figures, story
from fedlens.report.accuracy import MANY, SMOOTH, Curve
from fedlens.report.folder import Record, series
from fedlens.report.split import split_caption
from fedlens.report.units import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn = tuple["Figure", str, str]


def of(record: Record) -> list[dict[str, str]]:
    """The run's figures in reading order: name, title, caption, svg."""
    made = []
    for name, draw in MAKERS.items():
        drawn = draw(record)
        if drawn is not None:
            figure, title, caption = drawn
            svg = figures.to_svg(figure, name, f"{title}. {caption}")
            made.append({"name": name, "title": title, "caption": caption, "svg": svg})
    return made


def accuracy(record: Record) -> Drawn | None:
    """Accuracy per round beside the references."""
    curves = [
        curve
        for key, label in (
            (record.measure, "this run"),
            ("accuracy_batch_statistics", "with batch statistics"),
            ("accuracy_averaged", "mean of models"),
            ("holdout_accuracy", "on the hold-out"),
        )
        if (curve := _curve(record.rounds, key, label)) is not None
    ]
    if not curves or curves[0].label != "this run":
        return None
    classes = class_count(record)
    figure = figures.accuracy_figure(curves, reference_curves(record), chance=1 / classes if classes else None)
    caption = "Test accuracy of the global model after each evaluated round."
    if record.measure == "personal_accuracy":
        caption = "Accuracy of every client's own model on its own hold-out, mean over clients."
    if story.references(record) or record.references:
        caption += " Dashed: the references; the space below them is what the federation loses."
    if classes:
        caption += f" Dotted: guessing among {classes} classes."
    if len(curves) > 1 and curves[1].label == "with batch statistics":
        caption += " A gap between the two solid curves means that the averaged normalisation statistics do not fit."
    if len(curves[0].values) >= MANY:
        caption += f" Bold: moving mean of {SMOOTH} evaluations; faint: each of them."
    return figure, "Accuracy per round", caption


def recall(record: Record) -> Drawn | None:
    """Recall per class at the end."""
    final = record.summary.get("final") or {}
    values = final.get("recall") or next(reversed(record.series("recall")[1]), None)
    if not values or all(number(value) is None for value in values):
        return None
    worth = story.last(record)
    figure = figures.recall_figure([number(value) for value in values], class_names(record, len(values)), worth)
    caption = "The part of each class's test samples that is recognised at the end."
    caption += " Dashed: accuracy over all of them." if worth is not None else ""
    return figure, "Recall of each class", caption + " Short bars are classes the model has given up or never learned."


def updates(record: Record) -> Drawn | None:
    """Norms of the clients' updates."""
    visits = record.visits
    if "round" not in visits or "update_norm" not in visits:
        return None
    figure = figures.updates_figure(visits["round"], visits["update_norm"])
    caption = "Line: the median client of a round. Band: clients, from the 10th to the 90th percentile; no error bar."
    return figure, "What the clients send", caption


def local(record: Record) -> Drawn | None:
    """Local loss at the first and last step, and coherence."""
    rows = [
        row
        for row in record.rounds
        if number(row.get("loss_first")) is not None and number(row.get("loss_last")) is not None
    ]
    if not rows:
        return None
    rounds = [int(row["round"]) for row in rows]
    coherence = _curve(record.rounds, "coherence", "coherence")
    figure = figures.local_figure(
        rounds, [row["loss_first"] for row in rows], [row["loss_last"] for row in rows], coherence
    )
    caption = (
        "The clients' training loss at the first and at the last step of their visits; a wide band means that each "
        "visit fits the client's own data far beyond the model it was sent."
    )
    if coherence:
        caption += (
            " Coherence: squared norm of the mean update over the mean squared norm; 1 when all updates are equal."
        )
    return figure, "Local training", caption


def split(record: Record) -> Drawn | None:
    """How the samples are dealt out."""
    counts = record.counts
    if counts is None or counts.ndim != 2 or not counts.size:
        return None
    figure = figures.split_figure(counts, class_names(record, counts.shape[1]))
    return figure, "Samples of each client", split_caption(counts)


def accuracy_curve(record: Record, label: str) -> Curve | None:
    """The run's accuracy under `label`, or None when nothing was evaluated."""
    return _curve(record.rounds, record.measure, label)


def reference_curves(record: Record) -> list[Curve]:
    """The references as curves where they left one, as level lines where only their last value is known."""
    titles = {str(entry.get("name")): entry for entry in story.references(record)}
    curves = []
    for name in dict.fromkeys([*titles, *record.references]):
        entry: dict[str, Any] = titles.get(name, {})
        label = str(entry.get("title") or name)
        measures = ("accuracy",) if record.measure == "accuracy" else ("personal_accuracy", "holdout_accuracy")
        found = (_curve(record.references.get(name, []), measure, label) for measure in measures)
        curve = next((curve for curve in found if curve is not None), None)
        if curve is None and number(entry.get("last")) is not None:
            curve = Curve(label, [0], [float(entry["last"])])
        if curve is not None:
            curves.append(curve)
    return curves


def class_names(record: Record, classes: int) -> list[str]:
    """The names of the classes; their numbers where the run did not say or says another count."""
    names = [str(name) for name in record.summary.get("classes") or []]
    return names if len(names) == classes else [str(index) for index in range(classes)]


def class_count(record: Record) -> int:
    """How many classes there are, from whichever file says so; 0 when none does."""
    if record.summary.get("classes"):
        return len(record.summary["classes"])
    if record.counts is not None and record.counts.ndim == 2:
        return int(record.counts.shape[1])
    values = record.series("recall")[1]
    return len(values[-1]) if values else 0


def _curve(rows: list[dict[str, Any]], key: str, label: str) -> Curve | None:
    rounds, values = series(rows, key)
    kept = [(at, value) for at, value in zip(rounds, values, strict=True) if number(value) is not None]
    return Curve(label, [at for at, _ in kept], [value for _, value in kept]) if kept else None


MAKERS = {"accuracy": accuracy, "recall": recall, "updates": updates, "local": local, "split": split}
