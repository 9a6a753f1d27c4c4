"""Jobs that fail, hang, or speak nonsense: the diagnosis names what could not be examined, and goes on."""

import io
import json
import time

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from fedlens.diagnosis.doctor import diagnose
from fedlens.diagnosis.job import Declared, Upload
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Subject
from fedlens.errors import ConfigurationError, FedlensError
from fedlens.report.doctor import render_diagnosis

CLASSES, FEATURES = 3, 6


def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    inputs = torch.randn(count, FEATURES, generator=generator)
    inputs[torch.arange(count), labels] += 2.0
    return inputs, labels


class Sound:
    """A small federation without any fault: logistic regression on 6 features, 5 clients, 3 a round."""

    clients, cohort, rounds, classes = 5, 3, 8, CLASSES
    declared = Declared(weighting="examples", lr=0.1, batch=10, epochs=1, optimizer="sgd")

    def network(self):
        torch.manual_seed(3)
        return nn.Linear(FEATURES, CLASSES)

    def init(self):
        return {name: value.clone() for name, value in self.network().state_dict().items()}

    def sample(self, round):
        return np.random.default_rng(round).choice(self.clients, self.cohort, replace=False).tolist()

    def fit(self, client, received, round):
        module = self.network()
        module.load_state_dict(received)
        inputs, labels = self.train_data(client)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for part in torch.randperm(len(labels)).split(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs[part]), labels[part]).backward()
            optimizer.step()
        return Upload({name: value.clone() for name, value in module.state_dict().items()}, len(labels))

    def aggregate(self, current, uploads, round):
        whole = sum(upload.examples for upload in uploads)
        return {name: sum(u.state[name] * (u.examples / whole) for u in uploads) for name in current}

    def evaluate(self, state, round):
        inputs, labels = self.test_data()
        outputs = inputs @ state["weight"].T + state["bias"]
        return {"accuracy": (outputs.argmax(1) == labels).float().mean().item()}

    def model(self):
        return self.network()

    def loss(self, outputs, labels):
        return nn.functional.cross_entropy(outputs, labels)

    def train_data(self, client):
        return examples(40, client)

    def test_data(self):
        return examples(200, 99)


STAGES = ("init", "sample", "fit", "aggregate", "evaluate")
PARTS = ("model", "loss", "train_data", "test_data")


def broken(name, function):
    return type("Broken", (Sound,), {name: function})


def told(job, patience=20.0):
    """The diagnosis, after checking that it is JSON and can be shown."""
    found = diagnose(Subject(job, "job", patience))
    json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert shown(found)
    return found


def shown(found):
    to = io.StringIO()
    Console(file=to, width=60).print(render_diagnosis(found.as_dict()))
    return to.getvalue()


def missing(found):
    return " ".join(f"{one.what}: {one.why}" for one in found.evidence.unexamined)


@pytest.fixture(autouse=True)
def _gradients_stay_on():
    """A call that is stopped on its way out of torch.no_grad leaves them off, for all tests after it."""
    yield
    torch.set_grad_enabled(True)


@pytest.fixture
def quickly(monkeypatch):
    """Without counterfactuals, which have tests of their own."""
    monkeypatch.setattr("fedlens.diagnosis.stages.counterfactuals", lambda x: None)
    monkeypatch.setattr("fedlens.diagnosis.stages.own_code", lambda x: None)


def fails(self, *given):
    raise ValueError("no such thing")


def test_a_sound_job_has_no_suspects_and_all_of_it_is_examined():
    found = told(Sound)
    assert found.suspects == ()
    assert missing(found) == ""


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("name", [name for name in STAGES[1:] + PARTS if name != "model"])
def test_a_part_that_raises_is_named_with_its_line_and_the_rest_is_examined(name):
    found = told(broken(name, fails))
    assert "no such thing" in missing(found)
    assert "test_bad_jobs.py" in missing(found)
    assert found.seconds.keys() >= {"participation", "the aggregator", "rounds of the job"}


def test_a_job_without_a_first_model_is_refused_in_four_parts():
    with pytest.raises(Ailing) as refused:
        told(broken("init", fails))
    assert refused.value.exit_code == 1
    assert refused.value.problems[0].seen
    assert refused.value.problems[0].do


def test_a_network_that_cannot_be_made_costs_only_what_needs_it():
    found = told(broken("model", fails))
    assert "model" not in found.evidence.facts.offers and len(found.evidence.rounds) > 1
    assert "model" in missing(found)


