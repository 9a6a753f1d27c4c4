"""What a finished run's own record says of causes, without running anything: the free part of the examination."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedlens.diagnosis.evidence import Effect, Entry, Evidence, Exam, Facts, Outcome, Round, Trials
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.forensics import examine_log
from fedlens.diagnosis.signs import SIGNS, read
from fedlens.diagnosis.subject.ours import declared
from fedlens.diagnosis.verdict.judgement import judged
from fedlens.runs import Experiment, load_experiment
from fedlens.runs.store import Journal

if TYPE_CHECKING:
    from fedlens.diagnosis.doctor import Diagnosis

STILL = 0.01  # relative change of the test loss below which a whole run has learnt nothing
APART = 0.1  # accuracy by which batch norm's averaged statistics must be worse than a batch's own
LAST = 10  # evaluations of which the score is the mean, as in the summary
KNOBS = {"centralised": "pooled-samples", "centralised-depth": "pooled-depth", "iid": "iid"}

Rows = Sequence[Mapping[str, Any]]


def findings(experiment: Experiment, summary: Mapping[str, Any], rows: Rows) -> tuple[Finding, ...]:
    """The suspects that a run's rows and references show; () on a healthy run."""
    e = recorded(experiment, summary, rows)
    return judged(read(e, (*SIGNS, _nothing_moves, _statistics_fit_nobody))[0])[0]


def completed(diagnosis: Diagnosis, folder: Path) -> Diagnosis:
    """The diagnosis of the run in `folder`, with what its record says where the examination names nobody. No place in
    code is named: it would be one of fedlens."""
    suspects, summary = diagnosis.suspects, folder / "summary.json"
    if not suspects and summary.is_file():
        experiment, told = load_experiment(folder / "experiment.toml"), json.loads(summary.read_text())
        suspects = findings(experiment, told, Journal(folder).rows())
    kept = [tuple(replace(one, where="") for one in some) for some in (suspects, diagnosis.noted)]
    return replace(diagnosis, suspects=kept[0], noted=kept[1])


def recorded(experiment: Experiment, summary: Mapping[str, Any], rows: Rows) -> Evidence:
    """The evidence in rounds.jsonl and summary.json."""
    test_size = summary.get("test_size") or 1  # of a run before it was recorded nothing is claimed
    said, classes = declared(experiment), len(summary["classes"])
    facts = Facts(
        clients=experiment.clients.count,
        cohort=experiment.clients.cohort,
        rounds=experiment.rounds,
        classes=classes,
        declared=said,
        entries={"all": Entry((int(summary["cost"]["parameters"]),), "float32", "parameter")},
        offers=frozenset(),
        where={},
    )
    values = [row["accuracy"] for row in rows[1:] if "accuracy" in row]
    log = examine_log(values, claimed=test_size, classes=classes) if len(values) > LAST else None
    if log is not None:  # who evaluated, and on what, is known: fedlens itself, on the test set
        log = replace(log, n=None, digits=0, tails=(), flat=False, constant=0.0)
    # Where every client has a model of its own, the server's falling short is no failure.
    trials = None if experiment.method.personal else _trials(summary, values, test_size)
    return Evidence(facts=facts, log=log, rounds=_rounds(rows, test_size, said.dp.get("clip")), trials=trials)


def _rounds(rows: Rows, test_size: int, clip: float | None) -> tuple[Round, ...]:
    """The rounds as rows tell them: coherence and the evaluation. Nobody's visit was watched; no mean of updates is
    longer than their bound `clip`."""
    found = []
    for row in rows:
        exam = batch = None
        if "loss" in row and "accuracy" in row:
            recall, entropy = tuple(row.get("recall", ())), row.get("predicted_entropy", 1.0)
            loss = math.nan if row["loss"] is None else row["loss"]
            exam = Exam(row["accuracy"], loss, entropy, 0.0, recall, test_size)
            if (other := row.get("accuracy_batch_statistics")) is not None:
                batch = exam._replace(accuracy=other, recall=())
        told: dict[str, Any] = {"coherence": row.get("coherence"), "exam": exam, "exam_batch": batch, "mean_norm": clip}
        found.append(Round(number=row["round"], asked=(), visits=(), wanted=(), **told))
    return tuple(found)


