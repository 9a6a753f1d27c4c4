"""Which counterfactuals are worth their time: few where something exact is broken, none more where nothing is short."""

from __future__ import annotations

import math
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence, Outcome, Trials
from fedlens.diagnosis.examination import Examination, merged, score
from fedlens.diagnosis.signs.reading import ahead, effect, outcome
from fedlens.diagnosis.signs.symptom import ceiling, misses
from fedlens.diagnosis.trials import own_parts, reference_settings, run_trials

NEEDED = ("model", "train_data", "test_data")
SHORT = 0.05  # accuracy below the reference from which on reasons are looked for
PACE = 3  # rounds over which the job's pace is measured
FAILS = 0.15  # the same, below the highest accuracy that anything reached
BUDGET = 0.6  # of a training run, for the trials of one call
SEARCH = 1.5  # the same for a search over rates
LONGEST = 60.0  # seconds that a course over all rounds may take beyond what the job itself takes
LEAST = 5.0  # seconds that trials may take in any case


def counterfactuals(x: Examination) -> None:
    """The reference, the same dealt again, pooled; where the job is short and nothing exact is broken, its knobs."""
    facts = x.evidence.facts
    if not facts.offers.issuperset(NEEDED):
        return
    value = score(x.curve) if x.curve else math.nan
    job = Outcome((value,), len(x.curve), len(x.curve) / facts.rounds, math.isfinite(value), tuple(x.curve))
    _run(x, ("iid", "pooled-samples"), (0,), job)
    if x.exact or x.evidence.trials is None or not _short(x.evidence):
        return
    if not _pooled_fails(x.evidence):
        _run(x, _first_knobs(x.evidence), (0, 1, 2), job)
        if more := _later_knobs(x.evidence):
            _run(x, more, (0, 1, 2), job)
    elif not on_its_way(x.evidence):  # a matter of the network and its rate before any federation
        _run(x, ("best-rate",), (0,), job, SEARCH)
    dealt = effect(x.evidence, "iid")
    if x.length < facts.rounds and dealt is not None and dealt.clear and dealt.gain > SHORT:
        _over_all_rounds(x)


def own_code(x: Examination) -> None:
    """Whose code it is, clients' or server's (M35), where the reference does better and nothing exact says why."""
    facts, behind = x.evidence.facts, ahead(x.evidence, "reference")
    sure = any(one.certainty.value >= 2 and not one.cause.startswith("E") for one in x.findings())
    if sure or behind is None or behind < SHORT or not facts.offers.issuperset(NEEDED):
        return
    with x.part("whose code it is"):
        assumed = reference_settings(facts, x.evidence.rounds)
        clients, server = own_parts(x.subject, facts, x.length, assumed)
        known = x.evidence.trials
        assert known is not None  # it gave `behind`
        x.learn(trials=replace(known, own_clients=clients, own_server=server))


def _run(x: Examination, wanted: tuple[str, ...], seeds: tuple[int, ...], job: Outcome, budget: float = BUDGET) -> None:
    with x.part("counterfactuals: " + ", ".join(wanted)):
        seconds = budget * max(LEAST / BUDGET, x.run_seconds or 0.0)
        e, length = x.evidence, x.length
        found = run_trials(
            x.subject, e.facts, e.rounds, wanted=wanted, length=length, seeds=seeds, budget=seconds, ran=x.ran
        )
        trials: Trials = replace(merged(x.evidence.trials, found), job=job)
        x.learn(trials=trials)


def _over_all_rounds(x: Examination) -> None:
    """Whether heterogeneity still costs anything at the end of as many rounds as the job has."""
    e, rounds = x.evidence, x.evidence.facts.rounds
    assert e.trials is not None  # they gave the effect
    if (x.ran.seconds / x.length) * rounds > max(LONGEST, x.run_seconds or 0.0):
        return
    with x.part("the re-deal over all rounds"):
        found = run_trials(x.subject, e.facts, e.rounds, wanted=("iid",), length=rounds, seeds=(0,), budget=1e9)
        x.learn(trials=replace(e.trials, whole=found.effects.get("iid")))


def _short(e: Evidence) -> bool:
    """Whether the job is below its reference or the re-deal, far below the ceiling, or lost to NaN."""
    behind = max(ahead(e, "reference") or 0.0, ahead(e, "iid") or 0.0)
    return behind > SHORT or misses(e) > FAILS or any(not one.finite for one in e.rounds)


def _pooled_fails(e: Evidence) -> bool:
    """Whether pooled training of the job's network at the job's rate is itself far below what the data allow."""
    pooled, best = outcome(e, "pooled-samples"), ceiling(e)
    return pooled is not None and best is not None and (not pooled.finite or best - pooled.mean > FAILS)


def _first_knobs(e: Evidence) -> tuple[str, ...]:
    """What the job's own settings suggest."""
    wanted = ["iid", "pooled-samples", "pooled-depth"]
    if e.facts.declared.dp.get("noise"):
        wanted.append("noise-off")
    if e.facts.declared.dp.get("clip"):
        wanted.append("clip-off")
    if e.facts.declared.mu:
        wanted.append("mu=0")
    if e.facts.declared.codec is not None:
        wanted.append("codec-off")
    if any(name.startswith(("BatchNorm", "SyncBatch")) for name in e.facts.norms or {}):
        wanted += ["norm-group", "recalibrated"]
    return (*wanted, "lr*3", "lr/3")


def on_its_way(e: Evidence) -> bool:
    """Whether the job, at half the pace of its last rounds, gets to the ceiling in the rounds that it has left: then
    that another rate is ahead early says nothing."""
    job, there = outcome(e, "job"), ceiling(e)
    if job is None or there is None or len(job.curve) <= PACE:
        return False
    pace = (job.curve[-1] - job.curve[-1 - PACE]) / PACE
    return job.curve[-1] + 0.5 * pace * (e.facts.rounds - len(job.curve)) > there - SHORT


def _later_knobs(e: Evidence) -> tuple[str, ...]:
    """Where heterogeneity is what the re-deal says: what might help."""
    dealt = effect(e, "iid")
    if dealt is None or not dealt.clear:
        return () if on_its_way(e) else ("best-rate",)
    return ("server-momentum", "fewer-steps", "full-participation")
