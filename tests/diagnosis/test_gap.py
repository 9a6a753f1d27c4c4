"""From pooled training down to the job: levels that were run, and their differences."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "signs"))
from evidence_of import bare, outcome, trials

from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.verdict.gap import spread, waterfall


def test_levels_go_from_the_best_pooled_training_down_to_the_job() -> None:
    knobs = {"pooled-samples": outcome(0.8), "pooled-depth": outcome(0.9), "iid": outcome(0.75)}
    bars = waterfall(bare(trials=trials(job=outcome(0.5), reference=outcome(0.7), knobs=knobs)))
    assert [bar.accuracy for bar in bars] == pytest.approx([0.9, 0.8, 0.75, 0.7, 0.5])
    assert [bar.change for bar in bars] == pytest.approx([0.0, -0.1, -0.05, -0.05, -0.2])
    assert bars[0].what.startswith("pooled, the best") and bars[-1].what == "the job's own code"


def test_changes_add_up_to_the_gap() -> None:
    bars = waterfall(bare(trials=trials()))
    assert sum(bar.change for bar in bars) == pytest.approx(bars[-1].accuracy - bars[0].accuracy)


def test_one_budget_of_pooled_training_is_one_level() -> None:
    bars = waterfall(bare(trials=trials(knobs={"pooled-samples": outcome(0.8)})))
    assert [bar.what.startswith("pooled") for bar in bars] == [True, False, False]
    assert bars[0].what == "pooled, the same samples"
    short = waterfall(bare(trials=trials(knobs={"pooled-depth": outcome(0.8)})))
    assert short[0].what == "pooled, as many steps as one client"


def test_levels_that_were_not_run_are_left_out() -> None:
    bars = waterfall(bare(trials=trials(knobs={}, reference=None)))
    assert [bar.what for bar in bars] == ["the job's own code"] and bars[0].change == 0.0
    assert waterfall(bare()) == () and waterfall(bare(trials=trials(job=None))) == ()


def test_trials_without_values_or_numbers_do_not_stop_the_page() -> None:
    knobs = {"pooled-samples": Outcome((), 0, 0.0), "pooled-depth": Outcome((float("nan"),), 5, 0.1, finite=False)}
    bars = waterfall(bare(trials=trials(knobs=knobs | {"pooled-wall": outcome(0.8)})))
    assert bars[0].accuracy == pytest.approx(0.8)
    assert waterfall(bare(trials=trials(job=Outcome((), 0, 0.0), reference=None, knobs={}))) == ()


def test_errors_are_of_the_mean_and_not_below_those_of_evaluation() -> None:
    """Seeds at 0.7, 0.8, 0.9: standard deviation 0.1, of the mean 0.1 / sqrt(3)."""
    assert spread(Outcome((0.7, 0.8, 0.9), 5, 1.0), 0.01) == pytest.approx(0.1 / 3**0.5)
    assert spread(Outcome((0.8, 0.8, 0.8, 0.8), 5, 1.0), 0.01) == pytest.approx(0.005)
    assert spread(Outcome((0.8,), 5, 1.0), 0.01) == pytest.approx(0.01)
