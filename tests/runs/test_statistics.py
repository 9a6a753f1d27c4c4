"""Batch norm's running statistics in a run, measured anew or held fixed, and the mean of the server's models."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from cli.invoke import fedlens, refused, sets, small
from safetensors.torch import load_file
from small import experiment

import fedlens as fl
from fedlens import Clients, Experiment, Local, Server
from fedlens.data import Dataset
from fedlens.engine import trainer
from fedlens.runs import execute, prepare
from fedlens.runs.loop import State, advance

RAGGED = Clients(count=6, cohort=3, partition={"kind": "quantity", "sigma": 1.0})
MEASURED = Server(statistics="recalibrate")


def job(**changes: object) -> Experiment:
    settings: dict[str, object] = {"clients": RAGGED, "engine": {"precision": "float64"}}
    return experiment(**{**settings, **changes})


def conv_outputs(job: Experiment, state: State, data: Dataset, rows: np.ndarray) -> torch.Tensor:
    """What the batch norm layer of conv_bn is given for `rows`, [4, N * H * W]."""
    module = state.load_into(fl.initial_model(job).double())
    chosen = torch.from_numpy(np.asarray(rows))
    with torch.no_grad():
        outputs = module.conv(data.normalise(data.images[chosen], torch.float64))
    return outputs.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("measured", [100, 3])  # examples in a batch whose moments are taken
def test_recalibrated_statistics_are_those_of_the_new_model_on_all_examples_of_the_cohort(measured, monkeypatch):
    monkeypatch.setattr(trainer, "MEASURED", measured)
    federation = prepare(job(server=MEASURED))
    for state in itertools.islice(advance(federation), 1, None):
        rows = np.concatenate([federation.deal.client(client) for client in state.row["clients"]])
        given = conv_outputs(federation.experiment, state, federation.split.train, rows)
        found = state.tree.state_dict()
        assert torch.allclose(found["norm.running_mean"], given.mean(1), rtol=1e-12)
        assert torch.allclose(found["norm.running_var"], given.var(1, unbiased=False), rtol=1e-10)


def test_the_variance_between_clients_counts():
    """One class a client: the pooled variance is above the mean of the clients' own, which averaging gives."""
    skewed = Clients(count=3, cohort=3, partition="shards:1")
    federation = prepare(job(server=MEASURED, clients=skewed, rounds=1))
    _, state = advance(federation)
    within = [
        conv_outputs(federation.experiment, state, federation.split.train, federation.deal.client(i)).var(1).mean()
        for i in range(3)
    ]
    assert state.tree.state_dict()["norm.running_var"].mean() > 1.2 * sum(within) / 3


def test_parameters_are_trained_as_without_recalibration():
    """In training mode a layer normalises by its batch, whatever its running statistics are."""
    plain, measured = (list(fl.stream(job(server=server)))[-1].tree for server in (Server(), MEASURED))
    assert torch.equal(plain.vector[:171], measured.vector[:171])
    assert not torch.allclose(plain.vector[171:], measured.vector[171:], rtol=1e-3)


def test_a_client_that_was_left_out_is_not_measured():
    """Client 2's images are so bright that its training overflows, and so would any statistics of them."""
    federation = prepare(job(server=MEASURED, clients=dataclasses.replace(RAGGED, cohort=6, on_failure="skip")))
    train = federation.split.train
    images = train.normalise(train.images, torch.float64).clone()
    images[torch.from_numpy(federation.deal.client(2))] *= 1e200
    poisoned = dataclasses.replace(train, images=images, mean=(), std=())
    trainer = dataclasses.replace(federation.engine.trainer, data=poisoned)
    engine = dataclasses.replace(federation.engine, trainer=trainer)
    for state in itertools.islice(advance(dataclasses.replace(federation, engine=engine)), 1, None):
        assert [entry["client"] for entry in state.row["skipped"]] == [2]
        rows = np.concatenate([federation.deal.client(client) for client in (0, 1, 3, 4, 5)])
        given = conv_outputs(federation.experiment, state, train, rows)
        assert torch.allclose(state.tree.state_dict()["norm.running_var"], given.var(1, unbiased=False), rtol=1e-6)


