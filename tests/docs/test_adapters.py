"""Adapters of docs/adapters.md: each stands on its page, is short, and lets the doctor see a fault that was put in."""

import dataclasses
import pickle
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from test_pages import DOCS, blocks

from fedlens.diagnosis.examination import Examination, begun
from fedlens.diagnosis.finding import Certainty
from fedlens.diagnosis.stages import first_rounds, further_rounds, without_training
from fedlens.diagnosis.subject.target import subject_of

ADAPTERS = ("plain_loop", "flower_client", "published_folder")
DATA = """
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def load_data(seed=0):
    centres = 2 * torch.randn(4, 8)
    def part(n):
        labels = torch.randint(4, (n,))
        return centres[labels] + torch.randn(n, 8), labels
    return [part(20 + 4 * client) for client in range(8)], part(200)
"""
TRAINING = """
def train_client(received, part):
    model = build()
    model.load_state_dict(received)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for rows in torch.randperm(len(part[1])).split(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(part[0][rows]), part[1][rows]).backward()
        optimizer.step()
    return model.state_dict()


def average(states, sizes):
    return {name: sum(state[name] * n for state, n in zip(states, sizes)) / sum(sizes) for name in states[0]}


def accuracy(state, test):
    model = build()
    model.load_state_dict(state)
    return (model(test[0]).argmax(dim=1) == test[1]).float().mean().item()
"""
APP = """
import training
from flwr.server.strategy import FedAvg


class Strategy(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        return super().aggregate_fit(server_round, results, failures)


def strategy():
    return Strategy()


class NumPyClient:  # as a user's own, without the base class, which adds nothing that is called here
    def __init__(self, part):
        self.part = part

    def fit(self, parameters, config):
        state = training.train_client(named(parameters), self.part)
        return [value.numpy() for value in state.values()], len(self.part[1]), {"round": config["server_round"]}


def named(arrays):
    return {name: torch.from_numpy(array) for name, array in zip(build().state_dict(), arrays)}


def client(part):
    return NumPyClient(part)


def accuracy(arrays, test):
    return training.accuracy(named(arrays), test)
"""
UTILS = """
import copy

import torch


def weighted_average_weights(w, user_groups, idxs_users):
    n = [len(user_groups[idx]) for idx in idxs_users]
    mean = copy.deepcopy(w[0])
    for key in mean:
        mean[key] = sum(state[key] * size for state, size in zip(w, n)) / sum(n)
    return mean


def get_dataset(args, unbalanced):
    centres = 2 * torch.randn(4, 8)
    labels = torch.randint(4, (1000,))
    inputs = centres[labels] + torch.randn(1000, 8)
    rows = list(zip(inputs, labels))
    groups, start = {}, 0
    for client in range(args.num_users):
        groups[client] = range(start, start + 20 + 2 * client)
        start += 20 + 2 * client
    return rows[:800], torch.utils.data.TensorDataset(inputs[800:], labels[800:]), groups
"""
UPDATE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset


class LocalUpdate:
    def __init__(self, args, dataset, idxs, logger):
        self.args, self.criterion = args, nn.CrossEntropyLoss()
        self.trainloader, self.testloader = self.train_test(dataset, list(idxs))

    def train_test(self, dataset, idxs):
        cut = int(0.9 * len(idxs))
        train = DataLoader(Subset(dataset, idxs[:cut]), batch_size=self.args.local_bs, shuffle=True)
        return train, DataLoader(Subset(dataset, idxs[cut:]), batch_size=self.args.local_bs)

    def update_weights(self, model, global_round):
        optimizer = torch.optim.Adam(model.parameters(), lr=self.args.lr, weight_decay=self.args.wd)
        for images, labels in self.trainloader:
            optimizer.zero_grad()
            loss = self.criterion(model(images), labels)
            loss.backward()
            optimizer.step()
        return model.state_dict(), loss.item()

    def inference(self, model):
        right = [(model(images).argmax(dim=1) == labels).float().mean().item() for images, labels in self.testloader]
        return sum(right) / len(right), 0.0
