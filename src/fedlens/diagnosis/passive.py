"""What a finished run's own record says of causes, without running anything: the free part of the examination."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedlens.diagnosis.evidence import Effect, Evidence, Exam, Facts, Outcome, Round, Trials
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.forensics import examine_log
from fedlens.diagnosis.signs import SIGNS
from fedlens.diagnosis.subject.ours import declared
from fedlens.diagnosis.verdict.judgement import judged
from fedlens.runs import Experiment

LAST = 10  # evaluations of which the score is the mean, as in the summary
KNOBS = {"centralised": "pooled-samples", "centralised-depth": "pooled-depth", "iid": "iid"}

Rows = Sequence[Mapping[str, Any]]


def findings(experiment: Experiment, summary: Mapping[str, Any], rows: Rows) -> tuple[Finding, ...]:
    """The suspects that a run's rows and references show; () on a healthy run."""
    e = recorded(experiment, summary, rows)
    return judged([found for sign in SIGNS if (found := sign(e)) is not None])[0]


def recorded(experiment: Experiment, summary: Mapping[str, Any], rows: Rows) -> Evidence:
    """The evidence in rounds.jsonl and summary.json."""
    test_size = summary["test_size"]
    said, classes = declared(experiment), len(summary["classes"])
    facts = Facts(
        clients=experiment.clients.count,
        cohort=experiment.clients.cohort,
        rounds=experiment.rounds,
        classes=classes,
        declared=said,
        entries={},
        offers=frozenset(),
        where={},
    )
    values = [row["accuracy"] for row in rows[1:] if "accuracy" in row]
    log = examine_log(values, claimed=test_size, classes=classes) if len(values) > LAST else None
    if log is not None:  # who evaluated, and on what, is known: fedlens itself, on the test set
        log = replace(log, n=None, digits=0, tails=(), flat=False)
    return Evidence(facts=facts, log=log, rounds=_rounds(rows, test_size), trials=_trials(summary, values, test_size))


def _rounds(rows: Rows, test_size: int) -> tuple[Round, ...]:
    """The rounds as rows tell them: coherence and the evaluation. Nobody's visit was watched."""
    found = []
    for row in rows[1:]:
        exam = batch = None
        if "loss" in row and "accuracy" in row:
            recall, entropy = tuple(row.get("recall", ())), row.get("predicted_entropy", 1.0)
            exam = Exam(row["accuracy"], row["loss"], entropy, 0.0, recall, test_size)
            if (other := row.get("accuracy_batch_statistics")) is not None:
                batch = exam._replace(accuracy=other, recall=())
        told: dict[str, Any] = {"coherence": row.get("coherence"), "exam": exam, "exam_batch": batch}
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
    # Another seed would end elsewhere by about as much as one round is from the next: their mean is no surer than one.
    error = math.hypot(one_evaluation, float(np.std(values[-LAST:])))
    knobs = {name: Outcome((one["mean_last_ten"],), summary["rounds_done"], 1.0) for name, one in told.items()}
    effects = {name: Effect(one.mean - own, math.sqrt(2) * error, 1) for name, one in knobs.items()}
    pooled = [one.mean for name, one in knobs.items() if name.startswith("pooled")]
    return Trials(
        job=job, reference=job, knobs=knobs, effects=effects, best=max(pooled, default=None), error=error, chance=None
    )
