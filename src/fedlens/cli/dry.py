"""What a run would take, without running it: steps and bytes counted, seconds from a few timed steps."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import Any

import numpy as np
import torch

from fedlens.engine import Federated, Plan, Uniform, Visit, Workers
from fedlens.local import evaluate
from fedlens.local.evaluate import BATCH, in_batches
from fedlens.runs import Experiment, Federation, prepare
from fedlens.runs.loop import untrained
from fedlens.runs.references import references
from fedlens.runs.run import megabytes

TIMED_STEPS = 3
SHOWN = 32  # examples that an exchange of knowledge is timed on


def plan_of(experiment: Experiment) -> dict[str, Any]:
    """Steps, seconds (of this machine, from timed steps) and megabytes of `experiment`. Nothing is written."""
    federation = prepare(experiment)
    torch.set_num_threads(federation.threads)
    federation = dataclasses.replace(federation, plan=_everyone_answers(federation.plan))
    step, evaluation = _step_seconds(federation, federation.plan.visits(1)[0]), _evaluation_seconds(federation)
    down, up = _traffic(federation)
    parts = [_part("federation", federation, federation, step, evaluation)]
    parts += [_part(r.title, federation, r.federation, step, evaluation) for r in references(federation)]
    visits = experiment.clients.cohort * experiment.rounds
    return {
        "parts": parts,
        "seconds": sum(part["seconds"] for part in parts),
        "threads": federation.threads,
        "megabytes_down": visits * down / 1e6,
        "megabytes_up": visits * up / 1e6,
        "megabytes_disk": megabytes(federation),
        "clients": len(federation.deal),
        "examples": int(federation.deal.sizes.sum()),
    }


def _everyone_answers(plan: Plan) -> Plan:
    """The plan without what keeps clients away: a run may take less, and hardly more."""
    return dataclasses.replace(plan, network=None, selection=Uniform()) if isinstance(plan, Federated) else plan


def _traffic(federation: Federation) -> tuple[float, float]:
    """Bytes of one visit, down and up."""
    if federation.exchange is None:
        return federation.engine.trainer.traffic(federation.start)
    some, examples = _some(federation)
    done = federation.exchange.round(federation.start, {}, [some], {})
    again = federation.exchange.round(federation.start, {}, [some], done.memory)
    share = examples / some.examples
    return again.bytes_down * share, again.bytes_up * share


def _some(federation: Federation) -> tuple[Visit, float]:
    """A visit to a few examples, and how many a visit is to on average."""
    visit = federation.plan.visits(1)[0]
    few = visit.indices[:SHOWN]
    batches = tuple(np.array_split(few, max(1, len(few) // len(visit.batches[0]))))
    return dataclasses.replace(visit, indices=few, batches=batches), float(federation.deal.sizes.mean())


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
    if part.exchange is not None:
        some, examples = _some(part)
        began = time.perf_counter()
        part.exchange.round(part.start, {}, [some], {})
        visit = (time.perf_counter() - began) * examples / some.examples
        cohort = part.experiment.clients.cohort
        seconds = cohort * (rounds * visit + evaluations * evaluation)
        return {"title": title, "rounds": rounds, "steps": steps, "seconds": seconds}
    hands = min(part.engine.processes, len(visits)) if isinstance(part.engine, Workers) else 1
    seconds = steps * step / hands + evaluations * evaluation
    return {"title": title, "rounds": rounds, "steps": steps, "seconds": seconds}


def _step_seconds(federation: Federation, visit: Visit) -> float:
    """Seconds of one step: the difference of two visits, so that their fixed cost falls out."""
    one = dataclasses.replace(visit, batches=visit.batches[:1])
    more = dataclasses.replace(visit, batches=(visit.batches[0],) * (1 + TIMED_STEPS))
    _timed(federation, one)  # warm up
    return max(1e-6, (_timed(federation, more) - _timed(federation, one)) / TIMED_STEPS)


def _timed(federation: Federation, visit: Visit) -> float:
    if federation.exchange is not None:  # of two halves, the engine holds the whole
        federation = federation.pooled(1, len(visit.batches[0]))
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
    evaluate(federation.module, in_batches(part, federation.start.vector.dtype), federation.classes)
    return (time.perf_counter() - began) * len(test) / len(part)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