def _trials(summary: Mapping[str, Any], values: Sequence[float], test_size: int) -> Trials | None:
    """The references as counterfactuals of one seed; the run is its own reference implementation."""
    own = summary["final"].get("mean_last_ten")
    told = {KNOBS[one["name"]]: one for one in summary["references"] if one["name"] in KNOBS}
    if own is None or not told or summary["metric"].startswith("personal"):
        return None
    job = Outcome((own,), summary["rounds_done"], 1.0, math.isfinite(own))
    one_evaluation = math.sqrt(max(own * (1 - own), 0.01) / test_size)
    # Evaluations that follow one another are alike: ten in a row say about as much as three.
    error = math.hypot(one_evaluation, float(np.std(values[-LAST:])) / math.sqrt(min(3, max(1, len(values)))))
    knobs = {name: Outcome((one["mean_last_ten"],), summary["rounds_done"], 1.0) for name, one in told.items()}
    effects = {name: Effect(one.mean - own, math.sqrt(2) * error, 1) for name, one in knobs.items()}
    pooled = [one.mean for name, one in knobs.items() if name.startswith("pooled")]
    return Trials(
        job=job, reference=job, knobs=knobs, effects=effects, best=max(pooled, default=None), error=error, chance=None
    )


def _nothing_moves(e: Evidence) -> Finding | None:
    """O1: the test loss ends where it began, and accuracy is chance. What is bounded or compressed may stand still for
    that reason, and is left to the whole examination."""
    exams = [one.exam for one in e.rounds if one.exam is not None]
    if len(exams) < 2 or e.facts.declared.dp or e.facts.declared.codec is not None:
        return None
    first, last, chance = exams[0], exams[-1], 1.0 / (e.facts.classes or 1)
    moved = abs(last.loss - first.loss) / max(abs(first.loss), 1e-12)
    if not moved < STILL or last.accuracy > chance + 3 * math.sqrt(chance / last.n):
        return None
    rate = e.facts.declared.lr
    return Finding(
        "O1",
        Certainty.CONSISTENT,
        f"Nothing moves: the test loss is {first.loss:.4g} at first and {last.loss:.4g} after {e.rounds[-1].number} "
        f"rounds, at local.lr = {rate:g}.",
        (Measured("relative change of the test loss", "M07", f"{moved:.1e}", f"above {STILL:g}"),),
        "Raise local.lr by factors of ten on a few rounds, until the loss falls; then compare anything else.",
        also=("K5", "O8"),
        treatment="rate",
        weight=1.0,
        hides=frozenset({"E10", "P3", "O7", "P1"}),
    )


def _statistics_fit_nobody(e: Evidence) -> Finding | None:
    """N2: the last models are far better with each test batch's own statistics than with the averaged ones."""
    pairs = [(one.exam, one.exam_batch) for one in e.rounds]
    gaps = [batch.accuracy - own.accuracy for own, batch in pairs if own is not None and batch is not None][-LAST:]
    if len(gaps) < LAST or e.rounds[-1].exam is None:
        return None
    gap, error = float(np.mean(gaps)), float(np.std(gaps)) / math.sqrt(3)
    if gap < APART or gap < 3 * error:
        return None
    return Finding(
        "N2",
        Certainty.CONSISTENT,
        f"With each test batch's own statistics the last models reach {100 * gap:.1f} points more than with the "
        "averaged running statistics of batch norm.",
        (Measured("batch statistics against running ones", "M27", f"{100 * gap:+.1f} points", "about 0"),),
        'Set model.norm = "group", or server.statistics = "recalibrate".',
        source="Hsieh et al. 2020; Wu and He 2018",
        treatment="norm-group",
        weight=gap,
    )
