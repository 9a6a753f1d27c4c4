"""Private mechanisms in a run: what they change, what they leave alone, and what they are refused with.

In float64 and without dropout, so that equal means equal. The mlp has no running statistics.
"""

import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file
from small import experiment

import fedlens as fl
from fedlens import Clients, ConfigurationError, Experiment, Local, Network
from fedlens.engine.sequential import CLIP
from fedlens.methods import METHODS
from fedlens.runs import execute, prepare
from fedlens.runs.loop import State

HUGE = 1e12


def job(mechanism: object = None, **changes: object) -> Experiment:
    """Six clients of ragged sizes, all of them in every round, weighed uniformly."""
    settings: dict[str, object] = {
        "model": fl.Model("mlp"),
        "clients": Clients(count=6, cohort=6, partition={"kind": "quantity", "sigma": 1.0}),
        "local": Local(batch=5, lr=0.05),
        "server": {"weights": "uniform"},
        "engine": {"precision": "float64"},
        "privacy": {} if mechanism is None else {"mechanism": mechanism},
        "rounds": 3,
    }
    return experiment(**{**settings, **changes})


def central(noise: float = 0.0, clip: float = HUGE) -> dict[str, object]:
    return {"kind": "central", "noise": noise, "clip": clip}


def adaptive(**changes: object) -> dict[str, object]:
    return {"kind": "central-adaptive", "noise": 0.0, "clip": 1.0, **changes}


def states(job: Experiment) -> list[State]:
    return list(fl.stream(job))


def relative(one: State, other: State) -> float:
    return ((one.tree.vector - other.tree.vector).norm() / other.tree.vector.norm()).item()


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "scaffold", "fedadam"])
def test_without_noise_and_under_a_huge_clip_it_is_uniform_averaging(method):
    plain, private = states(job(method=method)), states(job(central(), method=method))
    assert all(relative(one, other) <= 1e-12 for one, other in zip(private, plain, strict=True))
    assert relative(plain[-1], plain[0]) > 1e-3


def test_a_clip_bounds_the_step_and_noise_moves_it_by_its_deviation():
    start, first = (state.tree.vector for state in states(job(central(clip=1e-3), rounds=1)))
    assert 0 < (first - start).norm() <= 1e-3
    noisy = states(job(central(noise=2.0, clip=1e-3), rounds=1))[1].tree.vector
    # Noise of deviation 2 * 1e-3 / 6 in each of T = 39,203 coordinates: its mean square is within five of its own
    # deviations, sqrt(2 / T).
    found = (noisy - first).square().mean().item() / (2e-3 / 6) ** 2
    assert len(noisy) == 39_203 and abs(found - 1) < 5 * math.sqrt(2 / 39_203)


def test_the_noise_repeats_with_the_seed_and_is_another_in_every_round():
    one, two, other = (states(job(central(noise=1.0, clip=1.0), seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a.tree.vector, b.tree.vector) for a, b in zip(one, two, strict=True))
    assert relative(one[-1], other[-1]) > 0.1
    quiet = states(job(central(noise=0.0, clip=1.0)))
    steps = [(n.tree.vector - q.tree.vector) for n, q in zip(one, quiet, strict=True)]
    assert not torch.allclose(steps[2] - steps[1], steps[1])


def test_the_clip_follows_the_quantile_by_hand_and_resumes():
    # All clients within a huge bound: it shrinks by exp(-0.2 (1 - 0.5)) a round. None within a tiny one: it grows so.
    for first, sign in ((HUGE, -1), (1e-9, 1)):
        bounds = [state.server[CLIP].item() for state in states(job(adaptive(clip=first)))]
        assert bounds == pytest.approx([first * math.exp(sign * 0.1 * t) for t in range(4)], rel=1e-12)

    def stop(title, state, rounds):
        if state.round == 2:
            raise KeyboardInterrupt

    noisy = job(adaptive(noise=0.2), rounds=4)  # m / 20 = 0.3 is above half of it
    whole = execute(noisy, out="whole")
    with pytest.raises(KeyboardInterrupt):
        execute(noisy, out="stopped", progress=stop)
    done = execute(out="stopped", resume=True)
    for file in ("rounds.jsonl", "model.safetensors"):
        assert (done / file).read_bytes() == (whole / file).read_bytes()
    last = states(noisy)[-1].server[CLIP].item()
    assert last != 1.0
    (path,) = done.glob("checkpoints/*/state.safetensors")
    assert load_file(path)[f"server/{CLIP}"].item() == last


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"server": {"weights": "examples"}}, 'set server.weights = "uniform"'),
        ({"server": {"weights": "uniform", "reduce": "median"}}, 'server.reduce = "mean"'),
        ({"method": "fednova"}, "fednova also sends a number of another size"),
        ({"method": "fedexp"}, "fedexp also sends a number of another size"),
    ],
)
@pytest.mark.parametrize("mechanism", [central(), adaptive(), {"kind": "local-laplace", "epsilon": 1.0, "clip": 1.0}])
def test_what_a_mechanism_does_not_bound_is_refused(mechanism, changes, said):
    with pytest.raises(ConfigurationError) as error:
        job(mechanism, **changes)
    assert said in str(error.value) and mechanism["kind"] in str(error.value)


