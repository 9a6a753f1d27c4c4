"""What a log gives away alone: its size, its unit, constant answers, made-up digits; and reading it in any form."""

import math

import numpy as np
import pytest

from fedlens.diagnosis.forensics import examine_log, quantum, read_log

RISING = np.linspace(0.1, 0.85, 40)


def counted(n: int, seed: int = 0, chances: np.ndarray = RISING) -> list[float]:
    """Accuracies of ever better models on n examples."""
    return list(np.random.default_rng(seed).binomial(n, chances) / n)


READABLE = [
    ("round 3 test acc 0.8123\nround 4 test acc nan", [0.8123, math.nan]),
    (
        "Round 3/100: train acc: 91.20%, Test Accuracy: 81.20%\nRound 4/100: train acc: 92%, Test Accuracy: 82%",
        [81.2, 82],
    ),
    ("Test set: Average loss: 0.0523, Accuracy: 9832/10000 (98%)", [0.9832]),
    ("round,loss,val_acc,test_acc\n1,2.1,0.4,0.5\n2,1.9,0.4,nan", [0.5, math.nan]),
    ('{"round": 1, "loss": 2, "acc": 0.5}\n{"round": 2, "loss": 1, "acc": 0.6}', [0.5, 0.6]),
    ('{"loss": [2, 1], "accuracy": [0.5, 0.6]}', [0.5, 0.6]),
    ("0.1\n0.2\n\n0.3", [0.1, 0.2, 0.3]),
    ("12.1%\n13.2%", [12.1, 13.2]),
    ("[0.1, 0.2, nan]", [0.1, 0.2, math.nan]),
    ("1,0.3\n2,0.4", [0.3, 0.4]),
    ("accuracy after round 12: 0.81", [0.81]),
    ("client 3 acc 0.5\nclient 4 acc 0.6\nround 1 global acc 0.7", [0.7]),
    ("2024-05-01 12:00:03 INFO [ROUND 3] acc=tensor(0.81, device='cuda:0') loss=0.3", [0.81]),
    ("Epoch 3 Test Acc@1 81.2 Acc@5 99.1", [81.2]),
    ([0.1, np.float32(0.5)], [0.1, 0.5]),
    (np.array([0.1, 0.2]), [0.1, 0.2]),
    ([{"round": 1, "metrics": {"test_accuracy": 0.5, "train_accuracy": 0.9}}], [0.5]),
    ({"accuracy": [(1, 0.5), (2, 0.6)]}, [0.5, 0.6]),
    (["round 1 acc 0.5", "round 2 acc 0.6"], [0.5, 0.6]),
    ("nothing here", []),
    (None, []),
    (object(), []),
]


@pytest.mark.parametrize(("log", "values"), READABLE, ids=lambda one: repr(one)[:30])
def test_a_log_is_read_in_the_form_that_people_keep_it_in(log, values) -> None:
    assert [row.value for row in read_log(log)] == pytest.approx(values, nan_ok=True)


def test_rows_know_their_round_and_how_they_stood() -> None:
    first, second = read_log("round 3: test acc 0.040\nround 4: test acc 0.10")
    assert (first.round, first.printed, second.round, second.printed) == (3, "0.040", 4, "0.10")


@pytest.mark.parametrize("n", [50, 157, 2000])
@pytest.mark.parametrize("decimals", [4, 6, 17])
def test_the_size_of_the_evaluation_set_is_found_from_the_values(n: int, decimals: int) -> None:
    printed = [f"{value:.{decimals}f}" for value in counted(n)]
    assert examine_log([float(text) for text in printed], printed=printed).n == n


def test_three_decimals_show_a_size_of_fifty_beside_a_claim_of_ten_thousand() -> None:
    printed = [f"{value:.3f}" for value in counted(50)]
    assert examine_log([float(text) for text in printed], printed=printed, claimed=10_000).n == 50


