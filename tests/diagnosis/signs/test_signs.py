"""All signs together: silent on healthy jobs and on what is declared, whatever is missing of the evidence."""

from dataclasses import fields, replace

import pytest
from evidence_of import aggregation, bare, data, handling, job, round_of, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence
from fedlens.diagnosis.signs import SIGNS
from fedlens.diagnosis.verdict.judgement import judged


def named(e: Evidence) -> dict[str, Certainty]:
    """What is more than noted: cause -> certainty."""
    found = [finding for sign in SIGNS if (finding := sign(e)) is not None]
    return {one.cause: one.certainty for one in found if one.certainty is not Certainty.NOTED}


def first(e: Evidence) -> str:
    """The cause that is named first."""
    suspects, _ = judged([finding for sign in SIGNS if (finding := sign(e)) is not None])
    return suspects[0].cause if suspects else ""


def test_a_healthy_job_has_no_suspect() -> None:
    assert named(job()) == {}


@pytest.mark.parametrize("section", [one.name for one in fields(Evidence) if one.name not in ("facts", "unexamined")])
def test_a_section_that_is_missing_makes_no_suspect(section: str) -> None:
    assert named(replace(job(), **{section: () if section in ("rounds", "beside") else None})) == {}


def test_bare_facts_make_no_suspect() -> None:
    assert named(bare()) == {}


def test_rounds_in_which_nothing_could_be_measured_make_no_suspect() -> None:
    blank = round_of(1, visits=tuple(visit(c, gain=None, watched=type(watched())()) for c in range(4)))
    blank = replace(blank, weights=(), total=None, residual=None, unexplained=None, cosine=None, coherence=None)
    blank = replace(blank, past=None, moved=None, mean_norm=None, norm=None, exam=None, exam_batch=None, gain=None)
    assert named(job(rounds=(blank, blank))) == {}


@pytest.mark.parametrize(
    "weights, residual",
    [((1 / 3, 1 / 3, 1 / 3), 0.4), ((0.0, 1.0, 0.0), 1.0), ((0.125, 0.25, 0.625), 0.9)],
    ids=["median", "krum", "trimmed"],
)
def test_a_declared_robust_rule_is_no_fault(weights: tuple[float, ...], residual: float) -> None:
    seen = aggregation(weights=weights, residual=residual, rule="median")
    off = rounds(residual=0.5, unexplained=0.4, cosine=0.8, weights=(1.0, 0.0, 0.0, 0.0))
    assert named(job({"reduce": "median"}, aggregation=seen, rounds=off)) == {}


def test_a_declared_server_rate_is_no_fault() -> None:
    half = aggregation(weights=(1 / 16, 2 / 16, 5 / 16), wanted=(1 / 16, 2 / 16, 5 / 16))
    moved = 0.5 * 0.4 / 10.0  # rate ||Dbar|| / ||w||
    seen = rounds(weights=(0.125,) * 4, total=0.5, residual=0.5, moved=moved)
    assert named(job({"server_lr": 0.5}, aggregation=half, rounds=seen)) == {}


def test_declared_server_momentum_is_no_fault() -> None:
    seen = (round_of(1), *rounds(3, residual=0.9, past=0.9, cosine=0.9)[1:])
    assert named(job({"server_momentum": 0.9}, aggregation=aggregation(again=0.9), rounds=seen)) == {}


def test_a_declared_adaptive_server_is_no_fault() -> None:
    seen = aggregation(weights=(0.02, 0.03, 0.04), residual=0.7, rule="adaptive")
    off = rounds(residual=0.8, unexplained=0.7, total=0.1, weights=(0.02,) * 4, cosine=0.7)
    assert named(job({"server_optimizer": "adam", "server_lr": 0.01}, aggregation=seen, rounds=off)) == {}


def test_declared_noise_that_is_mild_is_no_fault() -> None:
    """P = 384 numbers, sigma = 0.02 * 1 / 4 = 0.005: the noise is 0.1 long beside a mean update of 0.4."""
    seen = aggregation(noise=0.02 / 4, residual=0.25)
    off = rounds(residual=0.25, unexplained=0.24, weights=(0.26, 0.24, 0.25, 0.25), weights_error=0.01, cosine=0.97)
    assert named(job({"dp": {"clip": 1.0, "noise": 0.02}}, aggregation=seen, rounds=off)) == {}


def test_a_declared_codec_is_no_fault() -> None:
    off = rounds(residual=0.9, unexplained=0.1, total=0.1, weights=(0.02,) * 4, cosine=0.4, zero=0.99)
    assert named(job({"codec": "topk:0.01"}, rounds=off)) == {}


def test_declared_local_entries_and_state_are_no_fault() -> None:
    apart = rounds(visits=tuple(visit(c, watched=watched(start=0.3), missing=("1.weight",)) for c in range(4)))
    said = {"local_entries": ("1.",), "stateful": True}
    fates = {"0.weight": "mean", "1.weight": "kept"}
    assert named(job(said, rounds=apart, aggregation=aggregation(fates=fates))) == {}


def test_uniform_weights_are_no_fault_where_they_are_declared_or_nothing_is() -> None:
    even = aggregation(weights=(1 / 3,) * 3)
    assert named(job({"weighting": "uniform"}, aggregation=even)) == {}
    assert named(job({"weighting": None}, aggregation=even)) == {}


def test_drift_is_not_named_beside_a_broken_invariant() -> None:
    worse = trials(job=trials().job._replace(values=(0.4, 0.41, 0.42)))  # type: ignore[union-attr]
    effects = {"iid": worse.effects["iid"]._replace(gain=0.3), "fewer-steps": worse.effects["iid"]._replace(gain=0.2)}
    e = job(trials=replace(worse, effects=effects), rounds=rounds(coherence=0.2))
    assert first(e) in ("P1", "C1")
    assert first(replace(e, aggregation=aggregation(weights=(1.0, 0.0, 0.0)))) == "A1"


def test_the_root_is_named_before_what_follows_from_it() -> None:
    kept = dict.fromkeys(aggregation().fates, "kept")
    never = aggregation(weights=(0.0, 0.0, 0.0), fates=kept)
    still = rounds(moved=0.0, weights=(0.0,) * 4, total=0.0, residual=1.0, cosine=None, zero=1.0)
    assert first(job(aggregation=never, rounds=still)) == "B2"
    alone = aggregation(weights=(1.0, 0.0, 0.0), fates=dict.fromkeys(kept, "one"))
    assert first(job(aggregation=alone)) == "A1"
    swapped = aggregation(landed={"0.weight": "1.weight", "1.weight": "0.weight"}, weights=(-0.4, 0.3, 0.2))
    assert first(job(aggregation=swapped)) == "A7"


def test_input_scale_is_left_to_its_own_sign() -> None:
    large = tuple(visit(c, norm=60.0 if c == 2 else 0.5, watched=watched()) for c in range(4))
    assert "A9" not in named(job(rounds=rounds(visits=large), data=data(scaled={2: 255.0})))


def test_a_job_that_shares_a_random_generator_is_healthy() -> None:
    assert named(job(handling=handling(order=0.4, order_noise=0.4, repeats=0.0, shared=(0, 1, 2, 3)))) == {}
