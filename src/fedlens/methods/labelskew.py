"""Losses against label skew: what a client lacks should not be unlearned. FedLC, FedRS, FedNTD.

Sources: FedLC: Zhang et al., "Federated Learning with Label Distribution Skew via Logits Calibration", ICML 2022,
equation 5. FedRS: Li and Zhan, "FedRS: Federated Learning with Restricted Softmax for Label Distribution Non-IID Data",
KDD 2021, equation 6. FedNTD: Lee et al., "Preservation of the Global Knowledge by Not-True Distillation", NeurIPS 2022,
equations 4 and 5.
They change the training loss alone; models are tested with their plain logits. FedAvg does the rest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlens.methods.method import Lesson, Method


def fedlc(*, tau: float = 1.0) -> Method:
    """Cross-entropy on f_c - tau n_ic^(-1/4), n_ic: the client's examples of class c.

    Differs from the paper: a class that the client lacks (n = 0, an infinite margin) is left out of the sum over
    classes, which is the limit.
    """

    def loss(outputs: Tensor, labels: Tensor, lesson: Lesson) -> Tensor:
        margin = tau * lesson.counts.to(outputs.dtype).clamp_min(1).pow(-0.25)
        calibrated = (outputs - margin).masked_fill(lesson.counts == 0, -torch.inf)
        return F.cross_entropy(calibrated, labels)

    return Method(name="fedlc", source="Zhang et al. 2022", settings={"tau": tau}, loss=loss)


def fedrs(*, alpha: float = 0.5) -> Method:
    """Cross-entropy with the logits of classes that the client lacks scaled by `alpha`; 1 is plain cross-entropy.

    Differs from the paper: nothing. alpha = 0 takes away all they could learn, and the paper warns of it.
    """

    def loss(outputs: Tensor, labels: Tensor, lesson: Lesson) -> Tensor:
        return F.cross_entropy(torch.where(lesson.counts == 0, alpha * outputs, outputs), labels)

    return Method(name="fedrs", source="Li and Zhan 2021", settings={"alpha": alpha}, loss=loss)


def fedntd(*, beta: float = 1.0, temperature: float = 1.0) -> Method:
    """Cross-entropy + beta KL(received model || client) over the classes that are not the true one.

    Differs from the paper: nothing; the received model answers in evaluation mode and without gradient.
    """

    def loss(outputs: Tensor, labels: Tensor, lesson: Lesson) -> Tensor:
        ours, theirs = _not_true(outputs, labels), _not_true(lesson.answers(lesson.client.start).outputs, labels)
        student = F.log_softmax(ours / temperature, 1)
        teacher = F.log_softmax(theirs / temperature, 1)
        distance = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
        return F.cross_entropy(outputs, labels) + beta * distance

    settings = {"beta": beta, "temperature": temperature}
    return Method(name="fedntd", source="Lee et al. 2022", settings=settings, loss=loss)


def _not_true(outputs: Tensor, labels: Tensor) -> Tensor:
    """`outputs` [B, C] without the column of each row's label: [B, C - 1]."""
    others = torch.ones_like(outputs, dtype=torch.bool).scatter_(1, labels[:, None], False)
    return outputs[others].view(len(outputs), -1)