@pytest.mark.parametrize("seed", range(25))
def test_values_of_the_whole_test_set_never_look_like_those_of_a_part(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n, rounds = int(draw.choice([500, 1797, 2000, 10_000])), int(draw.integers(2, 40))
    values = counted(n, seed, np.linspace(0.1, draw.uniform(0.15, 0.9), rounds))
    digits = int(draw.choice([2, 3, 4, 16]))
    log = examine_log([round(value, digits) for value in values], claimed=n, classes=10)
    assert log.n in (None, n)
    assert log.constant < 0.3
    assert not log.tails


def test_values_that_any_size_fits_name_none() -> None:
    assert quantum([0.81, 0.7, 0.65], 0.005) is None
    assert quantum([1.0, 0.0], 1e-9) is None


def test_means_of_hold_outs_of_different_sizes_have_no_size() -> None:
    draw = np.random.default_rng(0)
    assert examine_log(list(sum(draw.binomial(n, 0.6, 30) / n for n in (37, 53, 91)) / 3)).n is None


def test_fractions_percents_and_counts_are_told_apart() -> None:
    fractions = counted(2000)
    correct = [value * 2000 for value in fractions]
    batches = [value * 128 for value in counted(128 * 79)]
    assert examine_log(fractions).scale == "fraction"
    assert examine_log([round(100 * value, 2) for value in fractions]).scale == "percent"
    assert (examine_log(correct, claimed=2000).scale, examine_log(correct, claimed=2000).scale_max) == ("count", 2000)
    assert (examine_log(batches).scale, examine_log(batches).scale_max) == ("count", 128)
    early = examine_log(batches[:25], claimed=10_000)  # below 100, so percents but for the 79 batches
    assert early.scale == "count" and early.scale_max == pytest.approx(10_000 / 79)


def test_the_share_of_one_class_is_found_where_it_comes_again_and_again() -> None:
    draw = np.random.default_rng(0)
    usual = counted(10_000, 1, np.full(60, 0.12))
    values = [0.1 if draw.random() < 0.5 else value for value in usual]
    share = sum(value == 0.1 for value in values) / len(values)
    for known in ({}, {"classes": 10}, {"priors": [[0.1] * 10]}):
        assert examine_log(values, **known).constant == pytest.approx(share)
    assert examine_log([0.1] * 9).constant == 1.0
    assert examine_log([0.1] * 9).flat


def test_classes_of_single_class_hold_outs_are_found_without_being_told() -> None:
    draw = np.random.default_rng(0)
    shares = np.array([7, 9, 8, 14, 11, 10, 8, 11, 9, 13]) / 100
    values = [draw.choice(shares) if draw.random() < 0.5 else one for one in counted(5000, 1, np.full(100, 0.15))]
    assert examine_log(values).constant >= 0.45
    assert examine_log(values, priors=[shares]).constant >= 0.45
    assert examine_log(counted(5000), priors=[shares]).constant < 0.1


def test_digits_that_no_program_prints_are_counted_and_those_written_out_are_not() -> None:
    texts = ["67.474680266125326", "64.474680266125326", "24.76067862867729059"]
    log = examine_log([float(text) for text in texts], printed=texts)
    assert log.digits == 19
    assert log.tails
    written = [f"{value:.20f}" for value in counted(2001)]
    assert examine_log([float(text) for text in written], printed=written).digits <= 17
    assert not examine_log(counted(3)).tails  # thirds share their digits


def test_slope_and_noise_are_those_of_a_made_line() -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, 100)
    log = examine_log(list(0.3 + 0.004 * np.arange(100) + noise))
    assert log.rising is not None and log.rising_error is not None and log.noise is not None
    assert abs(log.rising - 0.004) < 4 * log.rising_error < 0.001
    assert 0.0004 < log.noise < 0.002
    still = examine_log(list(0.8 + noise))
    assert still.rising is not None and still.rising_error is not None
    assert abs(still.rising) < 4 * still.rising_error


def test_values_that_are_no_numbers_are_named_and_nothing_is_built_on_them() -> None:
    log = examine_log([0.1, 0.2, math.nan, math.inf])
    assert log.collapsed == (3, 4)
    assert (log.last, log.best) == (0.2, 0.2)
    assert examine_log([]).last is None
    assert examine_log([1.5, math.nan]).collapsed == (2,)


def test_a_log_that_says_everything_twice_is_seen() -> None:
    once = counted(2000)[:10]
    assert examine_log(once * 2).duplicated
    assert not examine_log(counted(2000)).duplicated


def test_two_even_counts_of_the_claimed_set_are_not_taken_for_counts_of_its_half() -> None:
    assert quantum([0.5012, 0.6134], 1e-15, 10_000) == 10_000
    assert quantum([0.5012, 0.6134], 1e-15) == 5000
