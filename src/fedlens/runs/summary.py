"""A finished (or interrupted) run in one value: its numbers, its references, its cost, and what stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlens.partition import describe
from fedlens.runs.federation import Federation
from fedlens.runs.notable import notable
from fedlens.runs.references import Reference, budget, spread
from fedlens.seeds import generator

Rows = Sequence[Mapping[str, Any]]


def summarise(
    federation: Federation, rows: Rows, timings: Rows, found: Sequence[tuple[Reference, Rows]], command: str
) -> dict[str, Any]:
    """summary.json: plain values only. `found`: each reference with its rows."""
    e = federation.experiment
    final = headline(rows)
    summary: dict[str, Any] = {
        "name": e.name,
        "command": command,
        "seed": e.seed,
        "rounds": e.rounds,
        "rounds_done": rows[-1]["round"],
        "metric": f"accuracy on {federation.split.test_is}",
        "classes": list(federation.split.train.classes),
        "final": final | _last_details(federation, rows),
        "references": _references(final, found),
        "cost": _cost(federation, rows, timings),
        "partition": {"kind": e.clients.partition.kind, **split_numbers(federation)},
        "skipped": [{"round": row["round"], **entry} for row in rows for entry in row.get("skipped", [])],
    }
    summary["notable"] = notable(summary, rows)
    return summary


def headline(rows: Rows) -> dict[str, Any]:
    """Accuracy at the last evaluation, the best and its round, and the mean of the last ten evaluations."""
    seen = [(row["round"], row["accuracy"]) for row in rows if "accuracy" in row]
    trained = seen[1:] or seen  # the untrained model is no candidate for best
    best_round, best = max(trained, key=lambda pair: pair[1])
    return {
        "last": seen[-1][1],
        "best": best,
        "best_round": best_round,
        "mean_last_ten": float(np.mean([accuracy for _, accuracy in trained[-10:]])),
        "evaluations_in_mean": len(trained[-10:]),
    }


def split_numbers(federation: Federation) -> dict[str, Any]:
    """The numbers that describe how the training examples are dealt."""
    labels, rng = federation.split.train.labels.numpy(), generator(federation.experiment.seed, "describe")
    return describe(federation.deal, labels, federation.classes, rng).as_dict()


def _last_details(federation: Federation, rows: Rows) -> dict[str, Any]:
    row = [row for row in rows if "accuracy" in row][-1]
    keys = ("loss", "predicted_entropy", "worst_decile", "recall", "accuracy_batch_statistics", "holdout_accuracy")
    of = (
        "each client's local hold-out"
        if federation.held is not None
        else "test recall weighted by each client's labels"
    )
    return {key: row.get(key) for key in keys} | {"worst_decile_of": of}


def _references(final: Mapping[str, Any], found: Sequence[tuple[Reference, Rows]]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    alone = [(reference, rows) for reference, rows in found if reference.name.startswith("local-only/")]
    for reference, rows in found:
        if (reference, rows) not in alone:
            numbers = headline(rows)
            about = {"name": reference.name, "title": reference.title, "budget": budget(rows)}
            listed.append({**about, **numbers, "gap": numbers["mean_last_ten"] - final["mean_last_ten"]})
    if alone:
        mean, deviation = spread([headline(rows)["last"] for _, rows in alone])
        listed.append(
            {
                "name": "local-only",
                "title": "local only",
                "budget": f"{budget([row for _, rows in alone for row in rows])}, shared by {len(alone)} clients",
                "clients": len(alone),
                "last": mean,
                "spread": deviation,
                "gap": mean - final["mean_last_ten"],
            }
        )
    return listed


def _cost(federation: Federation, rows: Rows, timings: Rows) -> dict[str, Any]:
    network = federation.network
    total = {key: sum(row.get(key, 0) for row in rows) for key in ("samples", "steps", "bytes_down", "bytes_up")}
    seconds = {key: sum(row[key] for row in timings) for key in ("train_seconds", "evaluate_seconds")}
    return {**seconds, **total, "parameters": network.parameters, "mflop": network.mflop}
