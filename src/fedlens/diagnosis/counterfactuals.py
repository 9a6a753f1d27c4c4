"""Which counterfactuals are worth their time: few where something exact is broken, none more where nothing is short."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence, Outcome, Trials
from fedlens.diagnosis.examination import Examination, merged
from fedlens.diagnosis.finding import Certainty
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.signs.beside import fails_beside
from fedlens.diagnosis.signs.normalisation.skewed import tiny_batches
from fedlens.diagnosis.signs.reading import ahead, dealt_by_chance, early_only, effect, lasting, outcome, printed
from fedlens.diagnosis.signs.symptom import ails, ceiling, misses, on_its_way
from fedlens.diagnosis.trials import (
    dealt_to_the_end,
    in_score,
    own_parts,
    reference_settings,
    reference_to_the_end,
    run_trials,
)
from fedlens.diagnosis.verdict.judgement import judged

REMEDIES = ("server-momentum", "fewer-steps")  # against skew; the second also tells whether clients drift by it
OF_NORMS = ("norm-group", "recalibrated")
SEEDS = (0, 1, 2)  # the first alone where a trial only says where to look
NEEDED = ("model", "train_data", "test_data")
SHORT = 0.05  # accuracy below the reference from which on reasons are looked for
MOSTLY = 0.8  # of that distance, from which on a reason needs no other beside it
FAILS = 0.15  # the same, below the highest accuracy that anything reached
BUDGET = 0.6  # of a training run, for the trials of one call
BASIS = 2.0  # the same for the first trials: without them little can be said
SEARCH = 1.5  # the same for a search over rates
PLAIN = 6  # standard errors of an evaluation that a distance must have for one seed to tell its ends apart
LONGEST = 60.0  # seconds that a course over all rounds may take beyond what the job itself takes
LEAST = 3.0  # seconds that trials may take in any case


def counterfactuals(x: Examination) -> None:
    """The reference, the same dealt again, pooled; where the job is short and nothing exact is broken, its knobs."""
    facts = x.evidence.facts
    if not facts.offers.issuperset(NEEDED):
        return
    last = [one for one in x.curve[-in_score(len(x.curve)) :] if math.isfinite(one)]
    value = statistics.fmean(last) if last else math.nan
    job = Outcome((value,), len(x.curve), len(x.curve) / facts.rounds, math.isfinite(value), tuple(x.curve))
    again = () if dealt_by_chance(x.evidence) else ("iid",)
    _run(x, ("pooled-depth",) if x.exact else (*again, "pooled-samples"), SEEDS[:1], job, BASIS)
    if x.exact and fails_beside(x.evidence, x.findings()):
        _what_is_shared(x, job)
    if x.exact or x.evidence.trials is None or not _short(x.evidence):
        return
    dealt = effect(x.evidence, "iid")
    if x.length < facts.rounds and dealt is not None and dealt.clear and dealt.gain > SHORT:
        _over_all_rounds(x, "the re-deal over all rounds", dealt=True)
    if _short(x.evidence):
        _turned_knobs(x, job)
    if x.evidence.trials.late is None and early_only(x.evidence) and _rests_on_the_start(x.evidence):
        _over_all_rounds(x, "the reference over all rounds", dealt=False)


def _what_is_shared(x: Examination, job: Outcome) -> None:
    """By what the reference fails beside what is exactly broken: a part that is declared, or its rate."""
    declared = tuple(name for name in _declared_knobs(x.evidence) if name not in OF_NORMS)
    if declared:
        _run(x, declared, SEEDS[:1], job)
    if not _accounted_for(x):
        _run(x, ("best-rate",), SEEDS[:1], job, SEARCH)


def _turned_knobs(x: Examination, job: Outcome) -> None:
    """One thing otherwise at a time: what the job's own settings suggest, or its rate and its network."""
    if not _pooled_fails(x.evidence):
        if knobs := _declared_knobs(x.evidence):
            _run(x, knobs, SEEDS, job)
        if not _accounted_for(x):
            _run(x, _first_knobs(x.evidence), SEEDS, job)
        if _skewed(x):
            _run(x, REMEDIES, SEEDS, job)
        elif (more := _later_knobs(x.evidence)) and not _accounted_for(x):
            _run(x, more, SEEDS, job)
    elif not on_its_way(x.evidence):  # a matter of the network and its rate before any federation
        if tiny_batches(x.evidence):
            _run(x, OF_NORMS[:1], SEEDS[:1], job)
            if _accounted_for(x):
                return
        _run(x, ("best-rate",), SEEDS[:1], job, SEARCH)
        if x.evidence.trials is not None and x.evidence.trials.best_rate_outcome is None and not x.exact:
            _run(x, ("lr*3", "lr/3"), SEEDS[:1], job)  # no time for a search: its two neighbours
    if _pooled_fails(x.evidence) and ails(x.evidence) and not on_its_way(x.evidence) and not _accounted_for(x):
        _run(x, ("small-network",), SEEDS[:1], job)


