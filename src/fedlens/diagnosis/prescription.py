"""From a finding to a changed experiment of fedlens, and the proof that it helps: whole runs, paired by seed."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fedlens.diagnosis.doctor import Diagnosis
from fedlens.diagnosis.doctor import diagnose as examine
from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.repair.proof import CLEAR, interval
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.subject.ours import own_subject
from fedlens.errors import ConfigurationError, FedlensError
from fedlens.runs import Experiment, Federation, prepare
from fedlens.runs.configuration import differences, experiment_from
from fedlens.runs.loop import advance
from fedlens.runs.measure import measure
from fedlens.server import Communication, TopK

LAST = 5  # evaluations whose mean is a run's score
SEEDS = 3
TRIED_OUT = 1000  # added to the seed where one of several changes is chosen: no run of the proof
SHARE, LEAST = 4, 8  # part of the rounds, and rounds, that a change is tried out for
UNBOUNDED = 3  # rounds without a bound, whose median update is the bound to set

Changes = Mapping[str, Any]  # dotted keys -> values; None takes a key away
Told = Callable[[str], None]


class Prescribed(NamedTuple):
    """A changed experiment, and what the proof found of it. `change`: each setting, old and new."""

    experiment: Experiment
    treated: Treated
    change: tuple[str, ...]


def prescribe(experiment: Experiment, evidence: Evidence, finding: Finding, tell: Told) -> Prescribed | None:
    """The change that answers `finding`, proven over whole runs; None where no setting of an experiment does.

    Of several changes, the best of a short run under another seed is proven. Raises FedlensError where runs fail.
    """
    possible = list(_possible(experiment, evidence, finding))
    if not possible:
        return None
    fixed = possible[0] if len(possible) == 1 else _best(possible, tell)
    change = tuple(f"{one.where}: {one.seen.replace(', there ', ' -> ')}" for one in differences(experiment, fixed))
    return Prescribed(fixed, _proven(experiment, fixed, finding, change, tell), change)


def treated(
    experiment: Experiment, diagnosis: Diagnosis, tell: Told
) -> tuple[tuple[Treated, ...], Experiment | None, list[str]]:
    """What changes did to the run, in the order of its suspects until one is proven; the experiment with that change;
    and what the doctor suspects of it then. Without a proof the first change stands, and is called unproven."""
    done: list[Prescribed] = []
    for finding in diagnosis.suspects:
        found = prescribe(experiment, diagnosis.evidence, finding, tell)
        if found is not None:
            done.append(found)
        if done and done[-1].treated.verified:
            break
    if not done:
        return (), None, []
    fixed = done[-1 if done[-1].treated.verified else 0]
    tell("the changed run")
    further = [one.says for one in examine(own_subject(fixed.experiment, "fixed"), tell=tell).suspects]
    return tuple(one.treated for one in done), fixed.experiment, further


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


def _possible(experiment: Experiment, evidence: Evidence, finding: Finding) -> Iterator[Experiment]:
    """The experiments that the finding's treatment may mean, without those that cannot be run."""
    name, _, value = finding.treatment.partition("=")
    for changes in OF[name](experiment, evidence, value) if name in OF else ():
        try:
            made = changed(experiment, changes)
            prepare(dataclasses.replace(made, engine=_alone(made)))
        except FedlensError:
            continue
        if differences(experiment, made):
            yield made


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


