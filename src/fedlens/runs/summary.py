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
OWN = "personal accuracy, each client's own model on its own hold-out"
DETAILS = (
    *("loss", "predicted_entropy", "worst_decile", "recall", "accuracy_batch_statistics", "accuracy_averaged"),
    *("holdout_accuracy", "personal_accuracy"),
)


def summarise(
    federation: Federation, rows: Rows, timings: Rows, found: Sequence[tuple[Reference, Rows]], command: str
) -> dict[str, Any]:
    """summary.json: plain values only. `found`: each reference with its rows."""
    e = federation.experiment
    personal = not federation.engine.trainer.method.one_model
    final = headline(rows, "personal_accuracy" if personal else "accuracy")
    summary: dict[str, Any] = {
        "name": e.name,
        "command": command,
        "engine": federation.settled.why,
        "seed": e.seed,
        "rounds": e.rounds,
        "rounds_done": rows[-1]["round"],
        "metric": OWN if personal else _metric(federation),
        "classes": list(federation.split.train.classes),
        "test_size": len(federation.split.test),
        "final": final | _last_details(federation, rows),
        "references": _references(final, found, personal),
        "cost": _cost(federation, rows, timings),
        "partition": {"kind": e.clients.partition.kind, **split_numbers(federation)},
        "void": [{"round": row["round"], "why": row["void"]} for row in rows if "void" in row],
        "network": _network(rows),
        "skipped": [{"round": row["round"], **entry} for row in rows for entry in row.get("skipped", [])],
    }
    summary["notable"] = notable(summary, rows)
    return summary


def _metric(federation: Federation) -> str:
    metric = f"accuracy on {federation.split.test_is}"
    return metric if federation.exchange is None else f"{metric}, mean over the round's clients of the two halves"


def headline(rows: Rows, measure: str) -> dict[str, Any]:
    """`measure` at the last evaluation, the best and its round, and the mean of the last ten evaluations."""
    seen = [(row["round"], row[measure]) for row in rows if measure in row]
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
    row = [row for row in rows if "loss" in row][-1]
    held = federation.held is not None
    of = "each client's local hold-out" if held else "test recall weighted by each client's labels"
    details = {key: row.get(key) for key in DETAILS} | {"worst_decile_of": of}
    if not federation.engine.trainer.method.one_model:
        details |= {"worst_decile": row["personal_worst_decile"], "worst_decile_of": OWN}
    return details


def _references(
    final: Mapping[str, Any], found: Sequence[tuple[Reference, Rows]], personal: bool
) -> list[dict[str, Any]]:
    """`personal`: the run is judged on the clients' own hold-outs, and so are its references."""
    listed: list[dict[str, Any]] = []
    alone = [(reference, rows) for reference, rows in found if reference.name.startswith("local-only/")]
    for reference, rows in found:
        if (reference, rows) not in alone:
            numbers = headline(rows, _measure(rows, personal))
            about = {"name": reference.name, "title": reference.title, "budget": budget(rows)}
            listed.append({**about, **numbers, "gap": numbers["mean_last_ten"] - final["mean_last_ten"]})
    if alone:
        mean, deviation = spread([headline(rows, _measure(rows, personal))["last"] for _, rows in alone])
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


def _measure(rows: Rows, personal: bool) -> str:
    """What a reference is judged by: one that has a global model is tested with it, also where the run has none."""
    if not personal:
        return "accuracy"
    return "holdout_accuracy" if "accuracy" in rows[0] else "personal_accuracy"


def _network(rows: Rows) -> dict[str, Any] | None:
    """What the simulated network did, over all rounds; None where there was none."""
    told = [row for row in rows if "simulated_seconds" in row]
    if not told:
        return None
    counts = {fate: sum(len(row[fate]) for row in told) for fate in ("late", "dropped", "surplus")}
    return {
        "simulated_seconds": sum(row["simulated_seconds"] for row in told),
        "arrived": sum(len(row["clients"]) for row in told),
        **counts,
        "steps_cut": sum(sum(row["steps_cut"].values()) for row in told),
    }


def _cost(federation: Federation, rows: Rows, timings: Rows) -> dict[str, Any]:
    network = federation.network
    total = {key: sum(row.get(key, 0) for row in rows) for key in ("samples", "steps", "bytes_down", "bytes_up")}
    seconds = {key: sum(row[key] for row in timings) for key in ("train_seconds", "evaluate_seconds")}
    return {**seconds, **total, "parameters": network.parameters, "mflop": network.mflop}
