"""Which loss functions an author's code calls in training, on what, with which labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlens.diagnosis.origins.frames import author_frame, place
from fedlens.diagnosis.watch.teachers import Teachers, hot

# The position of `reduction` among the arguments that PyTorch's own loss functions pass on, by their names there.
REDUCTION = {
    "cross_entropy": 3,
    "nll_loss": 3,
    "binary_cross_entropy": 3,
    "binary_cross_entropy_with_logits": 4,
    "multi_margin_loss": 5,
    "soft_margin_loss": 2,
    "mse_loss": 2,
    "l1_loss": 2,
    "smooth_l1_loss": 2,
    "huber_loss": 2,
    "kl_div": 2,
}
MODES = ("none", "mean", "sum")
IGNORING = ("cross_entropy", "nll_loss")  # these have ignore_index as their fifth argument
BINARY = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
LOOKS = 3  # calls whose rows are looked at
MOST = 200_000  # labels that are kept
WIDEST = 1_000  # classes up to which the order of labels is measured
BY_NUMBER = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")  # PyTorch spreads what these are given first
LABELLED = 2  # ranks of losses below this are given labels
Key = tuple[str, CodeType | None, int]


@dataclass
class Heard:
    """All training calls of one loss function from one line. `rank`: 0 sees labels, 3 hardly."""

    name: str
    where: str
    rank: int
    reduction: str | None
    outputs: int
    ignore: int | None
    count: int = 0
    kept: int = 0
    sizes: list[int] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    probabilities: list[bool] = field(default_factory=list)
    logits: list[bool] = field(default_factory=list)
    spread: list[bool] = field(default_factory=list)


class Losses:
    """Loss calls; those before a backward call count, the last of each line."""

    def __init__(self) -> None:
        self.lines: dict[Key, Heard] = {}
        self.pending: dict[Key, tuple[Heard, Tensor, Tensor]] = {}
        self.again: set[Key] = set()
        self.teachers = Teachers()

    def heard(self, name: str, args: Sequence[Any]) -> Heard | None:
        """A loss function is about to be called with `args` = (outputs, targets, ...); None: not to train a network."""
        given, target = args[0], args[1]
        if not given.requires_grad or given.is_leaf or torch._C._functorch.is_functorch_wrapped_tensor(given):
            return None  # an evaluation, a penalty on parameters, or a function transform
        frame = author_frame()
        key = (name, *(frame or (None, 0)))
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = _opened(name, place(frame), args)
        if len(line.probabilities) < LOOKS:
            _look(line, given.detach())
        if name in BY_NUMBER:
            line.spread.append(_spread(given) and _spread(target) and given.stride() != target.stride())
        self.again |= self.pending.keys() & {key}
        self.pending[key] = line, given.detach(), target.detach()
        return line

    def only(self) -> Tensor | None:
        """The labels [N] of what is pending, if one loss alone was given labels, once; else None."""
        labelled = [(key, target) for key, (line, _, target) in self.pending.items() if line.rank < LABELLED]
        if len(labelled) != 1 or labelled[0][0] in self.again:
            return None
        target = labelled[0][1]
        if target.is_floating_point():
            return target.argmax(1) if target.dim() == 2 and target.shape[1] > 1 and hot(target) else None
        return target.reshape(-1) if target.numel() == len(target) else None

    def commit(self) -> None:
        """What was pending was training."""
        self.teachers.look([(line.rank, given, target) for line, given, target in self.pending.values()])
        for line, _, target in self.pending.values():
            size = int(target.shape[0]) if target.dim() else 1
            line.count += 1
            line.sizes.append(size)
            if line.kept < MOST:
                kept = target[: MOST - line.kept].clone()
                line.targets.append(kept)
                line.kept += kept.numel() if kept.dim() == 1 else len(kept)
        self.pending.clear()
        self.again.clear()

    def main(self) -> Heard | None:
        """The one that sees the labels; before any backward call, what was called at all."""
        if not any(line.count for line in self.lines.values()):
            self.commit()
        called = [line for line in self.lines.values() if line.count]
        return min(called, key=lambda line: (line.rank, -line.count), default=None)


def told(line: Heard) -> dict[str, Any]:
    """The fields of Watched that speak of the loss and its labels."""
    fields: dict[str, Any] = {
        "loss": line.name,
        "loss_where": line.where,
        "reduction": line.reduction,
        "outputs": line.outputs,
    }
    if line.name != "nll_loss" and line.probabilities:
        fields["probabilities"] = all(line.probabilities)
    if line.logits:
        fields["logits"] = all(line.logits)
    if line.spread:
        fields["spread"] = all(line.spread)
    batches, ignored = _labels(line)
    every = np.concatenate(batches) if batches else np.zeros(0, np.int64)
    fields["ignored"] = ignored
    fields["one_hot"] = bool(line.targets) and line.targets[0].is_floating_point() and line.targets[0].dim() > 1
    if every.size:
        fields.update(labels=len(np.unique(every)), label_low=int(every.min()), label_high=int(every.max()))
        fields["run"] = run_length(batches)
        if every.min() >= 0 and every.max() < WIDEST:
            fields["label_counts"] = tuple(np.bincount(every).tolist())
    return fields


def run_length(batches: Sequence[np.ndarray]) -> float | None:
    """Mean number of equal labels in a row, by that of a shuffled order of the same labels (1: shuffled).

    The order within a batch changes nothing for training, so each batch counts as shuffled in itself: with the share of
    equal pairs q_b in a batch of n_b and e_b between neighbouring batches there are 1 + sum (n_b - 1)(1 - q_b) + sum
    (1 - e_b) runs; in shuffled order 1 + (N - 1)(1 - q). None: too many classes, or fewer than two labels.
    """
    values, places = np.unique(np.concatenate(batches), return_inverse=True)
    total = len(places)
    if len(values) > WIDEST or total < 2:
        return None
    owner = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
    counts = np.zeros((len(batches), len(values)))
    np.add.at(counts, (owner, places.reshape(-1)), 1)
    counts = counts[counts.sum(1) > 0]
    sizes = counts.sum(1)
    pairs = np.maximum(sizes * (sizes - 1), 1)
    equal = (counts * (counts - 1)).sum(1) / pairs
    shares = counts / sizes[:, None]
    between = (shares[1:] * shares[:-1]).sum(1)
    found = 1 + ((sizes - 1) * (1 - equal)).sum() + (1 - between).sum()
    every = counts.sum(0)
    shuffled = 1 + (total - 1) * (1 - (every * (every - 1)).sum() / (total * (total - 1)))
    return float(shuffled / found)


def _opened(name: str, where: str, args: Sequence[Any]) -> Heard:
    given, target = args[0], args[1]
    mode = args[REDUCTION[name]] if len(args) > REDUCTION[name] else None
    reduction = MODES[mode] if isinstance(mode, int) and 0 <= mode < len(MODES) else None
    ignore = int(args[4]) if name in IGNORING and len(args) > 4 else None
    outputs = int(given.shape[1 if given.dim() > 1 else 0]) if given.dim() and name not in BINARY else 1
    if name in BINARY and given.dim() > 1:
        outputs = int(given.shape[1])
    return Heard(name, where, _rank(name, target), reduction, outputs, ignore)


def _spread(given: Tensor) -> bool:
    """Whether numbers are repeated along an axis without being copied."""
    return any(size > 1 and not stride for size, stride in zip(given.shape, given.stride(), strict=True))


def _rank(name: str, target: Tensor) -> int:
    if name == "kl_div" or target.requires_grad:
        return 3
    if not target.is_floating_point():
        return 0
    return 1 if name in BINARY or name == "cross_entropy" or hot(target) else 2


def _look(line: Heard, given: Tensor) -> None:
    """Whether the rows are probabilities, and whether they are anything but log probabilities."""
    if line.name == "binary_cross_entropy_with_logits":
        line.probabilities.append(bool(((given > 0) & (given < 1)).all().item()))
        return
    if line.name not in IGNORING:
        return
    axis = 1 if given.dim() > 1 else 0
    if given.shape[axis] < 2:
        return
    sums = given.sum(axis)
    rows = bool((given >= 0).all().item()) and bool(((sums - 1).abs() < 1e-3).all().item())
    line.probabilities.append(rows)
    if line.name == "nll_loss":
        line.logits.append(bool(((given.exp().sum(axis) - 1).abs() > 1e-2).any().item()))


def _labels(line: Heard) -> tuple[list[np.ndarray], float | None]:
    """Labels batch by batch without those that count for nothing, and the share of the latter."""
    if not line.targets:
        return [], None
    if not line.targets[0].is_floating_point():
        flat = [target.reshape(-1).long().numpy() for target in line.targets]
        kept = [one if line.ignore is None else one[one != line.ignore] for one in flat]
        return kept, 1 - sum(map(len, kept)) / max(sum(map(len, flat)), 1)
    if line.name in BINARY and all(target.dim() == 1 or target.shape[-1] == 1 for target in line.targets):
        return [target.reshape(-1).round().long().numpy() for target in line.targets], None
    one_hot = all(hot(target) for target in line.targets)
    soft = line.name == "cross_entropy" and all(target.dim() == 2 for target in line.targets)
    if not one_hot and not soft:
        return [], None
    rows = [(target.argmax(1), target.abs().sum(1) > 0) for target in line.targets]
    kept = [labels[counts].numpy() for labels, counts in rows]
    return kept, 1 - sum(map(len, kept)) / max(sum(len(labels) for labels, _ in rows), 1)