def _best(possible: Sequence[Experiment], tell: Told) -> Experiment:
    """The one that is ahead after a part of the rounds, under a seed that the proof does not use."""
    scores = []
    for place, one in enumerate(possible, 1):
        tell(f"change {place} of {len(possible)}: {one.method.name}")
        rounds = min(one.rounds, max(LEAST, one.rounds // SHARE))
        short = dataclasses.replace(one, rounds=rounds, seed=one.seed + TRIED_OUT)
        scores.append(_score(short)[0])
    return possible[max(range(len(scores)), key=lambda at: scores[at])]


def _proven(one: Experiment, fixed: Experiment, finding: Finding, change: Sequence[str], tell: Told) -> Treated:
    """`one` and `fixed` over the same seeds, whole runs, beside what could be had."""
    seeds = range(SEEDS)
    tell("the run as it is, over three seeds")
    before = _outcome(one, seeds)
    tell("the run with the change, over three seeds")
    after = _outcome(fixed, seeds)
    twin, against = _reference(one, fixed, finding)
    tell(f"what could be had: {against}")
    reference = _outcome(twin[0], seeds, twin[1])
    gains = [b - a for a, b in zip(before.values, after.values, strict=True)]
    low, high = interval(gains)
    gain, gap = statistics.fmean(gains), reference.mean - before.mean
    recovered = gain / gap if gap > CLEAR else math.nan
    says = (
        f"{100 * before.mean:.1f} % -> {100 * after.mean:.1f} % ({100 * gain:+.1f} points, 95 % interval "
        f"{100 * low:+.1f} to {100 * high:+.1f}; {SEEDS} paired seeds, {fixed.rounds} rounds)"
    )
    if math.isfinite(recovered):
        left = max(0.0, reference.mean - after.mean)
        says += (
            f": {recovered:.0%} of the way to {against} ({100 * reference.mean:.1f} %), {100 * left:.1f} points left"
        )
    verified = low > 0 and gain > CLEAR
    says += "." if verified else ". Not proven."
    told = (reference.mean, against, recovered, (low, high), verified, says, "; ".join(change))
    return Treated(finding, before, after, *told)


Twin = Callable[[Federation], Federation]


def _reference(e: Experiment, fixed: Experiment, finding: Finding) -> tuple[tuple[Experiment, Twin], str]:
    """What could be had: without what was found, or pooled training on as many examples."""
    cause = finding.cause
    if cause[0] in "PC" or cause in ("S3", "S4", "N2"):
        return (e, Federation.redealt), "the same examples dealt IID"
    if cause[0] == "V" and e.privacy.mechanism is not None:
        return (changed(e, {"privacy.mechanism": None}), _itself), "the same without noise and bound"
    if cause[0] == "X" and e.communication != Communication():
        return (changed(e, {"communication": {}}), _itself), "the same without compression"
    if cause[0] == "O":
        return (fixed, _pooled), "pooled training on as many examples, at that rate"
    return (e, _pooled), "pooled training on as many examples"


def _itself(federation: Federation) -> Federation:
    return federation


def _pooled(federation: Federation) -> Federation:
    batch, samples = federation.experiment.local.batch, federation.samples_per_round()
    size = min(samples if batch == "all" else batch, len(federation.deal.indices))
    return federation.pooled(max(1, round(samples / size)), size)


def _alone(e: Experiment) -> Any:
    """The engine of `e` without a search for the fastest one: nothing but settings is looked at."""
    return dataclasses.replace(e.engine, kind="sequential", together=1, layout="channels-first")


def _outcome(e: Experiment, seeds: Sequence[int], twin: Twin = _itself) -> Outcome:
    found = [_score(dataclasses.replace(e, seed=e.seed + seed), twin) for seed in seeds]
    return Outcome(tuple(value for value, _ in found), e.rounds, float(len(seeds)), all(fine for _, fine in found))


def _score(e: Experiment, twin: Twin = _itself) -> tuple[float, bool]:
    """The mean of the last evaluations of a whole run, and whether it ended; one that diverges answers by chance."""
    federation = twin(prepare(dataclasses.replace(e, evaluate_every=e.rounds)))
    found: list[float] = []
    try:
        for state in advance(federation):
            if state.round > e.rounds - LAST:
                known = state.accuracy is not None
                row = state.row if known else measure(federation, state.tree, state.memory, last=True)
                found.append(row["accuracy"] if "accuracy" in row else row["personal_accuracy"])
    except ConfigurationError:
        raise
    except FedlensError:
        return 1.0 / federation.classes, False
    return statistics.fmean(found), True