def test_running_statistics_would_leave_outside_of_the_bound():
    for mechanism in (central(), {"kind": "local-laplace", "epsilon": 1.0, "clip": 1.0}):
        with pytest.raises(ConfigurationError, match="running statistics would leave the clients") as error:
            prepare(job(mechanism, model=fl.Model("small:conv_bn")))
        assert 'model.norm = "group"' in str(error.value)
    with pytest.raises(ConfigurationError, match="layer 'norm' is BatchNorm2d"):
        prepare(job(privacy={"per_example": {"clip": 1.0, "noise": 0.0}}, model=fl.Model("small:conv_bn")))


def test_a_count_that_takes_more_than_the_noise_has_is_refused():
    with pytest.raises(ConfigurationError, match="counting the clients within the bound"):
        job(adaptive(noise=1.0))  # m / 20 = 0.3 is not above 1 / 2


def per_example(clip: float, noise: float = 0.0, **changes: object) -> Experiment:
    """Ten examples a client in batches of five: no batch is shorter than the size that its sum is divided by."""
    privacy = {"per_example": {"clip": clip, "noise": noise}}
    return job(privacy=privacy, clients=Clients(count=6, cohort=6), **changes)


def test_per_example_without_noise_and_under_a_huge_clip_is_plain_training():
    plain, private = states(job(clients=Clients(count=6, cohort=6))), states(per_example(HUGE))
    assert all(relative(one, other) <= 1e-10 for one, other in zip(private, plain, strict=True))
    assert private[-1].row["loss_last"] == pytest.approx(plain[-1].row["loss_last"], rel=1e-10)
    assert private[-1].row["steps"] == plain[-1].row["steps"] == 12


def test_per_example_bounds_every_step_and_its_noise_repeats_with_the_seed():
    # Two steps of rate 0.05 with gradients of norm at most 1e-3.
    record = states(per_example(1e-3, rounds=1))[1].records[0]
    assert 0 < record.update_norm <= 2 * 0.05 * 1e-3
    one, two, other = (states(per_example(1e-3, noise=1.0, seed=seed))[-1] for seed in (0, 0, 1))
    assert torch.equal(one.tree.vector, two.tree.vector) and not torch.equal(one.tree.vector, other.tree.vector)
    # Noise of 1e-3 / 5 in 39,203 coordinates, twice at rate 0.05: sqrt(2 * 39,203) * 0.05 * 2e-4 = 2.8e-3.
    noisy = states(per_example(1e-3, noise=1.0, rounds=1))[1].records
    assert all(record.update_norm == pytest.approx(2.8e-3, rel=0.05) for record in noisy)


def test_per_example_refuses_a_loss_that_looks_at_other_examples():
    with pytest.raises(ConfigurationError, match="fedlc looks at the client's other examples"):
        per_example(1.0, method="fedlc")


def test_local_laplace_noises_every_client_by_itself():
    plain = states(job())
    quiet, loud = (states(job({"kind": "local-laplace", "epsilon": e, "clip": 1e3})) for e in (1e15, 1.0))
    assert relative(quiet[-1], plain[-1]) < 1e-6
    # Laplace of scale b = 2000 in 39,203 coordinates: a mean square of 2 b^2, for each client before any averaging.
    for record in loud[1].records:
        assert record.update_norm == pytest.approx(math.sqrt(2 * 39_203) * 2000, rel=0.05)
    again = states(job({"kind": "local-laplace", "epsilon": 1.0, "clip": 1e3}))
    assert torch.equal(loud[-1].tree.vector, again[-1].tree.vector)


def fails_at(steps: int) -> object:
    """FedAvg, whose clients of so many steps send what is no number."""
    plain = METHODS["fedavg"]()

    def finish(weights, client):
        upload, memory = plain.finish(weights, client)
        return ({"update": upload["update"] * math.nan} if client.reach == steps else upload), memory

    return dataclasses.replace(plain, finish=finish)


@pytest.mark.parametrize("how", ["dropout", "skip"])
def test_the_divisor_stays_the_cohort_that_was_wanted(how):
    """Without noise the step of a clients that answered is a / m of their mean: who answered must not show."""
    if how == "dropout":
        changes = {"network": Network(dropout=0.4)}
    else:
        clients = Clients(count=6, cohort=6, partition={"kind": "quantity", "sigma": 1.0}, on_failure="skip")
        changes = {"clients": clients, "method": fails_at(3)}  # of 13 and 14 examples, and of 12
    start, private = (state.tree.vector for state in states(job(central(), rounds=1, **changes)))
    plain = states(job(rounds=1, **changes))[1]
    answered = len(plain.records)
    assert 0 < answered < 6
    assert torch.allclose(private - start, answered / 6 * (plain.tree.vector - start), rtol=1e-9, atol=1e-14)


def test_a_client_that_fails_moves_no_bound():
    # b_i - 1/2 is 0 for who does not answer: of six clients four are within, so the share is 1/2 + (4 - 2) / 6.
    clients = Clients(count=6, cohort=6, partition={"kind": "quantity", "sigma": 1.0}, on_failure="skip")
    last = states(job(adaptive(clip=HUGE), rounds=1, clients=clients, method=fails_at(3)))[1]
    answered = len(last.records)
    expected = HUGE * math.exp(-0.2 * (0.5 + answered / 2 / 6 - 0.5))
    assert last.server[CLIP].item() == pytest.approx(expected, rel=1e-12) and answered == 3
