"""A run in words and rows of a table: sentences and formatted numbers, no drawing and no markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedlens.report.folder import Record
from fedlens.report.units import ABSENT, amount, count, duration, number, percent, points, side, size

Line = tuple[str, ...]
SPLIT_WORDS = {
    "kind": "kind", "clients": "clients", "samples": "training samples", "size_min": "smallest client",
    "size_median": "median client", "size_max": "largest client",
    "size_variation": "variation of sizes (standard deviation / mean)", "classes_min": "fewest classes of a client",
    "classes_mean": "mean classes of a client", "classes_max": "most classes of a client",
    "total_variation": "distance of label mixtures (mean total variation)",
    "total_variation_null": "the same under a uniform deal", "total_variation_null_95": "95th percentile of that",
}  # fmt: skip


def judged(entry: Mapping[str, Any]) -> float | None:
    """The accuracy that a run or reference is judged by: the mean of its last ten evaluations, else its last one."""
    mean = number(entry.get("mean_last_ten"))
    return number(entry.get("last")) if mean is None else mean


def last_of(final: Mapping[str, Any]) -> str:
    """Over what the mean was taken: the last ten evaluations, or as many as there were."""
    count = number(final.get("evaluations_in_mean"))
    return (
        "the last ten" if count is None or count == 10 else f"the last {count:.0f}" if count > 1 else "one evaluation"
    )


def headline(record: Record) -> str:
    """The one number, in percent."""
    worth = judged(record.summary.get("final") or {})
    return percent(last(record) if worth is None else worth)


def last(record: Record) -> float | None:
    """The summary's last accuracy, or the last on record when the run has no summary."""
    found = number((record.summary.get("final") or {}).get("last"))
    if found is None:
        values = record.series(record.measure)[1]
        found = number(values[-1]) if values else None
    return found


def verdict(record: Record) -> str:
    """The run in one sentence: accuracy, then the distance to each reference with that reference's budget."""
    if last(record) is None:
        return f"No evaluation was written before the run ended (status: {record.status})."
    evaluated = record.series(record.measure)[0]
    done = record.summary.get("rounds_done") or (evaluated[-1] if evaluated else record.trained)
    metric = record.summary.get("metric") or "accuracy"
    said = f"{headline(record)} {metric} after {_rounds(done)}"
    if (final := record.summary.get("final") or {}) and number(final.get("mean_last_ten")) is not None:
        said += f" (mean of {last_of(final)}; last {percent(last(record))}, best {percent(final.get('best'))})"
    known = [reference for reference in references(record) if number(reference.get("gap")) is not None]
    if not known:
        return f"{said}; no reference was run beside it."
    # the first reference is the one the run is judged by, so its budget is named here; the table names the others'
    return f"{said}: {_and([_beside(reference, budget=reference is known[0]) for reference in known])}."


def _beside(reference: dict[str, Any], *, budget: bool) -> str:
    name = reference.get("title") or reference.get("name") or "a reference"
    spent = f" with {reference['budget']}" if budget and reference.get("budget") else ""
    place = side(reference.get("gap"))
    joined = f"{place} with" if place == "level" else place
    return f"{joined} “{name}” ({percent(judged(reference))}{spent})"


def standing(record: Record) -> str:
    """A sentence about how the run ended; empty when it is done and whole."""
    planned = record.summary.get("rounds") or record.settings.get("rounds")
    of = f"{record.trained} of {_rounds(planned)}" if planned else _rounds(record.trained)
    if record.status == "done":
        return "" if record.summary else "The run says it is done, but its summary is missing."
    if record.status == "running":
        return f"The run is still going: {of} are on record. This page shows them."
    ended = {"interrupted": "was interrupted", "failed": "failed"}.get(record.status, "did not say how it ended")
    return f"The run did not finish: it {ended} with {of} on record. This page shows what was written until then."


def references(record: Record) -> list[dict[str, Any]]:
    """The summary's references; entries that are no objects are left out."""
    return [entry for entry in record.summary.get("references") or [] if isinstance(entry, dict)]


