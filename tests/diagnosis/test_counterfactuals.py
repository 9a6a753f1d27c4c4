"""Which trials are worth their time, by what is known."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "signs"))
from evidence_of import bare, data, effect, facts, job, labels, outcome, rounds, trials

from fedlens.diagnosis import Certainty, Evidence, Finding, examination
from fedlens.diagnosis.counterfactuals import (
    _accounted_for,
    _declared_knobs,
    _first_knobs,
    _later_knobs,
    _pooled_fails,
    _short,
)
from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.signs.reading import HONEST, dealt_by_chance
from fedlens.diagnosis.signs.symptom import on_its_way
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.verdict.judgement import ruled_out

ALWAYS = ("pooled-samples", "pooled-depth", "lr*3", "lr/3")


def test_a_healthy_job_is_not_short() -> None:
    assert not _short(job()) and not _short(bare())


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": trials(job=outcome(0.78))},  # 7 points below the reference
        {"trials": trials(job=outcome(0.85), knobs={"iid": outcome(0.92)})},
        {"trials": trials(job=outcome(0.7), reference=outcome(0.7), knobs={}, best=0.86)},  # 16 below the ceiling
        {"trials": trials(job=outcome(float("nan")))},
        {"rounds": rounds(2, finite=False)},
    ],
    ids=["the reference", "the re-deal", "the ceiling", "nan", "a round without numbers"],
)
def test_a_job_below_what_others_reach_is_short(changes: dict[str, Any]) -> None:
    assert _short(job(**changes))


def test_a_few_points_are_no_shortfall() -> None:
    assert not _short(job(trials=trials(job=outcome(0.82))))


def test_a_redeal_that_gains_nothing_in_the_end_is_no_shortfall() -> None:
    early = trials(job=outcome(0.85), knobs={"iid": outcome(0.92)})
    assert not _short(job(trials=replace(early, whole=effect(0.0)))) and _short(
        job(trials=replace(early, whole=effect(0.1)))
    )


@pytest.mark.parametrize(
    "changes, by_chance",
    [
        ({}, True),
        ({"data": data(skew=0.12)}, True),  # the null is 0.09, and a deal in twenty is above 0.11
        ({"data": data(skew=0.14)}, False),
        ({"data": data(apart={3: 0.5})}, False),
        ({"data": data(scaled={3: 255.0})}, False),
        ({"data": data(clusters=2)}, False),
        ({"data": data(empty=(2,))}, False),
        ({"labels": labels(mapped=(1,))}, False),
        ({"labels": labels(noisy=(1,))}, False),
        ({"labels": None}, False),
        ({"data": None}, False),
    ],
)
def test_what_chance_dealt_is_not_dealt_again(changes: dict[str, Any], by_chance: bool) -> None:
    e = job(**changes)
    assert dealt_by_chance(e) == by_chance
    assert ("iid" in _first_knobs(e)) != by_chance
    if by_chance:
        untried = replace(e, trials=trials(effects={}))
        assert any(
            one.what == "heterogeneity" and "as random deals are" in one.number for one in ruled_out(untried, ())
        )


def test_where_one_client_holds_all_data_nothing_is_said_of_random_deals() -> None:
    alone = job(facts=replace(job().facts, clients=1), trials=trials(effects={}))
    (said,) = [one.number for one in ruled_out(alone, ()) if one.what == "heterogeneity"]
    assert said == "one client holds all data"


def test_pooled_training_far_below_the_ceiling_is_no_matter_of_federation() -> None:
    assert not _pooled_fails(job()) and not _pooled_fails(bare())
    poor = trials(knobs={"pooled-samples": outcome(0.5)}, best=0.5, best_rate_outcome=None)
    assert _pooled_fails(job(trials=poor))  # a simple probe reaches 0.85
    lost = trials(knobs={"pooled-samples": outcome(0.84, finite=False)})
    assert _pooled_fails(job(trials=lost))
    hard = {"trials": replace(poor, reference=None), "labels": labels(learnable=0.55)}
    assert not _pooled_fails(job(**hard))


@pytest.mark.parametrize(
    "declared, knobs",
    [
        ({}, ()),
        ({"dp": {"clip": 1.0, "noise": 0.5}}, ("noise-off", "clip-off")),
        ({"dp": {"clip": 1.0, "noise": 0.0}}, ("clip-off",)),
        ({"codec": "topk:0.01"}, ("codec-off",)),
        ({"mu": 0.1}, ("mu=0",)),
        ({"mu": 0.0}, ()),
    ],
)
def test_a_declared_part_is_tried_without(declared: dict[str, Any], knobs: tuple[str, ...]) -> None:
    e = replace(job(), facts=facts(declared, norms={}))
    assert set(_declared_knobs(e)) == set(knobs) and set(_first_knobs(e)) == set(ALWAYS)


@pytest.mark.parametrize("norm", ["BatchNorm1d", "BatchNorm2d", "SyncBatchNorm"])
def test_batch_norm_is_tried_with_groups_and_recalibrated(norm: str) -> None:
    with_norm = replace(job(), facts=facts(norms={norm: 3}))
    assert set(_declared_knobs(with_norm)) == {"norm-group", "recalibrated"}
    for norms in ({"GroupNorm": 2}, {}, None):
        assert _declared_knobs(replace(job(), facts=facts(norms=norms))) == ()


def test_remedies_for_skew_are_tried_where_the_redeal_gains_and_rates_elsewhere() -> None:
    helped = job(trials=trials(effects={"iid": effect(0.1)}))
    assert _later_knobs(helped) == ("server-momentum", "fewer-steps", "full-participation")
    assert _later_knobs(job(trials=trials(effects={"iid": effect(0.005)}))) == ("best-rate",)
    assert _later_knobs(job(trials=trials(effects={"iid": effect(0.1, error=0.08)}))) == ("best-rate",)
    assert _later_knobs(job(trials=trials(effects={}))) == ("best-rate",)


def rising(*curve: float) -> Any:
    """A job of 20 rounds after these; the ceiling is 0.86."""
    return job(trials=trials(job=Outcome((curve[-1],), len(curve), 0.3, curve=curve)))


def test_a_job_that_will_get_there_is_on_its_way() -> None:
    """Six of 20 rounds, 5 points a round: half that pace for 14 rounds more is 35 points."""
    assert on_its_way(rising(0.3, 0.35, 0.4, 0.45, 0.5, 0.55))
    assert not on_its_way(rising(0.3, 0.31, 0.32, 0.33, 0.34, 0.35))  # 7 points
    assert not on_its_way(rising(0.5, 0.5, 0.5, 0.5, 0.5, 0.5))
    assert not on_its_way(rising(0.3, 0.4, 0.5))  # too few rounds to have a pace
    assert not on_its_way(rising(0.1, 0.3, 0.4, float("nan"))) and not on_its_way(bare())


def told(cause: str, certainty: Certainty = Certainty.SUPPORTED, weight: float = 0.1, **more: Any) -> Finding:
    return Finding(cause, certainty, "It is so.", (), "Mend it.", weight=weight, **more)


@pytest.mark.parametrize(
    "finding, by",
    [
        (told("P1"), True),
        (told("P1", Certainty.CONSISTENT), False),
        (told("L1", weight=0.09), True),  # of ten points
        (told("L1", weight=0.07), False),
        (told("L1", Certainty.CONSISTENT, weight=0.09), False),
        (told("V2", weight=0.0, hides=HONEST), True),
        (told("V2", weight=0.0, hides=frozenset({"O1"})), False),
    ],
)
def test_nothing_is_searched_for_beside_what_accounts_for_the_distance(finding: Finding, by: bool) -> None:
    """The job is ten points below its reference and the ceiling."""
    e = job(trials=trials(job=outcome(0.7), reference=outcome(0.8), knobs={}, best=0.8), labels=None, log=None)
    assert _accounted_for(SimpleNamespace(evidence=e, findings=lambda: [finding])) == by  # type: ignore[arg-type]


def test_the_signs_are_read_once_for_the_same_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Evidence] = []
    monkeypatch.setattr(examination, "read", lambda e: (shown.append(e), ([], []))[1])
    x = examination.Examination(Subject(lambda: None, "nobody"), lambda stage: None, job())
    assert x.findings() == x.findings() == [] and not x.exact and len(shown) == 1
    x.learn(log=None)
    assert not x.explained and [one.log is None for one in shown] == [False, True]


def test_what_skew_costs_in_the_end_is_told_where_it_is_no_suspect() -> None:
    e = job(trials=trials(effects={"iid": effect(0.3)}, whole=effect(0.04, error=0.01)))
    (told_of,) = [one for one in ruled_out(e, ()) if one.what == "heterogeneity"]
    assert told_of.number == "dealing again: +30.0 points early, +4.0 ± 1.0 in the end"
    assert not [one for one in ruled_out(e, (told("P1"),)) if one.what == "heterogeneity"]
