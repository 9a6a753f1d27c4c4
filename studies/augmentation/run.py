"""What augmentation does to federated training at equal samples: digits and CIFAR-10. Prints the table.

Digits: the demo's model, 20 clients, 10 a round, 40 rounds, IID and two shards. CIFAR-10: LeNet, 100 clients, 10 a
round, IID, 60 rounds of one epoch. Rates are not tuned.

Run: python studies/augmentation/run.py [--processes 2]; CIFAR-10 is found as `fedlens data` says. Results go to
results.json beside this file; what is there is kept, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import fedlens as fl
from fedlens.runs import prepare
from fedlens.runs.loop import advance
from fedlens.runs.measure import test_set

sys.path.insert(0, str(Path(__file__).parents[1]))

from cells import fill

RESULTS = Path(__file__).with_name("results.json")
SEEDS, TAIL = (0, 1, 2), 10
Cell = tuple[str, str, int]
JOBS: dict[str, tuple[str, ...]] = {
    "digits, iid": ("none", "shift"),
    "digits, shards:2": ("none", "shift"),
    "cifar10, iid": ("none", "flip", "crop-flip", "crop-flip-cutout"),
}


def cells() -> Iterator[Cell]:
    """Every (job, augmentation, seed)."""
    for seed in SEEDS:
        for job, kinds in JOBS.items():
            yield from ((job, kind, seed) for kind in kinds)


def experiment(cell: Cell) -> fl.Experiment:
    """One run."""
    job, kind, seed = cell
    source, partition = job.split(", ")
    digits = source == "digits"
    return fl.Experiment(
        name=key(cell),
        seed=seed,
        rounds=40 if digits else 60,
        evaluate_every=1000,
        data=fl.Data(source, augment=kind),
        clients=fl.Clients(count=20 if digits else 100, cohort=10, partition=partition),
        model=fl.Model("small-cnn", groups=4) if digits else fl.Model("lenet"),
        local=fl.Local(epochs=1, batch=10, lr=0.05),
        engine=fl.Engine(threads=1),
    )


def key(cell: Cell) -> str:
    """The cell's name."""
    return "/".join(map(str, cell))


def tail(cell: Cell) -> float:
    """The mean test accuracy of the last ten rounds."""
    job = experiment(cell)
    federation = prepare(job)
    late = (state for state in advance(federation) if state.round > job.rounds - TAIL)
    return statistics.mean(test_set(federation, state.tree).accuracy for state in late)


def table(results: dict[str, float]) -> str:
    """Mean and standard deviation over seeds, in percent; the gain is paired by seed."""
    lines = ["| job | augmentation | mean of last ten | gain over none |", "|---|---|---|---|"]
    for job, kinds in JOBS.items():
        runs = {kind: [100 * results[f"{job}/{kind}/{seed}"] for seed in SEEDS] for kind in kinds}
        for kind, values in runs.items():
            gains = [one - other for one, other in zip(values, runs["none"], strict=True)]
            gain = "-" if kind == "none" else f"{statistics.mean(gains):+.1f} ± {statistics.stdev(gains):.1f}"
            lines.append(
                f"| {job} | {kind} | {statistics.mean(values):.1f} ± {statistics.stdev(values):.1f} | {gain} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    print(table(fill(RESULTS, cells(), key, tail)))


if __name__ == "__main__":
    main()
