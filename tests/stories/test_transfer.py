"""One run's model is where the next one starts: continued as it is, or with frozen layers and a new head."""

import json
from pathlib import Path

import pytest
import torch
from cli.invoke import fedlens, module, refused, sets, small
from safetensors.torch import load_file
from small import experiment

import fedlens as fl
from fedlens.runs import as_toml
from fedlens.tree import Tree

TWO = """
from small import split
from fedlens import Dataset

def get():
    def part(data):
        kept = data.labels < 2
        return Dataset(data.images[kept], data.labels[kept], ("a", "b"), data.mean, data.std)
    return tuple(part(data) for data in split())
"""


@pytest.fixture
def base() -> fl.Run:
    """Two rounds in base/."""
    return fl.run(experiment(rounds=2), out="base")


def start(name: str = "base/model.safetensors", **settings: object) -> fl.Model:
    return fl.Model("small:conv_bn", start=name, **settings)


def test_a_finished_run_leaves_its_model_by_name(base):
    saved, model = load_file("base/model.safetensors"), base.model().state_dict()
    assert saved.keys() == model.keys()
    assert all(torch.equal(saved[name], model[name]) for name in model)
    assert saved["norm.num_batches_tracked"] > 0 and saved["norm.running_mean"].abs().sum() > 0
    module = fl.initial_model(base.experiment)
    module.load_state_dict(saved)  # strict: a plain state dict


def test_a_continuation_begins_where_the_run_ended(base):
    state = next(fl.stream(experiment(seed=5, model=start())))
    assert state.accuracy == base.accuracy[-1]
    assert state.row["loss"] == base.metrics["loss"][-1]
    again = Tree.of(fl.initial_model(experiment(model=start())))
    saved = load_file("base/model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in again.state_dict().items())


def test_a_frozen_layer_stays_bit_by_bit_while_a_new_head_learns_other_classes(base):
    module("two", TWO)
    job = experiment(
        data=fl.Data("two:get"),
        model=start(fresh=("head.*",), freeze=("conv.*",)),
        local=fl.Local(batch=4, lr=0.05, momentum=0.9, weight_decay=0.1),  # neither may reach what is frozen
        references=fl.References(centralised=True),
    )
    Path("job.toml").write_text(as_toml(job))
    assert fl.load_experiment("job.toml") == job
    fl.run(job, out="next")
    before, after = load_file("base/model.safetensors"), load_file("next/model.safetensors")
    assert before.keys() == after.keys()
    same = {
        name for name in before if before[name].shape == after[name].shape and torch.equal(before[name], after[name])
    }
    assert same == {"conv.weight", "conv.bias"}
    assert after["head.weight"].shape == (2, 16) and before["head.weight"].shape == (3, 16)
    assert json.loads(Path("next/summary.json").read_text())["references"][0]["name"] == "centralised"


def test_a_run_that_started_from_the_latest_goes_on_from_the_same_model():
    first = fl.run(experiment(rounds=2)).path
    job = experiment(rounds=3, model=start("runs/latest/model.safetensors", freeze=("conv.*",)))
    whole = fl.run(job, out="elsewhere/whole")

    def stop(title, state, rounds):
        if state.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fl.run(job, out="runs/second", progress=stop)
    assert Path("runs/latest").resolve().name == "second" and not Path("runs/second/model.safetensors").exists()
    model = fl.load_experiment("runs/second/experiment.toml").model
    assert (model.start, model.freeze) == (f"{first}/model.safetensors", ("conv.*",))
    done = fl.run(resume=True)
    for file in ("model.safetensors", "rounds.jsonl"):
        assert (done.path / file).read_bytes() == (whole.path / file).read_bytes()
    assert fl.run(resume=True).path == done.path  # it is done: summed up again, from the same start


def test_a_bad_start_is_refused_before_anything_is_done(base):
    changed = Path("base/model.safetensors").read_bytes()[:-100]
    Path("torn.safetensors").write_bytes(changed)
    refused(fedlens("run", small(), *sets("model.start=torn.safetensors")), "model.start: not a whole safetensors file")
    refused(fedlens("run", small(), *sets("model.start=base")), "Did you mean 'base/model.safetensors'?")
    refused(fedlens("run", small(), *sets("model.start=bsae/model.safetensors")), "there is no such file", "bsae/model")
    module("two_again", TWO)
    other = sets('data.source="two_again:get"', "model.start=base/model.safetensors")
    refused(fedlens("run", small(), *other), "head.weight: [3, 16], in the model [2, 16]", 'model.fresh: "head.*"')
    refused(fedlens("run", small(), *other, *sets("model.fresh=hed.*")), "model.fresh: 'hed.*'", "mean 'head.*'?")
    refused(fedlens("run", small(), *sets("model.freeze=*")), "model.freeze: nothing is left to train")
    refused(fedlens("run", small(), *sets("model.fresh=head.*")), "model.fresh: fresh has no effect without start")
    refused(fedlens("run", small(), *sets("model.freeze=[1]")), "model.freeze", "valid string")
    checkpoint = next(Path("base/checkpoints").glob("*/state.safetensors"))
    refused(fedlens("run", small(), *sets(f"model.start={checkpoint}")), "nothing can be taken", "model.safetensors of")
