"""Runs jobs as their authors would, uninstrumented, and writes what they print to run.log.

python bench/doctor/play.py [--seed N] [--dry] [o01 s3 ...]       --dry writes nothing
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent


def folders(names: list[str] | None = None) -> list[Path]:
    """The folders of the jobs `names`, of all jobs and slips where none is named."""
    found = [path.parent for part in ("jobs", "slips") for path in sorted(HERE.glob(f"{part}/*/job.toml"))]
    every = {folder.name: folder for folder in found}
    missing = set(names or ()) - every.keys()
    if missing:
        raise SystemExit(f"no such job: {', '.join(sorted(missing))}; there are {', '.join(every)}")
    return [every[name] for name in names or every]


def maker(folder: Path) -> Any:
    """`make_job` of the job in `folder`."""
    spec = importlib.util.spec_from_file_location(f"job_{folder.name}", folder / "job.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_job


def play(job: Any, rounds: int | None = None, seed: int = 0) -> list[Mapping[str, float]]:
    """The plain loop; what `evaluate` says after each round."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    state, told = job.init(), []
    for number in range(1, (rounds or job.rounds) + 1):
        uploads = [job.fit(client, state, number) for client in job.sample(number)]
        state = job.aggregate(state, uploads, number)
        told.append(job.evaluate(state, number))
    return told


def printed(told: list[Mapping[str, float]]) -> str:
    """The lines of a log."""
    rows = (", ".join(f"{key} {value:.4f}" for key, value in row.items()) for row in told)
    return "".join(f"round {number:3d}: {row}\n" for number, row in enumerate(rows, 1))


def main() -> None:
    """Play the jobs that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for folder in folders(given.jobs):
        began = time.perf_counter()
        told = play(maker(folder)(seed=given.seed), seed=given.seed)
        last = (f"{key} {np.mean([row[key] for row in told[-5:]]):.4f}" for key in told[-1])
        if not given.dry:
            (folder / "run.log").write_text(printed(told))
        seconds = time.perf_counter() - began
        print(folder.name, *last, f"{seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
