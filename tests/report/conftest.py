"""A run folder made by hand: small, whole, and with every file that a run may write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLASSES = [str(digit) for digit in range(10)]
EXPERIMENT = """\
name = "{name}"
seed = 0
rounds = {rounds}

[data]
source = "digits"

[clients]
count = 20
cohort = 5
partition = {{ kind = "shards", per_client = 2 }}

[local]
epochs = 1
batch = 10
lr = {lr}
"""


def shards(clients: int, rng: np.random.Generator) -> np.ndarray:
    counts = np.zeros((clients, 10), np.int64)
    for client in range(clients):
        counts[client, rng.choice(10, 2, replace=False)] = rng.integers(25, 48, 2)
    return counts


def curve(rounds: int, top: float, pace: float, rng: np.random.Generator) -> list[float]:
    steps = np.arange(rounds + 1)
    return [
        float(value)
        for value in np.clip(top - (top - 0.1) * np.exp(-steps / pace) + rng.normal(0, 0.012, rounds + 1), 0, 1)
    ]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def round_rows(rounds: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    accuracy = curve(rounds, 0.92, rounds / 4, rng)
    rows = []
    for number in range(rounds + 1):
        row: dict[str, Any] = {"round": number}
        if number:
            first = 2.3 * 0.93**number + 0.2
            row |= {"rate": 0.05, "clients": [1, 2, 3], "examples": 360, "steps": 36, "loss_first": first}
            row |= {"loss_last": first * 0.3, "update_norm": 1.2, "coherence": 0.2 + 0.4 / number}
            row |= {"bytes_down": 10**5, "bytes_up": 10**5, "skipped": []}
        if number == 4:
            row["skipped"] = [{"client": 3, "step": 7, "why": "loss is NaN"}]
        recall = [float(value) for value in np.clip(accuracy[number] + rng.normal(0, 0.08, 10), 0, 1)]
        row |= {
            "accuracy": accuracy[number],
            "loss": 1.0,
            "recall": recall,
            "predicted_entropy": 0.99,
            "worst_decile": 0.8,
        }
        row["accuracy_batch_statistics"] = accuracy[number] * 0.8 + 0.05
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], name: str, rounds: int) -> dict[str, Any]:
    accuracy = [row["accuracy"] for row in rows]
    best = int(np.argmax(accuracy))
    last = accuracy[-1]
    references = [
        {"name": "centralised", "title": "centralised, same samples", "budget": "21,555 samples in 2,160 steps",
         "last": 0.965, "best": 0.97, "mean_last_ten": 0.96, "gap": 0.965 - last},
        {"name": "centralised-depth", "title": "centralised, same depth", "budget": "4,310 samples in 432 steps",
         "last": 0.943, "best": 0.95, "mean_last_ten": 0.94, "gap": 0.943 - last},
        {"name": "iid", "title": "same federation, dealt IID", "budget": "10,800 samples in 1,080 steps",
         "last": 0.951, "best": 0.955, "mean_last_ten": 0.95, "gap": 0.951 - last},
        {"name": "local-only", "title": "local only", "budget": "1,080 samples in 108 steps a client", "last": 0.352,
         "spread": 0.08, "clients": 5, "gap": 0.352 - last},
    ]  # fmt: skip
    final = {"last": last, "best": accuracy[best], "best_round": best, "mean_last_ten": float(np.mean(accuracy[-10:])),
             "accuracy_batch_statistics": 0.78, "loss": 0.31, "predicted_entropy": 0.99, "worst_decile": 0.8,
             "worst_decile_of": "test recall weighted by each client's own label mix", "recall": rows[-1]["recall"],
             "holdout_accuracy": None}  # fmt: skip
    return {
        "name": name, "command": "fedlens run digits.toml --set local.lr=0.05", "seed": 0,
        "rounds": rounds, "rounds_done": rounds,
        "metric": "accuracy on the official test set (360 images)", "classes": CLASSES,
        "final": final, "references": references,
        "cost": {"train_seconds": 12.1, "evaluate_seconds": 1.0, "samples": 10800, "steps": 1080,
                 "bytes_down": 3 * 10**6, "bytes_up": 3 * 10**6, "parameters": 12345, "mflop": 0.42},
        "partition": {"kind": "shards", "clients": 20, "samples": 1437, "size_min": 52,
                      "size_median": 71, "size_max": 94, "size_variation": 0.14, "classes_min": 2, "classes_mean": 2.0,
                      "classes_max": 2,
                      "total_variation": 0.79, "total_variation_null": 0.12, "total_variation_null_95": 0.15},
        "notable": ["Clients hold 2 of 10 classes.", "Batch statistics cost 12.9 points against the running ones."],
    }  # fmt: skip


def write_visits(path: Path, rounds: int, rng: np.random.Generator) -> None:
    number = np.repeat(np.arange(1, rounds + 1), 5)
    visits = len(number)
    np.savez(
        path, round=number, client=rng.integers(0, 20, visits), examples=np.full(visits, 72), steps=np.full(visits, 7),
        loss_first=rng.random(visits), loss_last=rng.random(visits),
        update_norm=(1 + 3 / number) * rng.lognormal(0, 0.2, visits),
    )  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Build a whole run folder; tests take away from it what their story lacks."""
    return lambda name="digits-shards", **options: build_run(tmp_path / "runs", name, **options)


def build_run(
    parent: Path, name: str, *, folder: str = "", rounds: int = 30, lr: float = 0.05, clients: int = 20
) -> Path:
    rng = np.random.default_rng(3)
    run = parent / (folder or "".join(sign for sign in name if sign.isalnum() or sign == "-"))
    (run / "clients").mkdir(parents=True)
    (run / "experiment.toml").write_text(EXPERIMENT.format(name=name.replace('"', ""), rounds=rounds, lr=lr))
    environment = {"fedlens": "0.1.0", "python": "3.11.9", "torch": "2.6.0", "platform": "Linux", "cpu": "a processor",
                   "cores": 2, "threads": 1, "command": "fedlens run", "git": "afb7e01",
                   "started": "2026-11-20 14:12"}  # fmt: skip
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "status").write_text("done\n")
    rows = round_rows(rounds, rng)
    write_lines(run / "rounds.jsonl", rows)
    write_lines(
        run / "timings.jsonl",
        [{"round": number, "train_seconds": 0.4, "evaluate_seconds": 0.03} for number in range(1, rounds + 1)],
    )
    np.savez(run / "clients" / "partition.npz", counts=shards(clients, rng))
    write_visits(run / "clients" / f"00001-{rounds:05d}.npz", rounds, rng)
    for reference, top in (("centralised", 0.965), ("centralised-depth", 0.943), ("iid", 0.951)):
        values = curve(rounds, top, rounds / 12, rng)
        write_lines(
            run / "references" / reference / "rounds.jsonl",
            [{"round": at, "accuracy": value} for at, value in enumerate(values)],
        )
    (run / "summary.json").write_text(json.dumps(summary(rows, name, rounds)))
    return run
