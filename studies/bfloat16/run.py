"""What bfloat16 passes do to accuracy: the same runs in float32 and bfloat16, three seeds. Prints the table.

MNIST: McMahan et al.'s CNN, 1000 clients of 60, 50 a round, 12 rounds, IID. CIFAR-10: ResNet-8 with group norm and
with batch norm, 100 clients, 10 a round, 10 rounds, two shards a client for group norm, IID for batch norm. Batches of
10, one epoch, rate 0.05, not tuned.

Run: python studies/bfloat16/run.py [--processes 2]; the data are found as `fedlens data` says. Results go to
results.json beside this file; what is there is kept.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fedlens as fl
from fedlens.runs import prepare
from fedlens.runs.loop import advance
from fedlens.runs.measure import test_set

sys.path.insert(0, str(Path(__file__).parents[1]))

from cells import fill

RESULTS = Path(__file__).with_name("results.json")
SEEDS, TAIL = (0, 1, 2), 5
Cell = tuple[str, str, int]
JOBS = {
    "mnist, cnn": (fl.Data("mnist"), fl.Model("cnn"), fl.Clients(count=1000, cohort=50), 12),
    "cifar10, resnet8 group norm": (
        fl.Data("cifar10"),
        fl.Model("resnet8", norm="group", groups=8),
        fl.Clients(count=100, cohort=10, partition="shards:2"),
        10,
    ),
    "cifar10, resnet8 batch norm": (fl.Data("cifar10"), fl.Model("resnet8"), fl.Clients(count=100, cohort=10), 10),
}


def cells() -> Iterator[Cell]:
    """Every (job, precision, seed), seed by seed."""
    for seed in SEEDS:
        for job in JOBS:
            yield from ((job, precision, seed) for precision in ("float32", "bfloat16"))


def tail(cell: Cell) -> float:
    """The mean test accuracy of the last five rounds, tested in float32."""
    name, precision, seed = cell
    data, model, clients, rounds = JOBS[name]
    plain = fl.Engine(kind="sequential", layout="channels-first", threads=1)
    local = fl.Local(epochs=1, batch=10, lr=0.05)
    exact = fl.Experiment(
        seed=seed,
        rounds=rounds,
        evaluate_every=1000,
        data=data,
        model=model,
        clients=clients,
        local=local,
        engine=plain,
    )
    job, tested = replace(exact, engine=replace(plain, precision=precision)), prepare(exact)
    late = (state for state in advance(prepare(job)) if state.round > rounds - TAIL)
    return statistics.mean(test_set(tested, state.tree).accuracy for state in late)


def key(cell: Cell) -> str:
    """The cell's name."""
    return "/".join(map(str, cell))


def table(results: dict[str, float]) -> str:
    """Mean and standard deviation over seeds, in percent; the difference is paired by seed."""
    lines = ["| job | float32 | bfloat16 | difference |", "|---|---|---|---|"]
    for job in JOBS:
        exact, rounded = ([100 * results[key((job, p, seed))] for seed in SEEDS] for p in ("float32", "bfloat16"))
        shown = [exact, rounded, [b - a for a, b in zip(exact, rounded, strict=True)]]
        numbers = [f"{statistics.mean(n):.1f} ± {statistics.stdev(n):.1f}" for n in shown]
        lines.append(f"| {job} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    print(table(fill(RESULTS, cells(), key, tail)))


if __name__ == "__main__":
    main()
