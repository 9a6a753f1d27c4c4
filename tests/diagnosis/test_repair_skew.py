"""Knobs against skewed clients: the best are found alone and together, and all see as many examples."""

import math

import pytest
import softmax_job as jobs
import torch

from fedlens.diagnosis.repair.skew import MOST, TURNS, best, turned, words
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.course import Setup
from fedlens.diagnosis.trials.lend import admit
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.diagnosis.trials.trials import reference_setup
from fedlens.local import Local

torch.set_num_threads(1)


def setup(steps: int = 4) -> Setup:
    patient = Subject(jobs.Skewed, "").fresh(0)
    settings = Assumed(Local(lr=0.1, batch=10, steps=steps))
    return reference_setup(admit(patient), patient.facts(), settings, 12, 0)[0]


def examples(of: Setup) -> float:
    e = of.experiment
    return e.rounds * e.clients.cohort * e.local.step_count(round(float(of.lent.deal.sizes.mean()))) * e.local.batch


@pytest.mark.parametrize("name", TURNS)
def test_every_knob_keeps_the_number_of_examples(name):
    one = turned(name)(setup())
    assert one is not None and one.experiment != setup().experiment
    assert examples(one) == examples(setup()) and words(name)


def test_with_everybody_there_are_as_many_fewer_steps():
    one = turned("everybody")(setup()).experiment
    assert (one.clients.cohort, one.local.steps) == (jobs.Skewed.clients, 4 * jobs.Skewed.cohort // jobs.Skewed.clients)
    assert turned("everybody")(setup(steps=1)) is None  # there is no half a step
    assert turned("everybody")(turned("everybody")(setup())) is None


def test_knobs_are_turned_one_after_the_other():
    both = turned("faster+momentum")(setup()).experiment
    assert both.local.lr == pytest.approx(0.3) and both.method.server_memory
    assert ";" in words("faster+momentum")


def scored(table: dict[str, float]) -> tuple[list[str], object]:
    asked: list[str] = []

    def score(value: str) -> float:
        asked.append(value)
        return table.get(value, -math.inf)

    return asked, score


def test_the_best_pair_is_taken_where_it_is_ahead_of_the_best_alone():
    table = {"fedlc": 0.5, "everybody": 0.45, "faster": 0.3, "fedlc+everybody": 0.6}
    asked, score = scored(table)
    assert best(score, 0.4, 1.0) == "fedlc+everybody"
    assert "fedlc+faster" not in asked and len([one for one in asked if "+" in one]) <= MOST
    assert best(scored({**table, "fedlc+everybody": 0.4})[1], 0.4, 1.0) == "fedlc"
    assert best(scored(table)[1], 0.5, 1.0) == ""  # the best is no better than what there is


def test_the_search_ends_with_the_first_that_is_enough():
    asked, score = scored({next(iter(TURNS)): 0.9})
    assert best(score, 0.4, 0.8) == next(iter(TURNS)) and len(asked) == 1


def test_where_nothing_can_be_turned_there_is_no_best():
    assert best(scored({})[1], 0.4, 0.8) == ""
