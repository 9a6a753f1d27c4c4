"""Robust rules on digits: accuracy under 0, 20 and 30 % attackers, IID and label-skewed. Prints the table.

Run: python studies/robust-digits/run.py [--processes 2]; it writes results.json beside itself, and keeps what is there.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fedlens as fl

sys.path.insert(0, str(Path(__file__).parents[1]))

from cells import fill

RESULTS = Path(__file__).with_name("results.json")
RULES = (
    "mean",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "bulyan",
    "geometric-median",
    "norm-clip",
)
CLIENTS, ROUNDS, SEEDS, FLIPPED = 20, 30, (0, 1, 2), 3.0
ATTACKERS = (0, 4, 6)


def cells() -> Iterator[tuple[str, str, int, int]]:
    """Every (partition, rule, attackers, seed). A rule is told the number of attackers; where there is none, 4."""
    for partition in ("iid", "shards:2"):
        for rule in RULES:
            for attackers in ATTACKERS:
                if rule == "bulyan" and 4 * (attackers or 4) + 3 > CLIENTS:
                    continue  # 20 clients do not suffice against 6
                for seed in SEEDS:
                    yield partition, rule, attackers, seed


def key(cell: tuple[str, str, int, int]) -> str:
    """The cell's name."""
    return "/".join(map(str, cell))


def accuracy(cell: tuple[str, str, int, int]) -> float:
    """The mean test accuracy of the last ten rounds."""
    partition, rule, attackers, seed = cell
    expected = attackers or 4
    text = {"trimmed-mean": f"trimmed-mean:{expected / CLIENTS}"}.get(rule, rule)
    text = f"{rule}:{expected}" if rule in ("krum", "multi-krum", "bulyan") else text
    experiment = fl.Experiment(
        seed=seed,
        rounds=ROUNDS,
        clients=fl.Clients(
            count=CLIENTS, cohort=CLIENTS, partition=partition, attackers=attackers, attack=f"sign-flip:{FLIPPED}"
        ),
        model=fl.Model("small-cnn", groups=4),
        local=fl.Local(epochs=2, batch=10, lr=0.05),
        server=fl.Server(reduce=text),
        engine=fl.Engine(threads=1),
    )
    last = [state.accuracy for state in fl.stream(experiment) if state.round > ROUNDS - 10]
    return statistics.mean(value for value in last if value is not None)


def table(results: dict[str, float]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    lines = []
    for partition in ("iid", "shards:2"):
        lines.append(f"\n| {partition} | " + " | ".join(f"{100 * a // CLIENTS} % attackers" for a in ATTACKERS) + " |")
        lines.append("|---|" + "---|" * len(ATTACKERS))
        for rule in RULES:
            row: list[Any] = []
            for attackers in ATTACKERS:
                values = [100 * results[k] for s in SEEDS if (k := f"{partition}/{rule}/{attackers}/{s}") in results]
                row.append(f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" if values else "-")
            lines.append(f"| {rule} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    print(table(fill(RESULTS, cells(), key, accuracy)))


if __name__ == "__main__":
    main()
