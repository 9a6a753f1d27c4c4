"""Known defects of FedGKT; the table is in test_known_defects.py."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defects import refused
from engine.test_gkt import Watched, named, ready, watched
from small import split
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedlens import Local
from fedlens.engine import Exchange
from fedlens.local import evaluate
from fedlens.local.step import Loss
from fedlens.methods.fedgkt import fedgkt
from fedlens.models import Model
from fedlens.models.halves import Halves, build_halves


class ByBatch(Exchange):
    """The teacher of a batch is what was kept in its place, whatever examples the batch is of."""

    def _loss(self, labels: Tensor, teacher: Tensor | None) -> Loss:
        place = 0

        def value(outputs: Tensor, rows: Tensor, inputs: Tensor) -> Tensor:
            nonlocal place
            theirs = None if teacher is None else teacher[place : place + len(rows)]
            place = (place + len(rows)) % len(labels)
            return self.method.objective(outputs, labels[rows], theirs)

        return value


class OneModel(Exchange):
    """All clients train one object, which goes on from whoever trained it last."""

    def _own(self, kept):
        return self.first.with_(self.client.vector.clone(), self.client.copied_integers())


class Deaf(Exchange):
    """The server learns the labels alone."""

    def _loss(self, labels: Tensor, teacher: Tensor | None) -> Loss:
        return super()._loss(labels, None)


def of(kind: type[Exchange], exchange: Exchange) -> Exchange:
    return kind(**vars(exchange))


def teaches_the_very_example(kind: type[Exchange]) -> None:
    """Each of 18 examples has a label of its own, and a teacher whose logits point to it."""
    method: Watched = watched(server_epochs=1)
    exchange, plan, start = ready(named(), method, Local(epochs=2, batch=4, lr=0.02))
    memory = {}
    for visit in plan.visits(1):
        pointing = 9.0 * F.one_hot(exchange.data.labels[np.sort(visit.indices)], 18).float()
        memory[visit.client] = {"gkt.model": exchange.first.vector, "gkt.logits": pointing}
    of(kind, exchange).round(start, {}, plan.visits(1), memory)
    # 6 examples a client, in 4 + 2, twice over, at 3 clients: 12 batches before the server's.
    assert all(torch.equal(teacher.argmax(1), labels) for labels, teacher in method.seen[:12])


def test_an_example_has_its_own_teacher():
    teaches_the_very_example(Exchange)
    refused(lambda: teaches_the_very_example(ByBatch))


def visits_are_independent(kind: type[Exchange]) -> None:
    """What a client's model becomes does not depend on who trained before it."""
    exchange, plan, start = ready(split()[0], fedgkt(server_epochs=1))
    visits = plan.visits(1)
    together = of(kind, exchange).round(start, {}, visits, {})
    for visit in reversed(visits):
        alone = of(kind, exchange).round(start, {}, [visit], {})
        assert torch.equal(alone.memory[visit.client]["gkt.model"], together.memory[visit.client]["gkt.model"])


def test_clients_share_no_model():
    visits_are_independent(Exchange)
    refused(lambda: visits_are_independent(OneModel))


def has_the_norm(halves: Halves, kind: type[nn.Module]) -> None:
    for half in (halves.client, halves.server):
        found = {type(part) for part in half.modules() if isinstance(part, _NormBase | nn.GroupNorm)}
        assert found == {kind}


def test_the_norm_is_in_both_halves():
    def built(norm: str) -> Halves:
        return build_halves(Model("resnet4/resnet7", norm=norm), (1, 8, 8), 3)

    has_the_norm(built("batch"), nn.BatchNorm2d)
    has_the_norm(built("group"), nn.GroupNorm)
    refused(lambda: has_the_norm(Halves(built("batch").client, built("group").server), nn.GroupNorm))


def server_depends_on_the_clients_logits(kind: type[Exchange]) -> None:
    """Two servers that differ in their clients' logits alone end apart: the features and labels are the same."""
    ends = []
    for sign in (1.0, -1.0):
        exchange, plan, start = ready(split()[0], fedgkt(server_epochs=1), norm="none")
        # The last layer's sign turns every logit round, and a rate that moves nothing leaves the features alone.
        views = exchange.first.layout.views(exchange.first.vector)
        views["classifier.head.weight"].mul_(sign)
        slow = [dataclasses.replace(visit, rate=1e-12) for visit in plan.visits(1)]
        ends.append(of(kind, exchange).round(start, {}, slow, {}).tree.vector)
    assert (ends[0] - ends[1]).norm() > 1e-3


def test_the_server_hears_the_clients():
    server_depends_on_the_clients_logits(Exchange)
    refused(lambda: server_depends_on_the_clients_logits(Deaf))


Batches = Sequence[tuple[Tensor, Tensor]]


def is_a_part_of_all(accuracy: Callable[[nn.Module, Batches], float]) -> None:
    """790 examples in batches of 128, the last of 22; labels are the sign of the input, and every tenth is wrong."""
    inputs = torch.linspace(-1, 1, 790)[:, None]
    labels = ((inputs[:, 0] > 0).long() + (torch.arange(790) % 10 == 0)) % 2
    batches = list(zip(inputs.split(128), labels.split(128), strict=True))
    head = nn.Linear(1, 2)
    head.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]), "bias": torch.zeros(2)})
    assert accuracy(head, batches) == pytest.approx(711 / 790, rel=1e-12)


def test_an_accuracy_is_at_most_one():
    def counts(module: nn.Module, batches: Batches) -> float:
        return float(np.mean([(module(inputs).argmax(1) == labels).sum().item() for inputs, labels in batches]))

    def mean_of_batches(module: nn.Module, batches: Batches) -> float:
        return float(np.mean([(module(inputs).argmax(1) == labels).double().mean() for inputs, labels in batches]))

    is_a_part_of_all(lambda module, batches: evaluate(module, iter(batches), 2).accuracy)
    refused(lambda: is_a_part_of_all(counts))
    refused(lambda: is_a_part_of_all(mean_of_batches))  # a short last batch counts as much as a long one