def _skewed(x: Examination) -> bool:
    """Whether skew is supported as a cause: what might help against it is worth its time."""
    return any(one.cause == "P1" and one.certainty is Certainty.SUPPORTED for one in x.findings())


def _accounted_for(x: Examination) -> bool:
    """Whether a trial has said already why the job is short: that its data differ, what costs most of it, or what would
    hide the causes that are left to try."""
    short = [distance for distance in (_behind(x.evidence), misses(x.evidence)) if distance > 0]
    told = [one for one in judged(x.findings())[0] if one.certainty is Certainty.SUPPORTED]
    most = any(one.weight > MOSTLY * distance for one in told for distance in short)
    return most or _skewed(x) or any(one.hides >= {"O1", "C1"} for one in told)


def own_code(x: Examination) -> None:
    """Whose code it is, clients' or server's (M35), where the reference does better and nothing exact says why."""
    facts, behind = x.evidence.facts, ahead(x.evidence, "reference")
    sure = any(one.certainty.value >= 2 and not one.cause.startswith("E") for one in x.findings())
    if sure or behind is None or behind < SHORT or not facts.offers.issuperset(NEEDED):
        return
    with x.part("whose code it is"):
        assumed = reference_settings(facts, x.evidence.rounds)
        known = x.evidence.trials
        assert known is not None and known.job is not None and known.reference is not None  # they gave `behind`
        middle = (known.job.mean + known.reference.mean) / 2
        clear = behind > PLAIN * known.error

        def near_an_end(half: Outcome) -> bool:
            return clear and abs(half.mean - middle) > behind / 4

        clients, server = own_parts(x.subject, facts, x.length, assumed, sure=near_an_end)
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


def _over_all_rounds(x: Examination, name: str, *, dealt: bool) -> None:
    """What the reference reaches in as many rounds as the job has, where nothing else tells how the job ends; with
    `dealt` by how much the re-deal ends above that."""
    e, rounds = x.evidence, x.evidence.facts.rounds
    assert e.trials is not None and e.trials.reference is not None  # they gave the effect
    if (x.ran.seconds / x.length) * rounds > max(LONGEST, x.run_seconds or 0.0):
        return
    with x.part(name):
        end, trials = printed(e), e.trials
        if end is None:
            late = reference_to_the_end(x.ran, rounds)
            end, trials = late.mean, replace(trials, late=late)
            x.learn(trials=trials)
        if dealt:
            whole, taken = dealt_to_the_end(x.ran, rounds, end)
            x.learn(trials=replace(trials, whole=whole, whole_rounds=taken))


def _rests_on_the_start(e: Evidence) -> bool:
    """Whether a suspect would be none if the job came to the ceiling in the rounds that were not played."""
    there, trials = ceiling(e), e.trials
    if there is None or trials is None:
        return False
    risen = replace(e, trials=replace(trials, late=Outcome((there + 1.0,), e.facts.rounds, 0.0)))
    now, then = (judged(read(one)[0])[0] for one in (e, risen))
    return bool({one.cause for one in now} - {one.cause for one in then})


def _behind(e: Evidence) -> float:
    """How far the job is below its reference, or below the re-deal where that lasts."""
    return max(ahead(e, "reference") or 0.0, (ahead(e, "iid") or 0.0) if lasting(e) else 0.0)


def _short(e: Evidence) -> bool:
    """Whether the job is below its reference or the re-deal, far below the ceiling, or lost to NaN."""
    return _behind(e) > SHORT or misses(e) > FAILS or any(not one.finite for one in e.rounds)


def _pooled_fails(e: Evidence) -> bool:
    """Whether pooled training of the job's network at the job's rate is itself far below what the data allow."""
    pooled, best = outcome(e, "pooled-samples"), ceiling(e)
    return pooled is not None and best is not None and (not pooled.finite or best - pooled.mean > FAILS)


def _declared_knobs(e: Evidence) -> tuple[str, ...]:
    """What the job declares beside plain averaging, left out."""
    said = e.facts.declared
    every = {"noise-off": said.dp.get("noise"), "clip-off": said.dp.get("clip"), "mu=0": said.mu}
    every |= {"codec-off": said.codec is not None}
    if any(name.startswith(("BatchNorm", "SyncBatch")) for name in e.facts.norms or {}):
        every |= dict.fromkeys(OF_NORMS, True)
    return tuple(name for name, there in every.items() if there)


def _first_knobs(e: Evidence) -> tuple[str, ...]:
    """What every job can be tried with."""
    again = () if dealt_by_chance(e) else ("iid",)
    return ("pooled-samples", "pooled-depth", *again, "lr*3", "lr/3")


def _later_knobs(e: Evidence) -> tuple[str, ...]:
    """Where heterogeneity is what the re-deal says: what might help."""
    dealt = effect(e, "iid")
    if dealt is None or not dealt.clear:
        return () if on_its_way(e) else ("best-rate",)
    return (*REMEDIES, "full-participation")
