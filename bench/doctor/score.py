"""How well the doctor tells what ails the jobs of this benchmark.

python bench/doctor/score.py [--seeds N] [--slips] [--fix] [--json FILE] [o01 h03 s2 ...]

Every examination has a process of its own with one thread; two run at once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from play import HERE, folders, maker
from rules import from_log
from tally import HEAD, Said, Scores, Told, Truth, by_chance, row, scores, summary

APART = 1000  # between the seeds of two examinations, so that the paired seeds of one are not those of the other
AT_ONCE = 2


def truths() -> dict[str, Truth]:
    """What ails each job, by its name."""
    read = tomllib.loads((HERE / "truth.toml").read_text())
    return {name: _truth(facts) for part in ("jobs", "slips") for name, facts in read[part].items()}


def examined(name: str, given: int, fix: bool) -> Told:
    """Let the doctor examine a job in this process."""
    import torch

    from fedlens.diagnosis.doctor import diagnose
    from fedlens.diagnosis.subject.patient import Subject

    torch.set_num_threads(1)
    make = maker(folders([name])[0])
    began = time.perf_counter()
    found = diagnose(Subject(lambda seed=0: make(seed=seed + given * APART), name), fix=fix)
    return told(name, given, found, time.perf_counter() - began)


def told(name: str, seed: int, found: Any, seconds: float) -> Told:
    """A diagnosis as it is kept."""
    recovered, verified = treated(found.treatments)
    return Told(
        job=name,
        seed=seed,
        suspects=tuple(
            Said(
                cause=one.cause,
                also=tuple(one.also),
                certainty=int(one.certainty),
                clients=tuple(one.clients),
                where=one.where,
            )
            for one in found.suspects
        ),
        noted=tuple(one.cause for one in found.noted),
        runs=_known(found.cost.get("runs")),
        first=_known(found.cost.get("first")),
        recovered=recovered,
        verified=verified,
        tried=tuple(_line(one) for one in found.treatments),
        seconds=seconds,
    )


def treated(treatments: Sequence[Any]) -> tuple[float | None, bool | None]:
    """What the first remedy that is proven gave back, else the first that was tried, and whether it is proven.

    Where more faults than one were mended over as many rounds, what all remedies together gave back of what could be
    had in the end counts, if that is more.
    """
    if not treatments:
        return None, None
    proven = [one for one in treatments if one.verified]
    first = (proven or treatments)[0]
    shares = [_known(first.recovered)]
    if len(proven) > 1 and shares[0] is not None and first.before.rounds == proven[-1].after.rounds:
        gap = proven[-1].reference - first.before.mean
        shares.append(_known((proven[-1].after.mean - first.before.mean) / gap) if gap > 0 else None)
    return max((one for one in shares if one is not None), default=None), first.verified


def _line(one: Any) -> str:
    """A treatment in a line."""
    return f"{'proven' if one.verified else 'tried '} {one.finding.cause} {one.finding.treatment}: {one.says}"


def apart(name: str, seed: int, fix: bool, limit: float) -> Told:
    """The same in a process of its own; one that fails or takes more than `limit` seconds says nothing of the job."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "told.json"
        command = [sys.executable, __file__, name, "--into", str(file), "--seed", str(seed), *(["--fix"] * fix)]
        single = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        began = time.perf_counter()
        try:
            done = subprocess.run(command, env=single, timeout=limit, capture_output=True, text=True, errors="replace")
            why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        except subprocess.TimeoutExpired:
            why = f"no end within {limit:g} s"
        try:
            return revived(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):  # nothing was written, or not all of it
            return Told(job=name, seed=seed, failed=why, seconds=time.perf_counter() - began)


def revived(kept: dict[str, Any]) -> Told:
    """A diagnosis from its JSON."""
    suspects = tuple(Said(**{key: _tuple(value) for key, value in one.items()}) for one in kept["suspects"])
    return Told(**{**kept, "suspects": suspects, "noted": tuple(kept["noted"]), "tried": tuple(kept["tried"])})


def rivals(every: list[Told], known: dict[str, Truth]) -> dict[str, Scores]:
    """What is said without any examination, of the same jobs."""
    always = [Told(job=one.job, seed=one.seed, suspects=(Said(cause="P1"),)) for one in every]
    by_rule = [Told(job=one.job, seed=one.seed, suspects=_ruled(one.job)) for one in every]
    drawn = by_chance([known[one.job] for one in every])
    return {'"non-IID"': scores(always, known), "log rules": scores(by_rule, known), "chance": drawn}


def _ruled(name: str) -> tuple[Said, ...]:
    folder = folders([name])[0]
    said = tomllib.loads((folder / "job.toml").read_text())
    size = said["report"].get("test_size", 0)
    return tuple(Said(cause=one) for one in from_log((folder / "run.log").read_text(), said["classes"], size))


def _known(cost: float | None) -> float | None:
    return cost if cost is not None and math.isfinite(cost) else None


def _truth(facts: dict[str, Any]) -> Truth:
    return Truth(**{key: _tuple(value) for key, value in facts.items()})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("jobs", nargs="*", help="all of them, where none is named")
    parser.add_argument("--seeds", type=int, default=1, help="examinations of each job, seeds 0 to N-1")
    parser.add_argument("--slips", action="store_true", help="the small jobs in slips/, in place of the benchmark")
    parser.add_argument("--fix", action="store_true", help="ask for a treatment, and count what it proves")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that one examination may take")
    parser.add_argument("--json", type=Path, help="where everything is written")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Examine, and print what came of it."""
    given = _asked()
    if given.into:
        given.into.write_text(json.dumps(asdict(examined(given.jobs[0], given.seed, given.fix))))
        return
    wanted = "slips" if given.slips else "jobs"
    names = [folder.name for folder in folders(given.jobs) if given.jobs or folder.parent.name == wanted]
    known = truths()
    tasks, every = [(name, seed) for name in names for seed in range(given.seeds)], []
    print(HEAD)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in as_completed([pool.submit(apart, *task, given.fix, given.limit) for task in tasks]):
            every.append(done.result())
            print(row(every[-1], known[every[-1].job]), flush=True)
    every.sort(key=lambda one: tasks.index((one.job, one.seed)))
    ours, others = scores(every, known, given.fix), rivals(every, known)
    print("", summary(["doctor", *others], [ours, *others.values()]), sep="\n")
    if given.json:
        kept = {"command": sys.argv[1:], "scores": asdict(ours), "told": [asdict(one) for one in every]}
        kept["rivals"] = {name: asdict(one) for name, one in others.items()}
        given.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
