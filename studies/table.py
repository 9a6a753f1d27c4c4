"""Print the table of a study from its run folders: mean and standard deviation over seeds, rounds to targets.

Run: python studies/table.py studies/mnist-mcmahan/results/* --targets 0.95 0.97 0.99
Folders whose experiments differ only in their seed are one row. "never" counts a seed that did not reach the target.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read(folder: Path) -> dict[str, Any]:
    """One run: its settings, its evaluated rows, its summary (empty while it is unfinished)."""
    rows = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    summary = folder / "summary.json"
    return {
        "settings": tomllib.loads((folder / "experiment.toml").read_text()),
        "rows": [row for row in rows if "accuracy" in row and row["round"] > 0],
        "summary": json.loads(summary.read_text()) if summary.exists() else {},
    }


def rounds_to(run: dict[str, Any], target: float) -> int | None:
    """The first round whose test accuracy is at least `target` (McMahan 2017 draws the monotone curve: the same)."""
    return next((row["round"] for row in run["rows"] if row["accuracy"] >= target), None)


def line(runs: Sequence[dict[str, Any]], targets: Sequence[float]) -> list[str]:
    """The cells of one row."""
    accuracy = [np.array([row["accuracy"] for row in run["rows"]]) for run in runs]
    cells = [runs[0]["settings"]["name"], str(len(runs)), str(runs[0]["rows"][-1]["round"])]
    for values in ([a[-1] for a in accuracy], [a.max() for a in accuracy], [a[-10:].mean() for a in accuracy]):
        cells.append(spread([100 * float(value) for value in values], 1))
    for target in targets:
        reached = [rounds_to(run, target) for run in runs]
        cells.append("never" if None in reached else spread([float(r) for r in reached if r is not None], 0))
    return cells


def references(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Rows of the references that every one of `runs` has."""
    lists = [run["summary"].get("references", []) for run in runs]
    found = []
    for position, first in enumerate(lists[0]):
        entries = [entries[position] for entries in lists]
        name = f"{runs[0]['settings']['name']}: {first['title']} ({first['budget']})"
        shown = [[100 * entry[key] for entry in entries if key in entry] for key in ("last", "best", "mean_last_ten")]
        found.append([name, str(len(runs)), "", *(spread(values, 1) if values else "" for values in shown)])
    return found


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation (n - 1), or the value alone."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def main() -> None:
    """Group the folders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--targets", nargs="*", type=float, default=[])
    arguments = parser.parse_args()
    groups: dict[str, list[dict[str, Any]]] = {}
    for folder in sorted(arguments.folders):
        run = read(folder)
        key = json.dumps({**run["settings"], "seed": 0, "engine": {}}, sort_keys=True)
        groups.setdefault(key, []).append(run)
    targets = [f"rounds to {100 * target:g} %" for target in arguments.targets]
    head = ["run", "seeds", "rounds", "last %", "best %", "mean of last ten %", *targets]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for runs in groups.values():
        print("| " + " | ".join(line(runs, arguments.targets)) + " |")
        for cells in references(runs) if all(run["summary"] for run in runs) else []:
            print("| " + " | ".join(cells + [""] * len(targets)) + " |")


if __name__ == "__main__":
    main()
