"""What a run's own record says of causes: nothing on a healthy run, the cause where it can be read off."""

import math

import pytest

from fedlens.diagnosis.passive import findings
from fedlens.runs import load_experiment

CLASSES, TESTED = 10, 1000


def experiment(*changes):
    return load_experiment("digits", changes)


def rows(accuracies, losses=None, **beside):
    losses = losses or [2.5 - 2 * accuracy for accuracy in accuracies]
    told = zip(accuracies, losses, strict=True)
    more = [{name: values[at] for name, values in beside.items()} for at in range(len(accuracies))]
    return [
        {"round": at, "accuracy": accuracy, "loss": loss, "recall": [accuracy] * CLASSES, "predicted_entropy": 0.9}
        | ({"clients": [1, 2, 3], "coherence": 0.2, "skipped": []} if at else {})
        | more[at]
        for at, (accuracy, loss) in enumerate(told)
    ]


def summary(of, parameters=1000, **references):
    mean = sum(row["accuracy"] for row in of[1:][-10:]) / len(of[1:][-10:])
    return {
        "test_size": TESTED,
        "classes": [str(one) for one in range(CLASSES)],
        "final": {"mean_last_ten": mean},
        "references": [{"name": name.replace("_", "-"), "mean_last_ten": value} for name, value in references.items()],
        "rounds_done": len(of) - 1,
        "metric": "accuracy on the test set",
        "cost": {"parameters": parameters},
    }


def rising(to, rounds=40):
    """From chance to `to`, settled long before the end."""
    return [to - (to - 0.1) * math.exp(-at / 4) for at in range(rounds + 1)]


def causes(of, *changes, **about):
    return [one.cause for one in findings(experiment(*changes), summary(of, **about), of)]


def test_a_healthy_run_is_told_nothing():
    assert causes(rows(rising(0.95)), centralised=0.97, iid=0.96) == []


@pytest.mark.parametrize("gap, told", ((0.02, []), (0.3, ["P1"])))
def test_heterogeneity_is_named_where_dealing_again_gains_more_than_chance(gap, told):
    assert causes(rows(rising(0.65)), centralised=0.97, iid=0.65 + gap) == told


def test_a_run_that_still_jumps_about_needs_a_larger_gap():
    steady = rising(0.65)
    jumping = [value + (-0.1 if at % 2 else 0.1) * (at > 20) for at, value in enumerate(steady)]
    assert causes(rows(steady), centralised=0.97, iid=0.77) == ["P1"]
    assert causes(rows(jumping), centralised=0.97, iid=0.77) == []


@pytest.mark.parametrize("loss, told", ((2.5, ["O1"]), (2.0, [])))
def test_a_loss_that_ends_where_it_began_at_chance_is_a_rate_too_small(loss, told):
    flat = [0.111 + 0.001 * (at % 3) for at in range(41)]
    moves = [2.52 + (loss - 2.52) * at / 40 for at in range(41)]
    assert causes(rows(flat, moves), centralised=0.11) == told


@pytest.mark.parametrize("noise, told", ((0.01, []), (2.0, ["V1"])))
def test_noise_is_named_where_it_drowns_what_the_bound_lets_through(noise, told):
    private = (f'privacy.mechanism={{kind="central", clip=1.0, noise={noise}}}', 'server.weights="uniform"')
    assert causes(rows(rising(0.3)), *private, parameters=10_000, centralised=0.97) == told


@pytest.mark.parametrize("gap, told", ((0.01, []), (0.4, ["N2"])))
def test_batch_norm_is_named_where_averaged_statistics_are_far_worse(gap, told):
    values = rising(0.5)
    of = rows(values, accuracy_batch_statistics=[value + gap for value in values])
    assert causes(of, 'model.norm="batch"', centralised=0.95) == told


def test_a_run_that_was_evaluated_once_is_told_nothing():
    of = [row if row["round"] in (0, 40) else {"round": row["round"], "clients": [0]} for row in rows(rising(0.9))]
    seen = [row for row in of if "accuracy" in row]
    assert [one.cause for one in findings(experiment(), summary(seen, centralised=0.95), of)] == []


def test_where_clients_keep_models_of_their_own_the_servers_gap_is_no_failure():
    of = rows(rising(0.65))
    assert causes(of, 'method="ditto"', "clients.holdout=0.2", centralised=0.97, iid=0.95) == []


def test_rounds_without_a_single_number_are_no_crash():
    of = rows([0.1] + [0.1] * 40, [2.3] + [None] * 40)
    assert causes(of, centralised=0.95) == []