def numbers(record: Record) -> list[Line]:
    """Rows of the table of numbers: name, last, best, mean of the last ten, gap, budget."""
    final = record.summary.get("final") or {}
    own = (percent(last(record)), percent(final.get("best")), percent(final.get("mean_last_ten")))
    rows: list[Line] = [("this run", *own, "", _own_budget(record))]
    for entry in references(record):
        name = str(entry.get("title") or entry.get("name") or ABSENT)
        worth = percent(entry.get("last"))
        if number(entry.get("spread")) is not None:
            worth += f" ± {points(entry['spread']).removesuffix(' points')}"
        if number(entry.get("clients")) is not None:
            name += f" (mean of {count(entry['clients'])} clients)"
        others = (percent(entry.get("best")), percent(entry.get("mean_last_ten")), side(entry.get("gap")))
        rows.append((name, worth, *others, str(entry.get("budget") or ABSENT)))
    return rows


def _own_budget(record: Record) -> str:
    cost = record.summary.get("cost") or {}
    if number(cost.get("samples")) is None:
        return ABSENT
    return f"{count(cost['samples'])} samples in {count(cost.get('steps'))} steps"


def further(record: Record) -> list[Line]:
    """What else was measured at the end: (what, value), absent ones left out."""
    final = record.summary.get("final") or {}
    found = [
        ("round of the best accuracy", count(final.get("best_round"))),
        ("accuracy with batch statistics", percent(final.get("accuracy_batch_statistics"))),
        ("accuracy of the mean of models", percent(final.get("accuracy_averaged"))),
        ("the global model on every client's hold-out", percent(final.get("holdout_accuracy"))),
        ("every client's own model on its own hold-out", percent(final.get("personal_accuracy"))),
        ("test loss", amount(final.get("loss"))),
        ("entropy of the predicted classes (1: all used alike)", amount(final.get("predicted_entropy"))),
        (
            f"worst tenth of the clients ({final.get('worst_decile_of') or 'accuracy'})",
            percent(final.get("worst_decile")),
        ),
    ]
    return [line for line in found if line[1] != ABSENT]


def split_rows(record: Record) -> list[Line]:
    """The numbers that describe the split: known ones in reading order, then whatever else the run wrote down."""
    described = record.summary.get("partition") or {}
    order = [key for key in SPLIT_WORDS if key in described] + [key for key in described if key not in SPLIT_WORDS]
    return [(SPLIT_WORDS.get(key, key.replace("_", " ")), plain(described[key])) for key in order]


def cost_rows(record: Record) -> list[Line]:
    """What the run spent: (what, value)."""
    cost, network = record.summary.get("cost") or {}, record.summary.get("network") or {}
    rows = [
        ("simulated time of the network", duration(network.get("simulated_seconds"))),
        ("training", duration(cost.get("train_seconds"))),
        ("evaluation", duration(cost.get("evaluate_seconds"))),
        ("samples trained on", count(cost.get("samples"))),
        ("local steps", count(cost.get("steps"))),
        ("sent to clients", size(cost.get("bytes_down"))),
        ("sent by clients", size(cost.get("bytes_up"))),
        ("parameters", count(cost.get("parameters"))),
        ("forward pass of one sample", f"{amount(cost.get('mflop'))} MFLOP"),
    ]
    return [row for row in rows if not row[1].startswith(ABSENT)]


def environment_rows(record: Record) -> list[Line]:
    """Where the run ran, as it wrote it down."""
    return [
        (key, plain(value)) for key, value in record.environment.items() if key != "command" and value not in (None, "")
    ]


def skipped(record: Record, most: int = 8) -> list[str]:
    """Visits whose update was left out, one sentence each, and how many more there are."""
    said = [
        f"Round {row.get('round')}, client {entry.get('client')}{_at_step(entry)}: {entry.get('why')}."
        for row in record.rounds for entry in row.get("skipped") or [] if isinstance(entry, dict)
    ]  # fmt: skip
    more = [f"{len(said) - most} further visits were skipped."] if len(said) > most else []
    return said[:most] + more


def _at_step(entry: Mapping[str, Any]) -> str:
    """Empty where it was not a step that failed, but what was made of them all."""
    return "" if entry.get("step") is None else f", step {entry['step']}"


def plain(value: Any) -> str:
    """Any value of a JSON file as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ABSENT}[value]
    if isinstance(value, int | float):
        return amount(value) if isinstance(value, float) else count(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(entry)}" for key, entry in value.items())
    return " ".join(plain(entry) for entry in value) if isinstance(value, list) else str(value)


def _rounds(value: Any) -> str:
    return "1 round" if value == 1 else f"{count(value)} rounds"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