"""
PARTS = {
    "plain_loop": {"training.py": DATA + TRAINING},
    "flower_client": {"training.py": DATA + TRAINING, "app.py": DATA + APP},
    "published_folder": {
        "utils.py": UTILS,
        "update.py": UPDATE,
        "modelRN50.py": DATA + "\n\ndef ResNet50(norm):\n    return build()\n",
    },
}
FAULTS = {  # what is changed in which file, and the cause that it is
    "plain_loop": ("training.py", "    model.load_state_dict(received)\n    optimizer", "    optimizer", "B1"),
    "flower_client": (
        "app.py",
        "server_round, results, failures)\n\n",
        "server_round, results[-1:], failures)\n\n",
        "A1",
    ),
    "published_folder": (
        "utils.py",
        "        mean[key] = sum(state[key] * size for state, size in zip(w, n)) / sum(n)\n",
        "        for i in range(1, len(w)):\n            mean[key] += torch.mul(w[i][key], n[i] / sum(n)).long()\n",
        "A1",
    ),
}


@dataclasses.dataclass
class Parameters:
    """As flwr.common's: arrays as bytes."""

    tensors: list[bytes]
    tensor_type: str


@dataclasses.dataclass
class FitRes:
    """As flwr.common's."""

    status: Any
    parameters: Parameters
    num_examples: int
    metrics: dict[str, Any]


class FedAvg:
    """The part of flwr.server.strategy.FedAvg that is called: the mean weighted by examples."""

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> tuple[Any, dict[str, Any]]:
        total = sum(told.num_examples for _, told in results)
        parts = [[array * told.num_examples for array in unpack(told.parameters)] for _, told in results]
        return pack([sum(arrays) / total for arrays in zip(*parts, strict=True)]), {}


def pack(arrays: list[Any]) -> Parameters:
    assert all(isinstance(array, np.ndarray) for array in arrays)
    return Parameters([pickle.dumps(array) for array in arrays], "numpy.ndarray")


def unpack(parameters: Parameters) -> list[Any]:
    return [pickle.loads(one) for one in parameters.tensors]


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules and search path of the made-up folders do not outlive a test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        at = getattr(sys.modules[name], "__file__", None) or ""
        if Path(at).parent == Path.cwd():
            del sys.modules[name]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an app and the adapter import of Flower, where it is not installed."""
    common: Any = ModuleType("flwr.common")
    common.Code, common.Status = type("Code", (), {"OK": 0}), lambda code, message: (code, message)
    common.FitRes, common.ndarrays_to_parameters, common.parameters_to_ndarrays = FitRes, pack, unpack
    strategy: Any = ModuleType("flwr.server.strategy")
    strategy.FedAvg = FedAvg
    for name in ("flwr", "flwr.server"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "flwr.common", common)
    monkeypatch.setitem(sys.modules, "flwr.server.strategy", strategy)


def beside(name: str, fault: bool = False) -> str:
    """The adapter `name` in the current folder beside the user's files; what `fedlens diagnose` is given."""
    file, right, wrong, _ = FAULTS[name]
    for part, text in PARTS[name].items():
        if fault and part == file:
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        Path(part).write_text(text)
    shutil.copy(DOCS / "adapters" / f"{name}.py", f"{name}.py")
    return f"{Path.cwd() / name}.py:make_job"


def examined(target: str) -> Examination:
    """All of the examination but what trains anew; 8 rounds."""
    x = begun(subject_of(target), lambda stage: None)
    first_rounds(x)
    without_training(x)
    further_rounds(x)
    assert not x.evidence.unexamined
    return x


def named(x: Examination) -> set[str]:
    return {one.cause for one in x.findings() if one.certainty is not Certainty.NOTED}


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_page_shows_the_file_of_at_most_40_lines(name: str) -> None:
    text = (DOCS / "adapters" / f"{name}.py").read_text()
    assert text.count("\n") <= 40
    assert text in [block.text for block in blocks(DOCS / "adapters.md")]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_sound_job_behind_an_adapter_learns_and_nothing_exact_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    x = examined(beside(name))
    assert not named(x)
    assert x.curve[-1] > x.curve[0] and x.curve[-1] > 0.5


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_fault_behind_an_adapter_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    [found] = [one for one in examined(beside(name, fault=True)).findings() if one.cause == FAULTS[name][3]]
    assert found.certainty is Certainty.FOUND


def test_flowers_own_fedavg_gives_what_the_stand_in_gives() -> None:
    pytest.importorskip("flwr")
    real = subject_of(beside("flower_client")).fresh()
    sent = [real.fit(client, real.init, 1) for client in (0, 3, 5)]
    mean = real.aggregate(real.init, sent, 1)
    total = sum(one.upload.examples for one in sent)
    for name, value in mean.items():
        wanted = sum(one.upload.state[name] * (one.upload.examples / total) for one in sent)
        torch.testing.assert_close(value, wanted)
