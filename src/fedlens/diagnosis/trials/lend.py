"""An author's data, network, first weights and loss, made ready for the doctor's own federations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.data import Dataset, Split
from fedlens.diagnosis.examiner import Examiner, two_columns
from fedlens.diagnosis.subject.guard import guarded
from fedlens.diagnosis.subject.patient import Patient
from fedlens.errors import ConfigurationError
from fedlens.methods import Lesson
from fedlens.partition import Partition
from fedlens.runs.federation import Lent

TESTED = 2000  # examples that a model is examined on, evenly spaced: more cost as much as training
SHOWN = 64  # examples for the engine's own evaluation, which nobody reads

Change = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor, Lesson], Tensor]
MOST = 20_000  # clients whose data are put together


@dataclass(frozen=True)
class Ward:
    """One fresh job as a federation of the doctor's. `clients`: the numbers in the job of those that have examples, in
    the order of the deal; `examiner` has at most TESTED test examples; `chance`: the share of the largest test class.
    """

    patient: Patient
    lent: Lent
    clients: tuple[int, ...]
    examiner: Examiner
    chance: float
    notes: tuple[str, ...] = ()

    @property
    def tested(self) -> int:
        """Test examples."""
        return len(self.examiner.labels)


def admit(patient: Patient, change: Change | None = None, *, cross_entropy: bool = False) -> Ward:
    """The ward of a fresh job. `change` (client, inputs, labels) -> inputs, labels corrects data before they are used;
    with `cross_entropy` the author's loss is left out.

    Raises ConfigurationError where the job does not lend its network or its data, Ailing where its code fails.
    """
    lacking = [name for name in ("model", "train_data", "test_data") if not patient.offers(name)]
    if lacking:
        do = "Give the job these functions, see fedlens.Job."
        what = "without data and network nothing can be run in the job's place"
        raise ConfigurationError(what, where="job", seen=f"no {', '.join(lacking)}", do=do)
    examiner = tested_on_few(patient)
    with guarded("model", "a forward pass", patient.patience):
        answers = examiner.outputs(patient.init, examiner.inputs[:SHOWN])
        width = answers.shape[1]
        flat = examiner.module(examiner.inputs[:2].to(examiner.kind)).dim() == 1
    classes = max(2, width)  # one output tells two classes
    inputs, labels, sizes, clients, notes = _gathered(patient, classes, change)
    module = copy.deepcopy(patient.network(patient.init))
    if flat:  # the engine takes rows; the author's loss is given them as its network makes them
        module.register_forward_hook(_as_rows)
    kind = inputs.dtype
    if not kind.is_floating_point:  # the engine computes in floats; whole numbers up to 2^24 come through exactly
        inputs = inputs.to(torch.float32)
        module.register_forward_pre_hook(_cast_to(kind))
    names = tuple(str(one) for one in range(classes))
    shown = examiner.inputs[:SHOWN].to(inputs.dtype), class_numbers(examiner.labels[:SHOWN]).clamp(0, width - 1)
    split = Split(Dataset(inputs, labels, names), Dataset(*shown, names), "the author's test data")
    deal = Partition(np.arange(len(labels)), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    loss = _loss(patient, width, cross_entropy, flat)
    if cross_entropy and are_probabilities(answers):
        loss = _of_probabilities
    lent = Lent(split, deal, module, loss)
    return Ward(patient, lent, clients, examiner, chance_of(examiner), notes)


def tested_on_few(patient: Patient) -> Examiner:
    """An examiner on at most TESTED test examples."""
    examiner = Examiner(patient)
    kept = torch.linspace(0, len(examiner.labels) - 1, min(TESTED, len(examiner.labels))).long()
    examiner.inputs, examiner.labels = examiner.inputs[kept], examiner.labels[kept]
    return examiner


def chance_of(examiner: Examiner) -> float:
    """The share of the largest class among the test examples."""
    counts = torch.bincount(class_numbers(examiner.labels).clamp(min=0))
    return float(counts.max() / counts.sum())


def class_numbers(labels: Tensor) -> Tensor:
    """Labels as i64 [N]; -1 for rows of a one-hot table that name no class."""
    if labels.dim() > 1 and labels.shape[-1] > 1:
        if not labels.dtype.is_floating_point and int(labels.max()) > 1:
            seen = f"{labels.dtype} of shape {list(labels.shape)}"
            do = "Only one class for each example can be tried in the job's place."
            raise ConfigurationError("labels are no classes", where="train_data", seen=seen, do=do)
        rows = labels.flatten(1)
        return torch.where(rows.sum(dim=1) > 0, rows.argmax(dim=1), -1)
    return labels.flatten().long()


def _gathered(
    patient: Patient, classes: int, change: Change | None
) -> tuple[Tensor, Tensor, list[int], tuple[int, ...], tuple[str, ...]]:
    """All clients' examples one after another, without those whose label names no class, and who has how many."""
    if patient.clients > MOST:
        what, do = "too many clients to put their data together", "Examine a job of fewer of them."
        raise ConfigurationError(what, where="clients", seen=f"{patient.clients}, at most {MOST}", do=do)
    inputs, labels, sizes, clients, lost = [], [], [], [], 0
    for client in range(patient.clients):
        mine, said = patient.train_data(client)
        if change is not None:
            mine, said = change(client, mine, said)
        numbers = class_numbers(said) if len(said) else said.flatten().long()
        valid = (numbers >= 0) & (numbers < classes)
        lost += int((~valid).sum())
        if not bool(valid.any()):
            continue
        inputs.append(mine if bool(valid.all()) else mine[valid])
        labels.append(numbers if bool(valid.all()) else numbers[valid])
        sizes.append(int(valid.sum()))
        clients.append(client)
    shapes = {tuple(part.shape[1:]) for part in inputs}
    if len(shapes) != 1:
        seen = f"{len(shapes)} shapes of inputs"
        do = "Give all clients inputs of one shape."
        raise ConfigurationError("the clients' data cannot be put together", where="train_data", seen=seen, do=do)
    notes = [f"{lost} examples whose label names no class of the network were left out"] if lost else []
    if len(clients) < patient.clients:
        notes.append(f"{patient.clients - len(clients)} clients without examples were left out")
    return torch.cat(inputs), torch.cat(labels), sizes, tuple(clients), tuple(notes)


