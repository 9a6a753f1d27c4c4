"""What an evaluation makes of the test inputs before the network sees them (D9)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.answers import class_numbers
from fedlens.diagnosis.probes.asked import Asked
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Patient

MOST = 2**27  # numbers of inputs that are kept to be compared


class _Fed:
    """The inputs of calls that no other module makes."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.depth = 0
        self.numbers = 0

    def before(self, module: nn.Module, args: Any) -> None:
        """`module` is about to be called."""
        if self.depth == 0 and args and isinstance(args[0], Tensor) and args[0].dim() > 1:
            self.numbers += args[0].numel()
            if self.numbers <= MOST:
                self.rows.append(args[0].detach().flatten(1).clone())
        self.depth += 1

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """`module` was called, or failed."""
        self.depth -= 1


def altered(patient: Patient, state: State, round: int, test: tuple[Tensor, Tensor]) -> float | None:
    """The share of the `test` inputs [N, ...] that one evaluation of `state` does not show the network as they are.

    None where it does not ask for just as many, with just these labels (as many of each class), or nothing is heard.
    """
    inputs, labels = test
    try:
        with _listening() as fed, Asked() as heard:
            patient.evaluate(state, round)
    except Ailing:
        return None
    rows = torch.cat(fed.rows) if fed.rows and len({one.shape[1] for one in fed.rows}) == 1 else torch.empty(0, 0)
    if fed.numbers > MOST or rows.shape != inputs.flatten(1).shape or not _same_labels(heard.labels, labels):
        return None
    held = {_key(row) for row in inputs.flatten(1).to(rows.dtype)}
    return sum(_key(row) not in held for row in rows) / len(rows)


@contextmanager
def _listening() -> Iterator[_Fed]:
    fed = _Fed()
    hooks = (
        register_module_forward_pre_hook(fed.before),
        register_module_forward_hook(fed.after, always_call=True),
    )
    try:
        yield fed
    finally:
        for hook in hooks:
            hook.remove()


def _key(row: Tensor) -> bytes:
    return row.cpu().contiguous().numpy().tobytes()


def _same_labels(heard: list[Tensor], labels: Tensor) -> bool:
    truth = class_numbers(labels)
    said = torch.cat([one.flatten().long() for one in heard]) if heard else truth[:0]
    return len(said) == len(truth) and torch.equal(said.sort().values, truth.sort().values)
