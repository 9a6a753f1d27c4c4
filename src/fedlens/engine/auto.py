"""Which engine is fastest for a run, found by timing a few of its steps on this machine.

No setting wins everywhere: two processes of one thread beat two threads on most small models, not on all; channels-last
layout is a quarter faster on one network and slower on the next; a neighbour on the machine turns the order round.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fedlens.engine.plan import Visit
from fedlens.engine.sequential import Dispatch, Sequential
from fedlens.engine.settings import Engine
from fedlens.engine.workers import can_fork

WORTH = 10.0  # seconds that a run must take before others than the plain engine are tried
SPENT = 0.03  # of the run's time that trying may take, all candidates together
SAMPLE = 0.1  # seconds that one client's work in a trial should take, so that its overhead does not decide
REPEATS = 3  # of each trial, after one that warms up
CLEARLY = 0.97  # a candidate must take less than this part of the time of one that stands before it


class Settled(NamedTuple):
    """An engine without "auto", and in words why it was taken."""

    engine: Engine
    why: str


class Trial(NamedTuple):
    """What is timed: the engine that `make` makes of settings, on `visits`; a run has `rounds` rounds of `steps` steps.
    `key`: what a remembered choice holds for. `layouts`: whether images may lie in either; `chunk`: how many clients
    may be trained together."""

    make: Callable[[Engine], Sequential]
    dispatch: Dispatch
    visits: Sequence[Visit]
    steps: int
    rounds: int
    key: str
    layouts: bool
    chunk: int


def settle(wanted: Engine, trial: Trial, memory: Path) -> Settled:
    """`wanted` with every "auto" decided; `memory` is the file in which choices are remembered."""
    candidates = list(_candidates(wanted, trial))
    if len(candidates) == 1:
        return Settled(candidates[0], "as set")
    known = _remembered(memory).get(trial.key)
    for candidate in candidates:
        if known and _name(candidate) == known["engine"]:
            return Settled(candidate, f"{known['why']} (as found on this machine before)")
    with _threads(candidates[0]):
        step = _seconds(candidates[0], trial, [_cut(trial.visits[0], 1)], 3)
    whole = step * trial.steps * trial.rounds
    if whole < WORTH:
        return Settled(candidates[0], "the run is too short for trying others")
    return _timed(candidates, trial, step, SPENT * whole, memory)


def _timed(candidates: Sequence[Engine], trial: Trial, step: float, budget: float, memory: Path) -> Settled:
    hands = max(candidate.process_count() for candidate in candidates)
    steps = max(1, round(min(SAMPLE, budget / (len(candidates) * (1 + REPEATS) * hands)) / step))
    wanted = max(hands, min(trial.chunk * hands, len(trial.visits)))
    some = [_cut(visit, steps) for visit, _ in zip(itertools.cycle(trial.visits), range(wanted), strict=False)]
    examples = sum(int(visit.sizes.sum()) for visit in some)
    speeds: dict[str, float] = {}
    best = candidates[0]
    for candidate in candidates:
        with _threads(candidate):
            speeds[_name(candidate)] = examples / _seconds(candidate, trial, some, REPEATS)
        if speeds[_name(best)] < CLEARLY * speeds[_name(candidate)]:
            best = candidate
    others = ", ".join(f"{name}: {speed:,.0f}" for name, speed in speeds.items() if name != _name(best))
    why = f"{_name(best)}: {speeds[_name(best)]:,.0f} examples/s; {others}"
    _remember(memory, trial.key, {"engine": _name(best), "why": why})
    return Settled(best, why)


def _candidates(wanted: Engine, trial: Trial) -> Iterator[Engine]:
    """What may be taken, the plain one first."""
    several = can_fork() and wanted.process_count() > 1
    kinds = ["sequential", "workers"] if several else ["sequential"]
    layouts = ["channels-first", "channels-last"] if trial.layouts else ["channels-first"]
    choices = {
        "kind": kinds if wanted.kind == "auto" else [wanted.kind],
        "layout": layouts if wanted.layout == "auto" else [wanted.layout],
        "together": sorted({1, trial.chunk}) if wanted.together == "auto" else [wanted.together],
    }
    for chosen in itertools.product(*choices.values()):
        taken: dict[str, Any] = dict(zip(choices, chosen, strict=True))
        yield replace(wanted, processes=wanted.process_count(), **taken)


def _seconds(candidate: Engine, trial: Trial, visits: Sequence[Visit], repeats: int) -> float:
    """The median of some passes over `visits`."""
    engine, found = trial.make(candidate), []
    try:
        for _ in range(1 + repeats):
            began = time.perf_counter()
            for _ in engine.work(trial.dispatch, engine.hand.groups(visits)):
                pass
            found.append(time.perf_counter() - began)
    finally:
        engine.close()
    return max(1e-6, statistics.median(found[1:]))


def _cut(visit: Visit, steps: int) -> Visit:
    return replace(visit, batches=visit.batches[:steps])


def _name(engine: Engine) -> str:
    name = f"workers with {engine.process_count()} processes" if engine.kind == "workers" else engine.kind
    together = f", {engine.together} clients together" if engine.together != 1 else ""
    return f"{name}{together}, {engine.layout}"


@contextmanager
def _threads(candidate: Engine) -> Iterator[None]:
    before = torch.get_num_threads()
    if candidate.kind == "workers":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _remembered(memory: Path) -> dict[str, dict[str, str]]:
    with suppress(OSError, ValueError):
        found = json.loads(memory.read_text())
        if isinstance(found, dict):
            whole = {"engine", "why"}
            return {key: one for key, one in found.items() if isinstance(one, dict) and one.keys() >= whole}
    return {}


def _remember(memory: Path, key: str, choice: dict[str, str]) -> None:
    """Write the choice; where that is impossible it is found anew the next time."""
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        writing = memory.with_name(f".{os.getpid()}-{memory.name}")
        writing.write_text(json.dumps({**_remembered(memory), key: choice}, indent=1) + "\n")
        writing.replace(memory)
