"""Jobs whose network has one output for two classes, and uploads of visits that blew up: read for what they are."""

import pytest
import torch
from torch import nn

from fedlens.diagnosis.probes.aggregation import examine_aggregation
from fedlens.diagnosis.probes.evaluating import examine_evaluating
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials import run_trials
from fedlens.diagnosis.trials.lend import admit

CLIENTS, EACH, WIDTH = 4, 40, 3


def examples(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The label is the sign of the first number."""
    inputs = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


class OneOutput:
    clients, cohort, rounds, classes = CLIENTS, 2, 6, 2
    declared = {"lr": 0.5, "batch": 10, "epochs": 1}  # noqa: RUF012
    size = 0.1  # of an update, by the model's

    def init(self):
        return self.model().state_dict()

    def model(self):
        torch.manual_seed(0)
        return nn.Linear(WIDTH, 1)

    def loss(self, outputs, labels):
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.float())

    def train_data(self, client):
        return examples(client, EACH)

    def test_data(self):
        return examples(99, 100)

    def sample(self, round):
        return list(range(self.cohort))

    def fit(self, client, received, round):
        draw = torch.Generator().manual_seed(100 * round + client)
        sent = {n: v + self.size * v.norm() * torch.randn(v.shape, generator=draw) for n, v in received.items()}
        return sent, EACH

    def aggregate(self, current, uploads, round):
        return {name: sum(state[name] for state, _ in uploads) / len(uploads) for name in current}

    def evaluate(self, state, round):
        return {"accuracy": 0.5}


class WithoutLoss(OneOutput):
    loss = None


class Exploding(OneOutput):
    size = -1e3


class Squeezed(OneOutput):
    def model(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(WIDTH, 1), nn.Flatten(0))

    def loss(self, outputs, labels):
        return nn.functional.binary_cross_entropy_with_logits(outputs, labels.float())


class Replacing(OneOutput):
    def fit(self, client, received, round):
        sent, count = super().fit(client, received, round)
        return {name: 0.1 * (value - received[name]) for name, value in sent.items()}, count


def subject(kind: type) -> Subject:
    return Subject(kind, kind.__name__)


@pytest.mark.parametrize("kind", [OneOutput, WithoutLoss, Squeezed])
def test_trials_train_one_output_for_two_classes(kind: type) -> None:
    whole = subject(kind)
    found = run_trials(
        whole, whole.fresh().facts(), (), wanted=("iid", "pooled-samples"), length=6, seeds=(0,), budget=60
    )
    assert found.reference.mean > 0.85  # separable; either class alone is right on half
    assert found.best is not None and found.best > 0.85


def test_both_classes_of_one_output_are_lent() -> None:
    ward = admit(subject(OneOutput).fresh())
    assert len(ward.lent.split.train.labels) == CLIENTS * EACH
    assert set(ward.lent.split.train.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("kind", [Exploding, OneOutput])
def test_a_sound_server_stays_sound_where_visits_blow_up(kind: type) -> None:
    """Far from the model as weights are then, only the server shows whether they are weights."""
    whole = subject(kind)
    found = examine_aggregation(whole, whole.fresh().facts())
    assert found.current == pytest.approx(1, abs=1e-3)
    assert sum(found.weights) == pytest.approx(1, abs=1e-3)


def test_a_server_that_replaces_the_model_by_small_updates_is_still_seen() -> None:
    whole = subject(Replacing)
    assert examine_aggregation(whole, whole.fresh().facts()).current == pytest.approx(0, abs=1e-3)


class ManyMetrics(OneOutput):
    def evaluate(self, state, round):
        return {"f1": 0.3, "precision": 0.2, "accuracy": 0.5}


def test_of_several_metrics_the_accuracy_is_the_one_that_is_checked() -> None:
    whole = subject(ManyMetrics)
    patient = whole.fresh()
    assert examine_evaluating(whole, patient.facts(), None, [(1, patient.init)]).metric == "accuracy"
