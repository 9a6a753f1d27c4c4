"""The doctor's own evaluation of a state, beside what its author reports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlens.diagnosis.evidence import Exam
from fedlens.diagnosis.job import State
from fedlens.diagnosis.subject.patient import Patient

BATCH = 256


class Examiner:
    """Examines states of one job, on its test data and on its clients' own; needs its model and data."""

    def __init__(self, patient: Patient) -> None:
        self.patient, self.module = patient, patient.model()
        self.inputs, self.labels = patient.test_data()
        kinds = [one.dtype for one in self.module.parameters() if one.is_floating_point()]
        self.kind = kinds[0] if kinds and self.inputs.is_floating_point() else self.inputs.dtype

    def exam(self, state: State, *, batch_statistics: bool = False) -> Exam:
        """`state` on all test data; `batch_statistics`: norm layers use each batch's own, dropout stays off."""
        return examined(self.outputs(state, self.inputs, batch_statistics=batch_statistics), self.labels)

    def outputs(self, state: State, inputs: Tensor, *, batch_statistics: bool = False) -> Tensor:
        """The answers [N, C] of the network with `state`."""
        self.load(state)
        return self.answers(inputs, batch_statistics=batch_statistics)

    def load(self, state: State) -> None:
        """Put `state` into the network."""
        self.module.load_state_dict({name: value.clone() for name, value in state.items()}, strict=False)

    def answers(self, inputs: Tensor, *, batch_statistics: bool = False) -> Tensor:
        """Those [N, C] of the network as it was last loaded."""
        with _mode(self.module, batch_statistics), torch.no_grad():
            rows = torch.cat([self.module(part.to(self.kind)) for part in torch.split(inputs, BATCH)])
        return rows if rows.dim() > 1 else rows.unsqueeze(1)  # a head of one output, squeezed

    def client_loss(self, client: int, most: int) -> float:
        """The mean cross-entropy, in nats, of the network as it was last loaded on at most `most` of the client's own
        examples."""
        inputs, labels = self.patient.train_data(client)
        kept = torch.linspace(0, len(labels) - 1, min(most, len(labels))).long()
        return examined(self.answers(inputs[kept]), labels[kept]).loss


def examined(outputs: Tensor, labels: Tensor) -> Exam:
    """What `outputs` [N, C] come to beside class numbers [N] or one-hot rows [N, C]."""
    outputs = two_columns(outputs.flatten(1).double())
    truth = labels.argmax(dim=1) if labels.dim() > 1 and labels.shape[-1] > 1 else labels.flatten().long()
    classes, said = outputs.shape[1], outputs.argmax(dim=1)
    valid = (truth >= 0) & (truth < classes)
    losses = functional.cross_entropy(outputs, truth.clamp(0, classes - 1), reduction="none")
    shares = torch.bincount(said, minlength=classes).double() / len(said)
    entropy = -(shares[shares > 0] * shares[shares > 0].log()).sum().item() / math.log(max(2, classes))
    right = (said == truth) & valid
    held, found = (torch.bincount(truth[some], minlength=classes).tolist() for some in (valid, right))
    recall = tuple(hits / count if count else None for hits, count in zip(found, held, strict=True))
    loss = losses[valid].mean().item() if bool(valid.any()) else math.nan
    return Exam(right.double().mean().item(), loss, entropy, shares.max().item(), recall, len(labels))


def two_columns(outputs: Tensor) -> Tensor:
    """A head of one output [N, 1] as logits of two classes [N, 2]; a wider one as it is."""
    if outputs.shape[1] > 1:
        return outputs
    probabilities = bool(((outputs >= 0) & (outputs <= 1)).all())
    logits = outputs.clamp(1e-12, 1 - 1e-12).logit() if probabilities else outputs
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


@contextmanager
def _mode(module: nn.Module, batch_statistics: bool) -> Iterator[None]:
    """Evaluation mode, where asked with norm layers that use the batch and remember nothing of it."""
    module.eval()
    touched = []
    if batch_statistics:
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats:
                touched.append((part, part.momentum))
                part.momentum = 0.0
                part.train()
    try:
        yield
    finally:
        for part, momentum in touched:
            part.momentum = momentum
        module.eval()
