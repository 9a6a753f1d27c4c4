"""What an evaluation asks of its network: against which labels it holds the answers (M29), and in which mode (M31)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.modes import modes
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Patient

EQUAL = ("aten::eq.Tensor", "aten::ne.Tensor")
ANSWERS = ("aten::argmax", "aten::max.dim", "aten::topk", "aten::sort")
LOSSES = ("aten::nll_loss_forward", "aten::nll_loss_nd")
LEAST = 5  # labels in a call that count


class Asked(TorchDispatchMode):
    """`sets`: of every comparison of answers with labels, how many labels of how many classes; `labels`: those that
    answers, not losses, were compared with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sets: list[tuple[int, int]] = []
        self.labels: list[Tensor] = []
        self.answers: dict[int, Tensor] = {}  # whole numbers that come from answers, kept so that no id comes twice

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """`op` is called, and heard of."""
        result = op(*args, **(kwargs or {}))
        name, tensors = op.name(), [one for one in args if isinstance(one, Tensor)]
        if name in EQUAL and len(tensors) == 2:
            labels = [one for one in tensors if id(one) not in self.answers]
            if len(labels) == 1:
                self._note(labels[0])
                self.labels.append(labels[0].detach().clone())
        elif name.startswith(LOSSES) and len(tensors) > 1:
            self._note(tensors[1])
        elif name.startswith(ANSWERS) or any(id(one) in self.answers for one in tensors):
            every = result if isinstance(result, tuple | list) else (result,)
            whole = [one for one in every if isinstance(one, Tensor) and not one.dtype.is_floating_point]
            self.answers |= {id(one): one for one in whole}
        return result

    def _note(self, labels: Tensor) -> None:
        if labels.dtype.is_floating_point or labels.dtype == torch.bool or labels.numel() < LEAST:
            return
        self.sets.append((labels.numel(), len(set(labels.flatten().tolist()))))


class Listened(NamedTuple):
    """What an evaluation `told`; the number of labels and of classes in each set that it asked for; the kinds of layers
    that it called in training mode alone."""

    told: dict[str, float]
    label_sets: tuple[tuple[int, int], ...]
    training: tuple[str, ...]


def listened(patient: Patient, state: State, round: int) -> Listened:
    """One evaluation of `state`, listened to; without hearing of labels where the code cannot bear that."""
    with modes() as modes_heard:
        try:
            with Asked() as heard:
                told = patient.evaluate(state, round)
        except Ailing:
            return Listened(patient.evaluate(state, round), (), modes_heard.left_training)
    return Listened(told, tuple(heard.sets), modes_heard.left_training)