def hangs(self, *given):
    time.sleep(60)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("name", ("fit", "evaluate"))
def test_a_part_that_hangs_costs_its_patience_and_no_more(name):
    began = time.monotonic()
    found = told(broken(name, hangs), patience=0.15)
    assert time.monotonic() - began < 30
    assert "0.15" in missing(found) or "longer" in missing(found)


NONSENSE = {
    "None": lambda self, *given: None,
    "a text": lambda self, *given: "text",
    "a number": lambda self, *given: 3,
    "an empty list": lambda self, *given: [],
    "nan": lambda self, *given: float("nan"),
}


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("what, name", [(list(NONSENSE)[at % 5], name) for at, name in enumerate(STAGES + PARTS)])
def test_nonsense_in_any_place_is_no_crash(what, name):
    try:
        found = told(broken(name, NONSENSE[what]))
    except FedlensError as refused:
        assert name in ("init", "model"), refused
        return
    assert all(type(error) is not SystemError for error in found.findings)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("name", [*PARTS, "declared", "classes"])
def test_each_optional_part_may_be_absent(name):
    found = told(type("Lacking", (Sound,), {name: None}))
    assert found.suspects == ()
    if name in PARTS:
        assert name in missing(found)


def test_a_fit_that_returns_nan_is_found():
    def fit(self, client, received, round):
        upload = Sound.fit(self, client, received, round)
        return Upload({name: value * float("nan") for name, value in upload.state.items()}, upload.examples)

    assert "NO FAULT FOUND" not in shown(told(broken("fit", fit)))


@pytest.mark.usefixtures("quickly")
def test_an_evaluation_in_words_is_no_crash_and_no_suspect():
    found = told(broken("evaluate", lambda self, state, round: {"accuracy": "good", "note": None}))
    assert found.suspects == ()


@pytest.mark.usefixtures("quickly")
def test_shapes_that_change_between_rounds_are_named():
    def aggregate(self, current, uploads, round):
        new = Sound.aggregate(self, current, uploads, round)
        return new if round < 3 else {name: torch.cat([value, value]) for name, value in new.items()}

    told(broken("aggregate", aggregate))


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("clients, cohort", ((0, 0), (0, 3), (3, 5), (5, 0)))
def test_impossible_numbers_of_clients_are_no_crash(clients, cohort):
    job = type(
        "Odd", (Sound,), {"clients": clients, "cohort": cohort, "sample": lambda self, round: [0, 1, 2][:cohort]}
    )
    try:
        told(job)
    except ConfigurationError as refused:
        assert refused.problems[0].do


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("asked", ([], [7, 8], [-1], [0, 0, 0]))
def test_cohorts_that_cannot_be_are_no_crash(asked):
    told(broken("sample", lambda self, round: asked))


@pytest.mark.usefixtures("quickly")
def test_clients_without_examples_are_no_crash():
    def train_data(self, client):
        inputs, labels = examples(40, client)
        return (inputs[:0], labels[:0]) if client == 2 else (inputs, labels)

    told(broken("train_data", train_data))


@pytest.mark.usefixtures("quickly")
def test_a_million_clients_are_examined_as_fast_as_a_few():
    many = type("Many", (Sound,), {"clients": 1_000_000, "cohort": 3})

    def sample(self, round):
        return np.random.default_rng(round).integers(0, self.clients, self.cohort).tolist()

    many.sample = sample
    began = time.monotonic()
    found = told(many)
    assert time.monotonic() - began < 60
    assert not [one for one in found.suspects if one.cause.startswith("S")]


class Lists(Sound):
    """The same in lists of arrays, as many frameworks have it."""

    def init(self):
        return [value.numpy() for value in Sound.init(self).values()]

    def fit(self, client, received, round):
        state = dict(zip(("weight", "bias"), map(torch.tensor, received), strict=True))
        upload = Sound.fit(self, client, state, round)
        return [value.numpy() for value in upload.state.values()], int(upload.examples), {}

    def aggregate(self, current, uploads, round):
        whole = sum(count for _, count, _ in uploads)
        return [sum(arrays[at] * (n / whole) for arrays, n, _ in uploads) for at in range(len(current))]

    def evaluate(self, state, round):
        named = dict(zip(("weight", "bias"), map(torch.tensor, state), strict=True))
        return Sound.evaluate(self, named, round)


def test_lists_of_arrays_are_as_good_as_names():
    found = told(Lists)
    assert found.suspects == ()
    assert missing(found) == ""