def _loss(patient: Patient, width: int, cross_entropy: bool, flat: bool) -> Loss | None:
    """The author's loss as a method has it; None where it is, or shall be, cross-entropy of `width` outputs."""
    if cross_entropy or not patient.offers("loss"):
        return None if width > 1 else _of_one_output
    _, labels = patient.train_data(0)
    one_hot = labels.dim() > 1 and labels.shape[-1] > 1
    shape, kind = labels.shape[1:], labels.dtype

    def loss(outputs: Tensor, numbers: Tensor, lesson: Lesson | None) -> Tensor:
        said = nn.functional.one_hot(numbers, max(2, width)) if one_hot else numbers.view(-1, *shape)
        return patient.loss(outputs[:, 0] if flat else outputs, said.to(kind))

    draw = torch.Generator().manual_seed(0)
    if width == 1:
        return loss
    outputs, numbers = 3 * torch.randn(16, width, generator=draw), torch.arange(16) % width
    with guarded("loss", "", patient.patience), torch.no_grad():
        found = float(loss(outputs, numbers, None))
    plain = float(nn.functional.cross_entropy(outputs, numbers))
    return None if abs(found - plain) <= 1e-5 * plain else loss


def _of_one_output(outputs: Tensor, numbers: Tensor, lesson: Lesson | None) -> Tensor:
    """Cross-entropy of a head [N, 1] that tells two classes."""
    return nn.functional.cross_entropy(two_columns(outputs), numbers)


def are_probabilities(outputs: Tensor) -> bool:
    """Whether all rows [N, C] of a network's outputs sum to 1, with none below 0."""
    if outputs.shape[1] < 2 or not bool((outputs >= 0).all()):
        return False
    return bool(((outputs.double().sum(dim=1) - 1).abs() < 1e-4).all())


def _of_probabilities(outputs: Tensor, numbers: Tensor, lesson: Lesson | None) -> Tensor:
    """Cross-entropy of a network that ends in softmax: its logarithms are logits of the same answers."""
    return nn.functional.nll_loss(outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log(), numbers)


def _as_rows(module: nn.Module, given: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
    return outputs.unsqueeze(1)


def _cast_to(kind: torch.dtype) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda module, given: (given[0].to(kind), *given[1:])
