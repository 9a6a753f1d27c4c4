"""Source 004's question on MNIST: does batch norm break federated training, and does another norm mend it?

The network of the document (mobilenet-mnist), 100 clients, 10 a round, one epoch in batches of 10, as many rounds for
batch, group and layer norm, IID and with two shards a client. Batch norm is tested twice: with the averaged running
statistics, as it would be deployed, and with those of each test batch.

Run: python studies/mnist-source004/run.py [--processes 2]; MNIST is found as `fedlens data` says. Results go to
results.json beside this file; what is there is kept, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fedlens as fl
from fedlens.runs import prepare
from fedlens.runs.loop import advance
from fedlens.runs.measure import measure

sys.path.insert(0, str(Path(__file__).parents[1]))

from cells import fill

RESULTS = Path(__file__).with_name("results.json")
SEEDS, ROUNDS, TAIL = (0, 1, 2), 40, 10
NORMS = {"batch": {}, "group": {"groups": 8}, "layer": {}}
PARTITIONS = ("iid", "shards:2")
TREATMENTS = {
    "batch": {},
    "batch, recalibrated": {"server": {"statistics": "recalibrate"}},
    "batch, frozen from half": {"local": {"freeze_statistics_from": 0.5}},
    "group": {},
    "layer": {},
}
Cell = tuple[str, str, int]


def cells() -> Iterator[Cell]:
    """Every (partition, treatment, seed), seed by seed; treatments of batch norm come last."""
    plain = [name for name in TREATMENTS if "," not in name]
    for names in (plain, [name for name in TREATMENTS if name not in plain]):
        for seed in SEEDS:
            for partition in PARTITIONS:
                yield from ((partition, name, seed) for name in names)


def experiment(cell: Cell) -> fl.Experiment:
    """One run."""
    partition, name, seed = cell
    norm, changes = name.split(",")[0], TREATMENTS[name]
    return fl.Experiment(
        name=key(cell),
        seed=seed,
        rounds=ROUNDS,
        evaluate_every=ROUNDS,
        data=fl.Data("mnist"),
        clients=fl.Clients(count=100, cohort=10, partition=partition),
        model=fl.Model("mobilenet-mnist", norm=norm, **NORMS[norm]),
        local=fl.Local(epochs=1, batch=10, lr=0.05, **changes.get("local", {})),
        server=fl.Server(**changes.get("server", {})),
        engine=fl.Engine(threads=1),
    )


def key(cell: Cell) -> str:
    """The cell's name."""
    return "/".join(map(str, cell))


def curve(cell: Cell) -> list[list[float | None]]:
    """[round, accuracy, accuracy with batch statistics] of every fifth round and the last ten.

    A run that diverges ends with [round, None, None].
    """
    job, seen, round = experiment(cell), [], 0
    federation = prepare(job)
    try:
        for state in advance(federation):
            round = state.round
            if round % 5 == 0 or round > ROUNDS - TAIL:
                row = measure(federation, state.tree, state.memory, last=False)
                seen.append([round, row["accuracy"], row.get("accuracy_batch_statistics", row["accuracy"])])
    except fl.RunError as error:
        if "diverged" not in str(error):
            raise
        seen.append([round + 1, None, None])
    return seen


def table(results: dict[str, Any]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    lines = ["| clients | norm | tested with | last | best | mean of last ten |", "|---|---|---|---|---|---|"]
    for partition in PARTITIONS:
        for name in TREATMENTS:
            runs = [results[at] for seed in SEEDS if (at := key((partition, name, seed))) in results]
            if len(runs) < len(SEEDS):
                continue
            lost = sum(run[-1][1] is None for run in runs)
            if lost:
                lines.append(f"| {partition} | {name} | diverged in {lost} of {len(runs)} seeds | | | |")
                continue
            tests = (
                {"running statistics": 1, "batch statistics": 2} if name.startswith("batch") else {"no statistics": 1}
            )
            for said, column in tests.items():
                values = [[100 * row[column] for row in run] for run in runs]
                numbers = [[v[-1] for v in values], [max(v[1:]) for v in values]]
                numbers.append([statistics.mean(v[-TAIL:]) for v in values])
                shown = " | ".join(f"{statistics.mean(n):.1f} ± {statistics.stdev(n):.1f}" for n in numbers)
                lines.append(f"| {partition} | {name} | {said} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    print(table(fill(RESULTS, cells(), key, curve)))


if __name__ == "__main__":
    main()
