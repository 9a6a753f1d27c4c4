"""From a finding to a changed experiment of fedlens, and the proof that it helps: whole runs, paired by seed."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.diagnosis.doctor import Diagnosis
from fedlens.diagnosis.doctor import diagnose as examine
from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.repair.chain import GONE, STANDS
from fedlens.diagnosis.repair.changes import OF, changed
from fedlens.diagnosis.repair.health import EACH, Health, calibration_error, sides
from fedlens.diagnosis.repair.proof import CLEAR, interval
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.subject.ours import own_subject
from fedlens.errors import ConfigurationError, FedlensError
from fedlens.local.evaluate import in_batches
from fedlens.runs import Experiment, Federation, prepare
from fedlens.runs.configuration import differences
from fedlens.runs.loop import advance
from fedlens.runs.measure import measure
from fedlens.server import Communication
from fedlens.tree import Tree

LAST = 5  # evaluations whose mean is a run's score
SEEDS = 3
TRIED_OUT = 1000  # added to the seed where one of several changes is chosen: no run of the proof
SHARE, LEAST = 4, 8  # part of the rounds, and rounds, that a change is tried out for

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
    place = len(done) - 1 if done[-1].treated.verified else 0
    tell("the changed run")
    then = examine(own_subject(done[place].experiment, "fixed"), tell=tell)
    told = [one.treated for one in done]
    told[place] = _seen(told[place], then)
    return tuple(told), done[place].experiment, [one.says for one in then.suspects]


def _seen(one: Treated, then: Diagnosis) -> Treated:
    """An exact finding that stands in the changed run is not mended, whatever was gained."""
    if one.finding.certainty is not Certainty.FOUND:
        return one
    stands = any(other.cause == one.finding.cause and other.certainty for other in then.findings)
    return dataclasses.replace(
        one, verified=one.verified and not stands, says=f"{one.says} {STANDS if stands else GONE}"
    )


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


def _best(possible: Sequence[Experiment], tell: Told) -> Experiment:
    """The one that is ahead after a part of the rounds, under a seed that the proof does not use."""
    scores = []
    for place, one in enumerate(possible, 1):
        tell(f"change {place} of {len(possible)}: {one.method.name}")
        rounds = min(one.rounds, max(LEAST, one.rounds // SHARE))
        short = dataclasses.replace(one, rounds=rounds, seed=one.seed + TRIED_OUT)
        scores.append(_score(short).accuracy)
    return possible[max(range(len(scores)), key=lambda at: scores[at])]


def _proven(one: Experiment, fixed: Experiment, finding: Finding, change: Sequence[str], tell: Told) -> Treated:
    """`one` and `fixed` over the same seeds, whole runs, beside what could be had."""
    seeds = range(SEEDS)
    tell("the run as it is, over three seeds")
    before, well = _outcome(one, seeds)
    tell("the run with the change, over three seeds")
    after, then = _outcome(fixed, seeds)
    twin, against = _reference(one, fixed, finding)
    tell(f"what could be had: {against}")
    reference, sound = _outcome(twin[0], seeds, twin[1])
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
    beside = sides(well, then, lambda: sound)
    spoiled = [side.name for side in beside if side.worse]
    gained = low > 0 and gain > CLEAR
    says += f". Beside it: {', '.join(str(side) for side in beside)}." if beside else "."
    if gained and spoiled:
        says += f" Not proven: {' and '.join(spoiled)} worse by more than a standard error."
    elif not gained:
        says += " Not proven."
    told = (reference.mean, against, recovered, (low, high), gained and not spoiled, says, "; ".join(change))
    return Treated(finding, before, after, *told, beside=beside)


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


def _outcome(e: Experiment, seeds: Sequence[int], twin: Twin = _itself) -> tuple[Outcome, tuple[Health, ...]]:
    found = [_score(dataclasses.replace(e, seed=e.seed + seed), twin) for seed in seeds]
    fine = all(one.finite for one in found)
    healths = tuple(one.health for one in found if one.health is not None)
    return Outcome(tuple(one.accuracy for one in found), e.rounds, float(len(seeds)), fine), healths


class _Score(NamedTuple):
    """The mean of a run's last evaluations, whether it ended, and the health of its last model, where it is whole."""

    accuracy: float
    finite: bool
    health: Health | None


def _score(e: Experiment, twin: Twin = _itself) -> _Score:
    """Of a whole run; one that diverges answers by chance, and serves nobody."""
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
        return _Score(1.0 / federation.classes, False, Health(0.0, 1, 1.0, len(federation.split.test)))
    return _Score(statistics.fmean(found), True, _health(federation, state.tree))


@torch.inference_mode()
def _health(federation: Federation, tree: Tree) -> Health | None:
    """Of a model of the server on its clients' examples and on the test set; None where that is not a whole one."""
    trainer, split = federation.engine.trainer, federation.split
    if not trainer.method.one_model:
        return None
    trainer.bound.load(tree)
    trainer.bound.module.eval()

    def answers(data: Dataset, order: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        shown = list(in_batches(data, tree.vector.dtype, order))
        outputs = [trainer.compute.forward(trainer.bound.module, inputs) for inputs, _ in shown]
        return torch.cat(outputs), torch.cat([labels for _, labels in shown])

    mine = [federation.deal.client(client)[:EACH] for client in range(len(federation.deal))]
    right = [
        (float((outputs.argmax(1) == labels).double().mean()), len(labels))
        for outputs, labels in (answers(split.train, one) for one in mine if len(one))
    ]
    worst, each = min(right)
    return Health(worst, each, calibration_error(*answers(split.test)), len(split.test))
