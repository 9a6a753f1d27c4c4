"""Which settings of an experiment a treatment means: dotted keys and their new values, one set or several."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedlens.diagnosis.evidence import Evidence
from fedlens.errors import FedlensError
from fedlens.runs import Experiment, prepare
from fedlens.runs.configuration import experiment_from
from fedlens.runs.loop import advance
from fedlens.server import TopK

UNBOUNDED = 3  # rounds without a bound, whose median update is the bound to set

Changes = Mapping[str, Any]  # dotted keys -> values; None takes a key away


def changed(experiment: Experiment, changes: Changes) -> Experiment:
    """`experiment` with other settings. Raises ConfigurationError where they do not go together."""
    plain = copy.deepcopy(experiment.as_dict())
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        inner = plain
        for section in sections:
            inner = inner.setdefault(section, {})
        if value is None:
            inner.pop(leaf, None)
        else:
            inner[leaf] = value
    return experiment_from(plain)


def _rate(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    """The rate that was found; without one, every larger power of ten times the present one that is below 1."""
    if value:
        yield {"local.lr": float(value)}
        return
    for power in range(1, 10):
        if (rate := float(f"{e.local.lr * 10**power:.3g}")) < 1:
            yield {"local.lr": rate}


def _noise(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    if e.privacy.mechanism is not None:
        yield {"privacy.mechanism.noise": float(value)}


def _clip(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    """The bound at the median update, as clients without a bound send it."""
    if e.privacy.mechanism is None:
        return
    free = changed(e, {"privacy.mechanism": None, "rounds": UNBOUNDED, "evaluate_every": UNBOUNDED})
    norms = [one.update_norm for state in advance(prepare(free)) for one in state.records]
    if norms:
        yield {"privacy.mechanism.clip": float(f"{statistics.median(norms):.3g}")}


def _no_clip(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    yield {"privacy.mechanism": None}


def _for_skew(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    """What is known to help with skewed labels, at the same budget; none of it helps everywhere."""
    beta = float(value or 0.9)
    for server_lr in (1.0, 0.3, round(1 - beta, 6)):
        yield {"method": {"name": "fedavgm", "beta": beta, "server_lr": server_lr}}
    for name in ("fedyogi", "fedlc", "scaffold"):
        if name != e.method.name:
            yield {"method": {"name": name}}


def _group_norm(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    for groups in (8, 4, 2, 1):
        changes = {"model.norm": "group", "model.groups": groups, "server.statistics": "average"}
        try:
            prepare(changed(e, changes))
        except FedlensError:
            continue
        yield changes
        return


def _recalibrated(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    yield {"server.statistics": "recalibrate"}


def _everybody(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    """As many visits in all: fewer rounds, with everybody."""
    rounds = max(1, round(e.rounds * e.clients.cohort / e.clients.count))
    yield {"clients.cohort": e.clients.count, "rounds": rounds, "evaluate_every": 1}


def _fewer_steps(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    """Half the local steps in twice the rounds."""
    doubled = {"rounds": 2 * e.rounds, "evaluate_every": 2 * e.evaluate_every}
    if e.local.steps is not None:
        yield {"local.steps": max(1, e.local.steps // 2), **doubled}
    elif e.local.epochs > 1:
        yield {"local.epochs": max(1, e.local.epochs // 2), **doubled}


def _feedback(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    """What is lost is added to the next upload; where it is already, ten times as much is sent."""
    if not e.communication.error_feedback:
        yield {"communication.error_feedback": True}
    if isinstance(e.communication.up, TopK):
        yield {"communication.up.fraction": min(1.0, 10 * e.communication.up.fraction)}


def _robust(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    yield {"server.reduce": {"kind": "median"}}
    yield {"server.reduce": {"kind": "geometric-median"}}


def _uniform(e: Experiment, evidence: Evidence, value: str) -> Iterator[Changes]:
    yield {"clients.selection": {"kind": "uniform"}}


OF: dict[str, Callable[[Experiment, Evidence, str], Iterator[Changes]]] = {
    "rate": _rate,
    "noise": _noise,
    "clip": _clip,
    "no-clip": _no_clip,
    "server-momentum": _for_skew,
    "norm-group": _group_norm,
    "recalibrated": _recalibrated,
    "full-participation": _everybody,
    "fewer-steps": _fewer_steps,
    "feedback": _feedback,
    "drop-clients": _robust,
    "sample-all": _uniform,
}
