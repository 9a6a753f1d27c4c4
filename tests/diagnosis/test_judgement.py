"""What outranks what: made-up findings in, suspects out."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "signs"))
from evidence_of import (
    aggregation,
    bare,
    effect,
    handling,
    job,
    labels,
    learning,
    participation,
    rounds,
    trials,
    visit,
    watched,
)

from fedlens.diagnosis import Certainty, Finding
from fedlens.diagnosis.signs import SIGNS
from fedlens.diagnosis.verdict.judgement import HETEROGENEITY, MOST, judged, ruled_out

FOUND, SUPPORTED, CONSISTENT, NOTED = (Certainty(number) for number in (3, 2, 1, 0))


def named(cause: str, certainty: Certainty = FOUND, weight: float = 0.1, hides: str = "", **more: Any) -> Finding:
    """A finding; `hides`: causes, apart by blanks."""
    return Finding(cause, certainty, f"{cause}.", (), "", weight=weight, hides=frozenset(hides.split()), **more)


def suspects(*findings: Finding) -> list[str]:
    return [one.cause for one in judged(findings)[0]]


def noted(*findings: Finding) -> list[str]:
    return [one.cause for one in judged(findings)[1]]


def test_nothing_makes_no_suspects() -> None:
    assert judged([]) == ((), ())
    assert suspects(named("E7", NOTED)) == [] and noted(named("E7", NOTED)) == ["E7"]


def test_the_surer_comes_first_and_of_equals_the_heavier() -> None:
    light, heavy = named("A1", FOUND, 0.1), named("B2", FOUND, 0.5)
    likely = named("O2", SUPPORTED, 0.9)
    assert suspects(likely, light, heavy) == ["B2", "A1", "O2"]
    assert suspects(named("H4", CONSISTENT, 0.9), named("L1", SUPPORTED, 0.2)) == ["L1", "H4"]


def test_no_more_than_three_are_suspects_and_the_rest_is_noted() -> None:
    many = [named(f"X{number}", FOUND, 1 - number / 10) for number in range(5)]
    assert suspects(*many) == ["X0", "X1", "X2"] and MOST == 3
    assert noted(*many, named("E7", NOTED)) == ["X3", "X4", "E7"]


def test_honest_heterogeneity_is_never_named_beside_something_exact() -> None:
    for cause in sorted(HETEROGENEITY):
        assert suspects(named(cause, SUPPORTED, 0.9), named("A1", FOUND, 0.01)) == ["A1"]
        assert suspects(named(cause, SUPPORTED, 0.9)) == [cause]
    assert suspects(named("P1", SUPPORTED), named("L1", SUPPORTED, 0.5)) == ["L1", "P1"]


def test_exact_heterogeneity_stays() -> None:
    assert suspects(named("S3", FOUND, 0.3), named("A1", FOUND, 0.5)) == ["A1", "S3"]


def test_what_is_only_consistent_falls_beside_something_exact() -> None:
    assert suspects(named("K3", CONSISTENT, 0.9), named("A1", FOUND)) == ["A1"]
    assert noted(named("K3", CONSISTENT, 0.9), named("A1", FOUND)) == []
    assert suspects(named("O2", SUPPORTED), named("A1", FOUND)) == ["A1", "O2"]


def test_compound_faults_are_both_named() -> None:
    assert suspects(named("E2", FOUND, 0.05), named("A1", FOUND, 0.4)) == ["A1", "E2"]


def test_a_consequence_is_hidden_by_its_root() -> None:
    root = named("B2", FOUND, 0.4, hides="E5 O1")
    assert suspects(root, named("E5", FOUND, 0.9), named("O1", SUPPORTED, 0.9)) == ["B2"]
    assert noted(root, named("E5", NOTED)) == []


def test_a_guess_hides_nothing_that_is_surer() -> None:
    assert suspects(named("D3", CONSISTENT, hides="L1"), named("L1", SUPPORTED)) == ["L1", "D3"]
    assert suspects(named("E10", NOTED, hides="L1"), named("L1", SUPPORTED)) == ["L1"]


def test_of_two_that_hide_each_other_the_surer_or_heavier_stays() -> None:
    one, other = named("D1", FOUND, 0.5, hides="O2"), named("O2", SUPPORTED, 0.9, hides="D1")
    assert suspects(one, other) == suspects(other, one) == ["D1"]
    light, heavy = named("D1", SUPPORTED, 0.2, hides="L2"), named("L2", SUPPORTED, 0.7, hides="D1")
    assert suspects(light, heavy) == suspects(heavy, light) == ["L2"]


def test_two_equals_that_hide_each_other_do_not_vanish_together() -> None:
    one, other = named("D1", FOUND, 0.5, hides="L2"), named("L2", FOUND, 0.5, hides="D1")
    assert suspects(one, other) and suspects(other, one)


def test_a_finding_does_not_hide_itself() -> None:
    assert suspects(named("A1", FOUND, hides="A1 P1")) == ["A1"]


def test_one_cause_by_two_signs_is_named_once_by_the_surer() -> None:
    twice = (named("E2", CONSISTENT, 0.9), named("E2", SUPPORTED, 0.1))
    assert [one.certainty for one in judged(twice)[0]] == [SUPPORTED]
    assert noted(*twice) == []


def test_all_signs_of_a_job_with_two_faults_name_both() -> None:
    e = job(
        aggregation=aggregation(weights=(1.0, 0.0, 0.0)),
        rounds=rounds(visits=tuple(visit(c, watched=watched(probabilities=True)) for c in range(4))),
    )
    findings = [found for sign in SIGNS if (found := sign(e)) is not None]
    assert {"A1", "H1"} <= set(suspects(*findings))


def test_a_healthy_job_has_much_ruled_out() -> None:
    said = ruled_out(job(), ())
    assert {one.what for one in said} == {
        "clients start elsewhere",
        "aggregation",
        "labels that differ by client",
        "data without signal",
        "loss and head",
        "participation",
        "heterogeneity",
        "a rate too small",
        "a rate too large",
    }
    assert all(any(letter.isdigit() for letter in one.number) for one in said)


@pytest.mark.parametrize(
    "cause, what",
    [
        ("A1", "aggregation"),
        ("B1", "clients start elsewhere"),
        ("L2", "labels that differ by client"),
        ("S1", "participation"),
        ("P1", "heterogeneity"),
        ("O1", "a rate too small"),
    ],
)
def test_a_suspect_is_not_ruled_out(cause: str, what: str) -> None:
    assert what in {one.what for one in ruled_out(job(), ())}
    assert what not in {one.what for one in ruled_out(job(), (named(cause),))}


def test_what_the_evidence_does_not_exclude_is_not_ruled_out() -> None:
    known = trials(effects={"iid": effect(0.2), "lr*3": effect(0.2), "lr/3": effect(0.2)})
    e = job(
        trials=known,
        aggregation=aggregation(residual=0.2),
        rounds=rounds(visits=tuple(visit(c, watched=watched(start=0.2)) for c in range(4))),
        labels=labels(learnable=0.11, mapped=(1,)),
        learning=learning(overfit=0.5),
        participation=participation(distinct=4),
        handling=handling(),
    )
    assert ruled_out(e, ()) == () and ruled_out(bare(), ()) == ()


def test_odd_aggregations_rule_nothing_out_and_do_not_stop_the_page() -> None:
    for odd in (aggregation(weights=(), wanted=()), aggregation(weights=(0.5, 0.5), wanted=(1.0,))):
        assert "aggregation" not in {one.what for one in ruled_out(bare(aggregation=odd), ())}


def test_an_excluded_knob_says_its_number() -> None:
    known = replace(trials(), effects={"noise-off": effect(0.012, 0.01)})
    (said,) = ruled_out(bare(trials=known), ())
    assert said.what == "privacy noise" and said.number == "no noise: +1.2 ± 1.0 points, n = 3"
