"""Another model's answers that a network is trained towards beside the labels (distillation), row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fedlens.diagnosis.evidence.rounds import Tie

FLAT = 1e-6  # spread of a row's targets below which it tells no class from another


class Teachers:
    """The teacher's and the student's answers beside the labels of the same rows."""

    def __init__(self) -> None:
        self._blank = 0
        self._teacher = torch.zeros(0, 0, dtype=torch.float64)  # rows by answer and label
        self._student = self._teacher

    def look(self, calls: Sequence[tuple[int, Tensor, Tensor]]) -> None:
        """The loss calls of one step: (rank, outputs, targets) of each."""
        if len(calls) < 2:
            return
        labelled = [(given.shape, found) for _, given, target in calls if (found := _labels(given, target)) is not None]
        if len(labelled) != 1:
            return
        shape, labels = labelled[0]
        soft = [(given, target) for _, given, target in calls if _soft(given, target) and given.shape == shape]
        for given, target in soft[:1]:
            self._count(given, target, labels)

    def _count(self, given: Tensor, target: Tensor, labels: Tensor) -> None:
        classes = target.shape[1]
        told = ((target.amax(1) - target.amin(1)) > FLAT) & (labels >= 0) & (labels < classes)
        self._blank += int((~told).sum())
        if len(self._teacher) != classes:
            self._teacher = self._student = torch.zeros(classes, classes, dtype=torch.float64)
        self._teacher = self._teacher + _table(target.argmax(1)[told], labels[told], classes)
        self._student = self._student + _table(given.argmax(1)[told], labels[told], classes)

    def told(self) -> dict[str, Any]:
        """The fields of Watched that speak of teachers."""
        rows = self._teacher.sum().item()
        if not rows:
            return {"teacher_blank": self._blank > 0}
        return {
            "teacher_rows": int(rows),
            "teacher": self._teacher.trace().item() / rows,
            "student": self._student.trace().item() / rows,
            "teacher_chance": (self._teacher.sum(0) @ self._teacher.sum(1)).item() / rows**2,
            "teacher_tie": tie(self._teacher),
            "student_tie": tie(self._student),
        }


def tie(table: Tensor) -> Tie:
    """How far the rows (answers) and columns (labels) of a table of counts are from independent."""
    kept = table[table.sum(1) > 0][:, table.sum(0) > 0]
    high, wide = kept.shape
    if high < 2 or wide < 2:
        return Tie(0.0, 0, 0.0)
    rows = kept.sum()
    expected = kept.sum(1, keepdim=True) * kept.sum(0, keepdim=True) / rows
    found = ((kept - expected) ** 2 / expected).sum().item()
    variety = (1 - (kept.sum(1) / rows).square().sum().item()) / (1 - 1 / high)
    return Tie(found, (high - 1) * (wide - 1), rows.item() * (min(high, wide) - 1) * variety)


def _table(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(answers * classes + labels, minlength=classes**2).reshape(classes, classes).double()


def hot(target: Tensor) -> bool:
    """Whether the rows are one-hot, some of them perhaps all zeros."""
    if target.dim() != 2 or target.shape[1] < 2:
        return False
    sums = target.sum(1)
    return bool((((target == 0) | (target == 1)).all() & ((sums == 0) | (sums == 1)).all()).item())


def _labels(given: Tensor, target: Tensor) -> Tensor | None:
    if given.dim() != 2 or given.shape[1] < 2 or len(given) != len(target):
        return None
    if target.dim() == 1 and not target.is_floating_point():
        return target.long()
    return target.argmax(1) if target.shape == given.shape and hot(target) else None


def _soft(given: Tensor, target: Tensor) -> bool:
    return given.dim() == 2 and target.shape == given.shape and target.is_floating_point() and not hot(target)
