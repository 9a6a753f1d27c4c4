"""Signs of a network that cannot do better."""

from typing import Any

import pytest
from evidence_of import bare, job, labels, learning, outcome, trials

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.capacity import SIGNS
from fedlens.diagnosis.signs.capacity.dead import units_are_dead
from fedlens.diagnosis.signs.capacity.stride import maps_shrink_too_early
from fedlens.diagnosis.signs.capacity.weak import model_is_too_weak


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def ailing(**sections: Any) -> Evidence:
    """A job at 0.3 where pooled training reaches 0.86."""
    return job(**{"trials": trials(job=outcome(0.3))} | sections)


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.__name__)
def test_healthy_networks_and_none_at_all_are_silent(sign: Any) -> None:
    assert sign(job()) is None and sign(bare()) is None and sign(ailing()) is None
    assert sign(ailing(learning=None)) is None


def pooled(reached: float, curve: tuple[float, ...] = ()) -> Evidence:
    """Pooled training that reaches `reached` at the best of rates, beside a probe that reaches 0.85."""
    best = outcome(reached, curve=curve)
    known = trials(job=best, reference=best, knobs={"pooled-samples": best}, best=reached, best_rate_outcome=best)
    return job(trials=known)


def test_pooled_training_below_a_simple_probe_is_a_weak_network() -> None:
    finding = model_is_too_weak(pooled(0.6))
    assert finding is not None and (finding.cause, finding.certainty) == ("K1", Certainty.SUPPORTED)
    assert "60.0 %" in finding.says and "85.0 %" in finding.says and finding.weight == pytest.approx(0.25)


def test_pooled_training_near_the_probe_or_without_a_search_of_rates_is_no_weakness() -> None:
    assert model_is_too_weak(pooled(0.78)) is None
    assert model_is_too_weak(job(trials=trials(best=0.6, best_rate_outcome=None))) is None
    assert model_is_too_weak(job(trials=trials(best=None))) is None
    assert model_is_too_weak(job(trials=trials(best=0.6), labels=None)) is None


def test_pooled_training_that_still_rises_is_short_of_rounds() -> None:
    assert model_is_too_weak(pooled(0.6, curve=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))) is None
    level = (0.3, 0.5, 0.58, 0.6, 0.6, 0.6, 0.6, 0.6)
    assert certainty(model_is_too_weak(pooled(0.6, curve=level))) is Certainty.SUPPORTED


def test_a_network_that_learns_a_batch_by_heart_and_is_still_at_chance_had_too_few_steps() -> None:
    assert model_is_too_weak(pooled(0.15)) is None
    unable = pooled(0.15)
    unable = type(unable)(**vars(unable) | {"learning": learning(overfit_best=0.5)})
    assert certainty(model_is_too_weak(unable)) is Certainty.SUPPORTED
    unknown = type(unable)(**vars(unable) | {"learning": None})
    assert certainty(model_is_too_weak(unknown)) is Certainty.SUPPORTED


def test_a_layer_of_which_nearly_all_is_dead_is_named_where_the_job_ails() -> None:
    dead = learning(dead={"1": 0.97, "3": 0.5})
    assert certainty(units_are_dead(job(learning=dead))) is Certainty.NOTED
    finding = units_are_dead(ailing(learning=dead))
    assert finding is not None and (finding.cause, finding.certainty) == ("K3", Certainty.CONSISTENT)
    assert "Of 1 97.0 %" in finding.says


def test_rectifiers_of_which_half_rests_at_the_start_are_healthy() -> None:
    assert units_are_dead(ailing(learning=learning(dead={"1": 0.5, "3": 0.85}))) is None


def test_maps_of_one_pixel_half_way_are_named_where_the_job_ails() -> None:
    shrunk = learning(half_way=(1, 1), smallest=(1, 1))
    assert certainty(maps_shrink_too_early(job(learning=shrunk))) is Certainty.NOTED
    assert certainty(maps_shrink_too_early(ailing(learning=shrunk))) is Certainty.CONSISTENT


def test_maps_that_are_larger_half_way_and_networks_without_maps_are_healthy() -> None:
    assert maps_shrink_too_early(ailing(learning=learning(half_way=(4, 4), smallest=(1, 1)))) is None
    assert maps_shrink_too_early(ailing(learning=learning(half_way=(1, 8)))) is None  # a sequence
    assert maps_shrink_too_early(ailing(labels=labels())) is None