def test_frozen_statistics_keep_their_bits_and_parameters_go_on():
    states = list(fl.stream(job(local=Local(batch=4, freeze_statistics_from=0.5), rounds=6)))
    for before, after in itertools.pairwise(states):
        frozen = after.round > 3
        assert torch.equal(before.tree.vector[171:], after.tree.vector[171:]) == frozen
        counted = [state.tree.integers["norm.num_batches_tracked"].item() for state in (before, after)]
        assert (counted[0] == counted[1]) == frozen
        assert not torch.equal(before.tree.vector[:171], after.tree.vector[:171])


def test_frozen_from_the_start_they_are_those_of_the_untrained_model():
    last = list(fl.stream(job(local=Local(batch=4, freeze_statistics_from=0.0))))[-1].tree.state_dict()
    assert torch.equal(last["norm.running_mean"], torch.zeros(4, dtype=torch.float64))
    assert torch.equal(last["norm.running_var"], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "where"),
    [("server.statistics=recalibrate", "server.statistics"), ("local.freeze_statistics_from=0.5", "local.freeze_stat")],
)
def test_without_running_statistics_both_are_refused(change, where):
    words = ["run", small(), *sets("model.name=mlp", change)]
    refused(fedlens(*words), f"{where}", "the model has no running statistics", 'Set model.norm = "batch"')


@pytest.mark.parametrize(("every", "rounds"), [(1, [4, 5, 6]), (2, [4, 6])])
def test_the_averaged_model_is_the_mean_of_the_models_and_is_never_sent_out(every, rounds):
    averaging = Server(average_from=0.5, average_every=every)
    states, plain = (list(fl.stream(job(server=server, rounds=6))) for server in (averaging, Server()))
    assert all(torch.equal(one.tree.vector, other.tree.vector) for one, other in zip(states, plain, strict=True))
    for state in states:
        seen = [states[number].tree.vector for number in rounds if number <= state.round]
        assert state.averaged == len(seen) and (state.average is None) == (not seen)
        assert ("accuracy_averaged" in state.row) == bool(seen)
        if seen:
            assert torch.allclose(state.average, torch.stack(seen).mean(0), rtol=1e-12)
    # The mean is evaluated as any model: its accuracy is that of a plain evaluation of the averaged vector.
    federation = prepare(job(server=averaging, rounds=6))
    module = fl.initial_model(federation.experiment).double()
    module.load_state_dict({**states[-1].tree.with_(states[-1].average).state_dict()})
    test = federation.split.test
    with torch.no_grad():
        right = module.eval()(test.normalise(test.images, torch.float64)).argmax(1) == test.labels
    assert states[-1].row["accuracy_averaged"] == pytest.approx(right.double().mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"server": Server(average_from=0.25)},
        {"server": MEASURED},
        {"local": Local(batch=4, freeze_statistics_from=0.5)},
    ],
    ids=["average", "recalibrate", "frozen"],
)
def test_a_stopped_run_resumes_to_the_same_bytes(changes):
    def stop(title, state, rounds):
        if state.round == 3:
            raise KeyboardInterrupt

    whole = execute(job(**changes, rounds=5), out="whole")
    with pytest.raises(KeyboardInterrupt):
        execute(job(**changes, rounds=5), out="stopped", progress=stop)
    done = execute(out="stopped", resume=True)
    for file in ("rounds.jsonl", "model.safetensors"):
        assert (done / file).read_bytes() == (whole / file).read_bytes()
    one, other = (load_file(next(run.glob("checkpoints/*/state.safetensors"))) for run in (done, whole))
    assert one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
    assert ("average" in one) == (changes.get("server", MEASURED).average_from is not None)
