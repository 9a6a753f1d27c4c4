"""Which methods help against label skew on CIFAR-10, at equal samples, each with its own tuned rate? Prints the tables.

Run: python studies/methods-cifar10/run.py [--processes 2]; CIFAR-10 is found as `fedlens data` says. Results go to
results.json beside this file; what is there is kept, so an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fedlens as fl
from fedlens.methods import METHODS
from fedlens.runs import prepare
from fedlens.runs.loop import advance
from fedlens.runs.measure import test_set

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from cells import fill  # noqa: E402

RESULTS = HERE / "results.json"
PARTITIONS = {"shards": fl.Shards(2), "dirichlet": fl.Dirichlet(0.1)}
Cell = tuple[str, str, dict[str, float], int, bool]  # partition, method, settings, seed, whether it tunes
SEEDS, ROUNDS, TUNING_ROUNDS, BATCH = (0, 1, 2), 50, 30, 10
RATES = (0.01, 0.03, 0.06, 0.1, 0.2)


def trials(name: str) -> list[dict[str, float]]:
    """The five settings that are tried of a method: client rate "lr" and, for some, one more."""
    grids: dict[str, tuple[str, list[tuple[float, float]]]] = {
        "fedavgm": ("server_lr", [(0.03, 1.0), (0.01, 1.0), (0.06, 0.3), (0.03, 0.3), (0.1, 0.1)]),
        "fedadagrad": ("server_lr", [(0.03, 0.01), (0.03, 0.03), (0.03, 0.1), (0.06, 0.03), (0.01, 0.03)]),
        "fedadam": ("server_lr", [(0.03, 0.003), (0.03, 0.01), (0.03, 0.03), (0.06, 0.01), (0.01, 0.01)]),
        "fedyogi": ("server_lr", [(0.03, 0.003), (0.03, 0.01), (0.03, 0.03), (0.06, 0.01), (0.01, 0.01)]),
        "feddyn": ("alpha", [(0.06, 0.01), (0.03, 0.01), (0.1, 0.1), (0.06, 0.1), (0.03, 0.1)]),
        "moon": ("mu", [(0.03, 1.0), (0.06, 1.0), (0.1, 1.0), (0.06, 5.0), (0.03, 5.0)]),
    }
    if name not in grids:
        return [{"lr": rate} for rate in RATES]
    other, pairs = grids[name]
    return [{"lr": rate, other: value} for rate, value in pairs]


# The methods that learn one model from updates, by optimisation or by their loss.
COMPARED = (
    *("fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fedprox", "scaffold", "fednova", "feddyn", "fedexp"),
    *("fedsam", "fedasam", "fedlc", "fedrs", "fedntd", "moon"),
)


def experiment(partition: str, name: str, settings: dict[str, float], seed: int, tuning: bool) -> fl.Experiment:
    """One run; a tuning run has 80 clients and another test set."""
    extra = {key: value for key, value in settings.items() if key != "lr"}
    rounds = TUNING_ROUNDS if tuning else ROUNDS
    deal = fl.Natural("client") if tuning else PARTITIONS[partition]
    return fl.Experiment(
        name=f"{partition}-{name}",
        seed=seed,
        rounds=rounds,
        evaluate_every=rounds,
        data=fl.Data(f"held_out:{partition if tuning else 'whole'}"),
        clients=fl.Clients(count=80 if tuning else 100, cohort=8 if tuning else 10, partition=deal),
        model=fl.Model("lenet"),
        local=fl.Local(epochs=1, batch=BATCH, lr=settings["lr"]),
        method=METHODS[name](**extra),
        server=fl.Server(average_from=None if tuning else 0.75),
        engine=fl.Engine(threads=1),
    )


def curve(cell: Cell) -> dict[str, Any]:
    """Accuracies by round: every tenth and the last ten; and of the mean of models."""
    sys.path.insert(0, str(HERE))
    job = experiment(*cell)
    seen: dict[str, Any] = {}
    try:
        federation = prepare(job)
        for state in advance(federation):
            if state.round % 10 == 0 or state.round > job.rounds - 10:
                seen[str(state.round)] = test_set(federation, state.tree).accuracy
        seen["averaged"] = state.row.get("accuracy_averaged")
    except fl.FedlensError as error:
        seen["failed"] = str(error).splitlines()[0]
    return seen


def key(cell: Cell) -> str:
    """The cell's name."""
    partition, name, settings, seed, tuning = cell
    written = ",".join(f"{key}={value:g}" for key, value in settings.items())
    return f"{'tune' if tuning else 'final'}/{partition}/{name}/{written}/{seed}"


