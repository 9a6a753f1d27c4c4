"""What stands out in a run, in sentences with numbers. It observes and does not explain: causes are the doctor's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def notable(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences, most important first; a sentence is there only where its number is out of the ordinary."""
    return [
        *_gaps(summary),
        *_classes(summary, rows),
        *_statistics(summary),
        *_noise(rows),
        *_skipped(summary),
        *_lost(summary),
    ]


def _gaps(summary: Mapping[str, Any]) -> Iterator[str]:
    compared = [reference for reference in summary["references"] if reference["name"] != "local-only"]
    apart = [reference for reference in compared if abs(reference["gap"]) >= 0.01]
    if apart:
        beside = [f"{_points(r['gap'])} points {'below' if r['gap'] > 0 else 'above'} {r['title']}" for r in apart]
        ends = summary["final"]["evaluations_in_mean"]
        yield f"By the mean of the last {ends} evaluations the run stands {_and(beside)}."
    split = summary["partition"]
    if split["total_variation"] > 2 * max(split["total_variation_null_95"], 0.05):
        held = split["classes_mean"]
        yield (
            f"Clients see {held:.1f} of {len(summary['classes'])} classes on average; their label mix is "
            f"{split['total_variation']:.2f} away from the whole in total variation; chance would give "
            f"{split['total_variation_null']:.2f}."
        )


def _classes(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    final, classes = summary["final"], summary["classes"]
    chance = 1 / len(classes)
    if final["last"] <= 1.2 * chance:
        yield f"The last model is no better than chance ({_points(chance)} %)."
    recall = [(value, name) for value, name in zip(final["recall"], classes, strict=True) if value is not None]
    worst, name = min(recall)
    if worst < final["last"] - 0.15:
        of = "all hold-outs" if summary["metric"].startswith("personal") else "the whole test set"
        yield f"Class {name} is recognised {_points(worst)} % of the time, {of} {_points(final['last'])} %."
    if final["predicted_entropy"] < 0.8:
        entropy = final["predicted_entropy"]
        yield f"Some classes are hardly ever answered: the answers' entropy is {entropy:.2f} of its maximum."
    if final["worst_decile"] < final["last"] - 0.1:
        yield f"The worst-served tenth of clients gets {_points(final['worst_decile'])} % ({final['worst_decile_of']})."


def _statistics(summary: Mapping[str, Any]) -> Iterator[str]:
    final = summary["final"]
    batch = final.get("accuracy_batch_statistics")
    if batch is not None and abs(batch - final["last"]) >= 0.03:
        yield (
            f"With each test batch's own statistics the last model reaches {_points(batch)} %, with the averaged "
            f"running statistics {_points(final['last'])} %."
        )


def _noise(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    measure = "accuracy" if "accuracy" in rows[0] else "personal_accuracy"
    last = [row[measure] for row in rows if measure in row][1:][-10:]
    if len(last) >= 5 and (deviation := float(np.std(last, ddof=1))) > 0.02:
        yield (
            f"Accuracy still moves by {_points(deviation)} points from round to round (standard deviation of the last "
            f"{len(last)}): quote the mean of the last ten, {_points(float(np.mean(last)))} %, not one round."
        )


def _skipped(summary: Mapping[str, Any]) -> Iterator[str]:
    if skipped := summary["skipped"]:
        first, diverged = skipped[0], all(entry["step"] is not None for entry in skipped)
        many = "1 visit was" if len(skipped) == 1 else f"{len(skipped)} visits were"
        because = " because training diverged" if diverged else ""
        yield f"{many} left out{because}, first client {first['client']} in round {first['round']} ({first['why']})."


def _lost(summary: Mapping[str, Any]) -> Iterator[str]:
    """Work that never reached the model."""
    if void := summary.get("void"):
        many = "1 round was" if len(void) == 1 else f"{len(void)} rounds were"
        yield f"{many} void and left the model as it was, first round {void[0]['round']} ({void[0]['why']})."
    network = summary.get("network") or {}
    if lost := network.get("late", 0) + network.get("dropped", 0):
        yield (
            f"Of {lost + network['arrived']} visits {network['late']} came too late and {network['dropped']} dropped "
            f"out."
        )
    if cut := network.get("steps_cut"):
        yield f"The deadline left no time for {cut:,} of the planned local steps."


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _points(fraction: float) -> str:
    return f"{100 * abs(fraction):.1f}"
