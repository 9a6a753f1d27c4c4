"""What a run would take, without running it: steps and bytes counted, seconds from a few timed steps."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import Any

import torch

from fedlens.engine import Visit
from fedlens.local import evaluate
from fedlens.runs import Experiment, Federation, prepare
from fedlens.runs.loop import untrained
from fedlens.runs.measure import BATCH, batches
from fedlens.runs.references import references
from fedlens.runs.run import megabytes

TIMED_STEPS = 3


def plan_of(experiment: Experiment) -> dict[str, Any]:
    """Steps, seconds (of this machine, from timed steps) and megabytes of `experiment`. Nothing is written."""
    federation = prepare(experiment)
    torch.set_num_threads(federation.threads)
    visit = federation.plan.visits(1)[0]
    step, evaluation = _step_seconds(federation, visit), _evaluation_seconds(federation)
    vector = federation.start.vector
    parts = [_part("federation", federation, federation, step, evaluation)]
    parts += [_part(r.title, federation, r.federation, step, evaluation) for r in references(federation)]
    exchanged = experiment.clients.cohort * experiment.rounds * vector.numel() * vector.element_size()
    return {
        "parts": parts,
        "seconds": sum(part["seconds"] for part in parts),
        "threads": federation.threads,
        "megabytes_down": exchanged / 1e6,
        "megabytes_up": exchanged / 1e6,
        "megabytes_disk": megabytes(federation),
        "clients": len(federation.deal),
        "examples": int(federation.deal.sizes.sum()),
    }


def print_plan(plan: dict[str, Any]) -> None:
    """The plan for a person."""
    print(f"{plan['examples']:,} examples at {plan['clients']:,} clients; nothing was run")
    for part in plan["parts"]:
        counted = f"{part['rounds']:>6,} rounds {part['steps']:>12,} steps"
        print(f"  {part['title']:<28} {counted}  about {_time(part['seconds'])}")
    print(f"  in all about {_time(plan['seconds'])} with {plan['threads']} thread(s)")
    print(
        f"  exchanged {plan['megabytes_down']:,.0f} MB down and {plan['megabytes_up']:,.0f} MB up (simulated), "
        f"at most {plan['megabytes_disk']:,.0f} MB on disk"
    )


def _part(title: str, whole: Federation, part: Federation, step: float, evaluation: float) -> dict[str, Any]:
    rounds = part.plan.rounds
    visits = part.plan.visits(1)
    steps = sum(len(visit.batches) for visit in visits) * rounds
    evaluations = 1 + math.ceil(rounds / part.experiment.evaluate_every)
    return {"title": title, "rounds": rounds, "steps": steps, "seconds": steps * step + evaluations * evaluation}


def _step_seconds(federation: Federation, visit: Visit) -> float:
    """Seconds of one step: the difference of two visits, so that their fixed cost falls out."""
    one = dataclasses.replace(visit, batches=visit.batches[:1])
    more = dataclasses.replace(visit, batches=(visit.batches[0],) * (1 + TIMED_STEPS))
    _timed(federation, one)  # warm up
    return max(1e-6, (_timed(federation, more) - _timed(federation, one)) / TIMED_STEPS)


def _timed(federation: Federation, visit: Visit) -> float:
    seconds, state = [], untrained(federation)
    for _ in range(3):
        began = time.perf_counter()
        federation.engine.round(state.tree, state.server, [visit], {})
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _evaluation_seconds(federation: Federation) -> float:
    """Seconds of evaluating the test set once, from its first batch."""
    test = federation.split.test
    part = test.select(torch.arange(min(BATCH, len(test))))
    began = time.perf_counter()
    evaluate(federation.module, batches(part, federation.start.vector.dtype), federation.classes)
    return (time.perf_counter() - began) * len(test) / len(part)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