def tuning_cells() -> Iterator[Cell]:
    """Every trial of every method, on one seed."""
    for name in COMPARED:
        for partition in PARTITIONS:
            yield from ((partition, name, settings, 100, True) for settings in trials(name))


def final_cells(results: dict[str, Any]) -> Iterator[Cell]:
    """Every method with its best settings, seed by seed."""
    for seed in SEEDS:
        for name in COMPARED:
            for partition in PARTITIONS:
                yield partition, name, best(results, partition, name), seed, False


def last_ten(seen: dict[str, Any]) -> float:
    """Mean accuracy of the last ten rounds; 0 where training failed."""
    rounds = sorted(int(number) for number in seen if number.isdigit())
    return 0.0 if "failed" in seen else statistics.mean(seen[str(number)] for number in rounds[-10:])


def best(results: dict[str, Any], partition: str, name: str) -> dict[str, float]:
    """The settings with the best tuning result."""
    return max(trials(name), key=lambda s: last_ten(results[key((partition, name, s, 100, True))]))


def table(results: dict[str, Any], partition: str) -> str:
    """Mean and standard deviation over seeds; the gain over FedAvg paired by seed, in its own standard deviations."""
    rows = {name: _row(results, partition, name) for name in COMPARED}
    base = rows["fedavg"]["tail"]
    lines = [
        f"\n| {partition} | settings | last | best | mean of last ten | averaged model | gain over fedavg | in sd |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(rows.items(), key=lambda pair: -statistics.mean(pair[1]["tail"])):
        gains = [one - other for one, other in zip(row["tail"], base, strict=True)]
        spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
        in_sd = f"{statistics.mean(gains) / spread:+.1f}" if spread else "-"
        numbers = [_spread(row[column]) for column in ("last", "best", "tail", "averaged")]
        gain = "-" if name == "fedavg" else f"{statistics.mean(gains):+.1f} ± {spread:.1f}"
        lines.append(f"| {name} | {row['settings']} | " + " | ".join(numbers) + f" | {gain} | {in_sd} |")
    return "\n".join(lines)


def _row(results: dict[str, Any], partition: str, name: str) -> dict[str, Any]:
    settings = best(results, partition, name)
    runs = [results[key((partition, name, settings, seed, False))] for seed in SEEDS]
    curves = [{int(number): value for number, value in run.items() if number.isdigit()} for run in runs]
    return {
        "settings": ", ".join(f"{key} {value:g}" for key, value in settings.items()),
        "last": [100 * run.get(str(ROUNDS), 0.1) for run in runs],
        "best": [100 * max(curve.values(), default=0.1) for curve in curves],
        "tail": [100 * last_ten(run) for run in runs],
        "averaged": [100 * run["averaged"] for run in runs if run.get("averaged") is not None],
    }


def _spread(values: list[float]) -> str:
    if len(values) < len(SEEDS):
        return f"failed {len(SEEDS) - len(values)} of {len(SEEDS)}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def main() -> None:
    """Run what is missing and print the tables."""
    tuned = fill(RESULTS, tuning_cells(), key, curve)
    results = fill(RESULTS, final_cells(tuned), key, curve)
    for partition in PARTITIONS:
        print(table(results, partition))


if __name__ == "__main__":
    main()
