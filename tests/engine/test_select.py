"""Which clients are invited to a round."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from fedlens.engine import SELECTIONS, AnySelection, BySize, PowerOfChoice, Uniform
from fedlens.errors import ConfigurationError
from fedlens.seeds import generator

EVERYBODY = np.arange(10)
SIZES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 55])


def unasked(clients: np.ndarray) -> np.ndarray:
    raise AssertionError("no loss was needed")


def test_a_uniform_draw_from_everybody_is_what_it_was_before_there_was_a_choice():
    for round in range(1, 51):
        old = np.sort(generator(7, "cohort", round).choice(10, 4, replace=False))
        new = Uniform().choose(EVERYBODY, SIZES, 4, generator(7, "cohort", round), unasked)
        assert new.tolist() == old.tolist()


@pytest.mark.parametrize("rule", [Uniform(), BySize(), PowerOfChoice(4)], ids=lambda rule: rule.kind)
def test_only_available_clients_are_chosen_and_all_of_them_where_they_are_too_few(rule):
    available = np.array([1, 4, 5, 8, 9])
    for round in range(1, 51):
        chosen = rule.choose(available, SIZES, 3, generator(0, "cohort", round), lambda ids: -1.0 * ids)
        assert len(chosen) == 3 and set(chosen) <= set(available)
        assert (np.diff(chosen) > 0).all()
    for few in (available[:3], available[:2], available[:0]):
        assert rule.choose(few, SIZES, 3, generator(0, "cohort", 1), unasked).tolist() == few.tolist()


def test_one_client_a_round_by_size_is_drawn_in_proportion_to_its_examples():
    drawn = [BySize().choose(EVERYBODY, SIZES, 1, generator(0, "cohort", r), unasked)[0] for r in range(1, 4001)]
    expected = 4000 * SIZES / SIZES.sum()
    chi_square = ((np.bincount(drawn, minlength=10) - expected) ** 2 / expected).sum()
    assert chi_square < 27.9  # 9 degrees of freedom: exceeded once in a thousand seeds


def test_two_clients_by_size_are_drawn_one_after_another_without_replacement():
    sizes = np.array([1, 2, 3])
    drawn = [BySize().choose(np.arange(3), sizes, 2, generator(1, "cohort", r), unasked) for r in range(1, 4001)]
    counts = np.bincount(np.concatenate(drawn), minlength=3)
    # Left out is the one drawn neither first nor second. Client 0: (1,2) 2/6 * 3/4 + (2,1) 3/6 * 2/3 = 7/12;
    # client 1: (0,2) 1/6 * 3/5 + (2,0) 3/6 * 1/3 = 4/15; client 2: 1 - 7/12 - 4/15 = 3/20.
    expected = 4000 * (1 - np.array([7 / 12, 4 / 15, 3 / 20]))
    # The standard deviation of a count is at most sqrt(4000 / 4) = 31.6; four of them are 126.
    assert abs(counts - expected).max() < 126


def test_power_of_choice_takes_the_highest_losses_among_its_candidates():
    asked = []

    def losses(clients: np.ndarray) -> np.ndarray:
        asked.append(clients)
        return np.array([0.5, 3.0, 1.0, 2.5, 0.1, 2.0, 1.5, 0.2, 4.0, 0.3])[clients]

    for round in range(1, 21):
        chosen = PowerOfChoice(5).choose(EVERYBODY, SIZES, 2, generator(0, "cohort", round), losses)
        assert len(set(asked[-1])) == 5
        best_first = [client for client in (8, 1, 3, 5, 6, 2, 0, 9, 7, 4) if client in asked[-1]]
        assert chosen.tolist() == sorted(best_first[:2])
    assert len(asked) == 20  # once a round


def test_candidates_are_drawn_by_size_and_as_many_as_the_cohort_are_a_draw_by_size():
    for round in range(1, 21):
        rng, again = generator(3, "cohort", round), generator(3, "cohort", round)
        plain = BySize().choose(EVERYBODY, SIZES, 4, rng, unasked)
        same = PowerOfChoice(4).choose(EVERYBODY, SIZES, 4, again, lambda ids: -1.0 * ids)
        assert same.tolist() == plain.tolist()


def test_all_clients_may_be_candidates():
    chosen = PowerOfChoice(1000).choose(EVERYBODY, SIZES, 3, generator(0, "cohort", 1), lambda ids: 1.0 * ids)
    assert chosen.tolist() == [7, 8, 9]


def test_a_loss_that_is_not_a_number_counts_as_the_highest():
    def losses(clients: np.ndarray) -> np.ndarray:
        return np.where(clients == 2, np.nan, 1.0 * clients)

    chosen = PowerOfChoice(10).choose(EVERYBODY, SIZES, 2, generator(0, "cohort", 1), losses)
    assert chosen.tolist() == [2, 9]


def test_equal_losses_favour_no_client_number():
    sizes = np.ones(10, dtype=np.int64)
    drawn = [
        PowerOfChoice(10).choose(EVERYBODY, sizes, 1, generator(0, "cohort", r), lambda ids: np.zeros(len(ids)))[0]
        for r in range(1, 1001)
    ]
    # Mean 100, standard deviation sqrt(1000 * 0.1 * 0.9) = 9.5; five of them are 47.
    assert abs(np.bincount(drawn, minlength=10) - 100).max() < 47


def test_fewer_candidates_than_the_cohort_are_refused():
    with pytest.raises(ConfigurationError, match="candidates = 5, 10 clients to invite") as error:
        PowerOfChoice(5).check(10)
    assert "Set candidates to 10 or more" in str(error.value)
    PowerOfChoice(10).check(10)
    Uniform().check(10)
    BySize().check(10)
    with pytest.raises(ConfigurationError):
        PowerOfChoice(0)


def test_selections_have_short_forms():
    read = TypeAdapter(AnySelection).validate_python
    assert read("uniform") == Uniform() and read("by-size") == BySize()
    assert read("power-of-choice:30") == read({"kind": "power-of-choice", "candidates": 30}) == PowerOfChoice(30)
    with pytest.raises(ValidationError, match="did you mean 'power-of-choice'"):
        read("power-of-choise")
    assert all(kind().kind == name for name, kind in SELECTIONS.items())
