"""Models of clients' own in a run: what is required, measured and under which name, what is kept and resumed."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.invoke import fedlens, module, refused, sets, small
from small import experiment

import fedlens as fl
from fedlens import Clients, ConfigurationError, Experiment, References
from fedlens.local.evaluate import in_batches
from fedlens.runs import execute, prepare
from fedlens.runs.loop import advance

KEPT = ("fedbn", "fedper", "fedrep", "lg-fedavg")  # the server has no whole model
HELD = Clients(count=6, cohort=3, partition="shards:1", holdout=0.2)


def job(method: object, **changes: object) -> Experiment:
    return experiment(**{"method": method, "clients": HELD, **changes})


@pytest.mark.parametrize("method", [*KEPT, "fedbabu", "ditto"])
def test_a_hold_out_is_required(method):
    with pytest.raises(ConfigurationError, match=f"{method} gives each client a model of its own") as error:
        experiment(method=method)
    assert "clients.holdout" in str(error.value)
    refused(fedlens("run", small(), *sets(f'method.name="{method}"')), "set clients.holdout, for example 0.2")


@pytest.mark.parametrize("method", KEPT)
def test_without_a_whole_model_there_is_personal_accuracy_and_no_accuracy(method):
    for state in fl.stream(job(method)):
        assert "accuracy" not in state.row and "accuracy_batch_statistics" not in state.row
        assert state.accuracy == state.row["personal_accuracy"]


def test_with_one_there_are_both():
    for state in fl.stream(job("ditto")):
        assert {"accuracy", "holdout_accuracy", "personal_accuracy"} <= state.row.keys()
        assert state.accuracy == state.row["accuracy"]


@pytest.mark.parametrize("method", ["fedper", "ditto"])
def test_personal_accuracy_is_the_mean_over_clients_of_their_own_models_on_their_own_hold_outs(method):
    federation = prepare(job(method))
    last = list(advance(federation))[-1]
    trainer, data, accuracies = federation.engine.trainer, federation.split.train, []
    for client in range(6):
        bound, kept = trainer.bound, last.memory.get(client, {})
        bound.load(last.tree)
        views = bound.layout.views(bound.vector)
        if method == "ditto" and kept:
            bound.vector.copy_(kept["own"])
        elif kept:  # the mask goes by the layout, in which the head's bias lies before or behind its weights
            places = [slot for slot in bound.layout.slots if slot.name.startswith("head.")]
            own = iter(kept["kept"].split([slot.size for slot in places]))
            for slot in places:
                views[slot.name].copy_(next(own).view(slot.shape))
        bound.module.eval()
        held = federation.held.client(client)
        with torch.inference_mode():
            right = [(bound.module(x).argmax(1) == y).double() for x, y in in_batches(data, torch.float32, held)]
        accuracies.append(torch.cat(right).mean().item())
    assert last.row["personal_accuracy"] == pytest.approx(np.mean(accuracies), rel=1e-12)
    assert last.row["personal_worst_decile"] == min(accuracies)


def test_under_label_skew_an_own_head_serves_a_client_better():
    # A client holds one class: with a head of its own it need not tell it from others.
    own = list(fl.stream(job("fedper", rounds=12, evaluate_every=12)))[-1].row
    shared = list(fl.stream(job("fedavg", rounds=12, evaluate_every=12)))[-1].row
    assert own["personal_accuracy"] > shared["holdout_accuracy"] + 0.05


def test_babus_heads_are_tuned_at_the_last_round_only():
    states = list(fl.stream(job({"name": "fedbabu", "tune_epochs": 20})))
    assert all("personal_accuracy" not in state.row and "accuracy" in state.row for state in states[:-1])
    last = states[-1].row
    assert {"accuracy", "holdout_accuracy", "personal_accuracy", "personal_worst_decile"} <= last.keys()
    assert last["personal_accuracy"] > last["holdout_accuracy"]
    # The head that the server evaluates with is the random one of the beginning.
    heads = [state.tree.state_dict()["head.weight"] for state in states]
    assert all(torch.equal(head, heads[0]) for head in heads)


def test_two_metrics_never_share_a_table():
    for method in ("fedavg", "fedper", "ditto"):
        execute(job(method, name=method), out=method)
    answer = fedlens("compare", "fedavg", "fedper", "ditto")
    assert answer.code == 0, answer.err
    test = "accuracy on the test set that small:split returned (30 examples)"
    own = "personal accuracy, each client's own model on its own hold-out"
    lines = [line.strip() for line in answer.out.splitlines()]
    of_test, of_own = lines.index(test), lines.index(own)
    heads = [number for number, line in enumerate(lines) if line.startswith("run ")]
    assert heads == [of_test + 1, of_own + 1]
    rows = {line.split()[0]: number for number, line in enumerate(lines) if line.split()[:1] and "done" in line}
    assert of_test < rows["fedavg"] < rows["ditto"] < of_own < rows["fedper"]
    assert "Accuracies of different metrics must not be compared." in " ".join(answer.out.split())
    summary = json.loads(Path("fedper/summary.json").read_text())
    assert summary["metric"] == own
    assert fedlens("compare", "fedavg", "ditto").out.count(test) == 0  # one metric needs no heading


@pytest.mark.parametrize("method", [*KEPT, "fedbabu", "ditto"])
def test_what_clients_keep_resumes_to_the_same_bytes(method):
    def stop(title, state, rounds):
        if state.round == 2:
            raise KeyboardInterrupt

    whole = execute(job(method), out="whole")
    with pytest.raises(KeyboardInterrupt):
        execute(job(method), out="stopped", progress=stop)
    done = execute(out="stopped", resume=True)
    for file in ("rounds.jsonl", "model.safetensors"):
        assert (done / file).read_bytes() == (whole / file).read_bytes()
    assert fl.Run(done).accuracy[-1] > 0


def test_what_clients_keep_survives_visits_of_others_and_what_they_send_does_not():
    states = list(fl.stream(job("fedper", rounds=6)))
    for before, after in itertools.pairwise(states[1:]):
        for client in set(before.memory) - set(after.row["clients"]):
            assert torch.equal(before.memory[client]["kept"], after.memory[client]["kept"])
        for client in set(before.memory) & set(after.row["clients"]):
            assert not torch.equal(before.memory[client]["kept"], after.memory[client]["kept"])
    own = [kept["kept"] for kept in states[-1].memory.values()]
    assert all(vector.numel() == 16 * 3 + 3 for vector in own) and not torch.equal(own[0], own[1])


OTHER = """
def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, classes))
"""


@pytest.mark.parametrize("method", ["fedper", "fedrep", "fedbabu", "lg-fedavg"])
def test_a_model_without_a_head_is_refused_with_its_layers_and_a_way_out(method):
    module("headless", OTHER)
    words = ["run", small(), *sets('model.name="headless:net"', f'method.name="{method}"', "clients.holdout=0.2")]
    refused(fedlens(*words), f"{method} finds no part of the model to", "layers 1, 3", "method.head")
    answer = fedlens(*words, *sets('method.head="3"'), "--out", "r")
    assert answer.code == 0, answer.err
    assert fl.Run("r").metrics["personal_accuracy"][-1] > 0


def test_references_of_a_run_without_a_whole_model_are_measured_on_the_hold_outs():
    execute(job("fedper", references=References(centralised=True, local_only=2)), out="r")
    summary = json.loads(Path("r/summary.json").read_text())
    by_name = {reference["name"]: reference for reference in summary["references"]}
    assert set(by_name) == {"centralised", "local-only"}
    lines = Path("r/references/centralised/rounds.jsonl").read_text().splitlines()
    assert by_name["centralised"]["last"] == json.loads(lines[-1])["holdout_accuracy"]
