"""What lies on the device for as long as an engine is used: examples, a trainer, slots or a bank, the round's model."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.engine.cuda.bank import Bank, evenly
from fedlens.engine.cuda.crew import Crew
from fedlens.engine.cuda.device import Device, Uncaptured
from fedlens.engine.cuda.exam import Exam
from fedlens.engine.cuda.examples import Examples, moved, placed
from fedlens.engine.cuda.slot import Shape, Slot, bound_on
from fedlens.engine.cuda.stack import can_stack
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Trainer
from fedlens.errors import Problem
from fedlens.methods.method import Vectors
from fedlens.tree import Tree

LARGE = 10**6  # weights, from which on few slots are taken
FEW, MANY = 4, 12  # slots for large and small models: a bet until bench/gpu.py has been run
# Bets, too: the weights of a model up to which a bank is tried, its places, and the entries of one of its matrices.
SMALL, PLACES, ENTRIES = 2 * 10**6, 128, 2**26


class Resident:
    """`trainer` is `host`, the trainer on the CPU, moved. `captures`: whether visits are done in slots; `places`: how
    many are done in a bank at once, of `together` that are wanted and `expected` in a round (1: none)."""

    def __init__(
        self, host: Trainer, test: Dataset, device: Device, slots: int | None, together: int, expected: int
    ) -> None:
        self.host, self.test, self.device = host, test, device
        where, dtype = device.where, host.bound.vector.dtype
        bound = bound_on(host.bound.module, where, dtype)
        self.trainer = replace(host, bound=bound, data=placed(host.data, where), augment=moved(host.augment))
        if host.kept is not None:
            vars(self.trainer)["kept"] = host.kept.to(where)  # where the vectors are that it is applied to
        self.captures = is_captured(host)
        self.places = evenly(expected, together) if together > 1 and is_banked(host) else 1
        self.slots = slots or (FEW if host.bound.layout.trained > LARGE else MANY)
        self.received = {name: torch.zeros_like(bound.gradient) for name in host.method.sends}
        self._crew: Crew | None = None
        self._bank: Bank | None = None
        self._last: tuple[Tensor, int, Tree] | None = None

    def tree(self, tree: Tree) -> Tree:
        """`tree` on the device; asked for the same again, the same."""
        vector, version = tree.vector, tree.vector._version
        if self._last is None or self._last[0] is not vector or self._last[1] != version:
            self._last = vector, version, tree.with_(vector.to(self.device.where), on(tree.integers, self.device.where))
        return self._last[2]

    def crew(self, visits: Sequence[Visit]) -> Crew:
        """Slots that have room for each of `visits`."""
        shape = Shape.of(visits)
        if self._crew is None or not self._crew.shape.holds(shape):
            self.dismiss()
            self._crew = Crew(shape.twice(), self._slot, self.slots)
        return self._crew

    def bank(self, visits: Sequence[Visit]) -> Bank:
        """A bank that has room for each of `visits`. Raises Uncaptured where the device has no room for the bank."""
        shape = Shape.of(visits)
        if self._bank is None or not self._bank.shape.holds(shape):
            self.dismiss()
            # As with slots, room for later rounds; but wide places for many clients would take much memory.
            room, lane = Shape(2 * shape.steps, shape.width), self.device.lane()
            try:
                self._bank = Bank(self.trainer, self.examples, lane, room, self.places, self.received)
            except torch.OutOfMemoryError as error:
                raise Uncaptured(str(error)) from error
        return self._bank

    def dismiss(self) -> None:
        """Give up slots and bank, if there are any."""
        if self._crew is not None or self._bank is not None:
            self.device.finish()
            self._crew = self._bank = None
            gc.collect()  # a graph's step refers to the slot that holds the graph

    @cached_property
    def exam(self) -> Exam:
        """The test set, and the module that is examined on it."""
        compute, bound = self.trainer.compute, self.trainer.bound
        test = Examples(placed(self.test, self.device.where), bound.vector.dtype, None, compute.channels_last)
        return Exam(bound, test, len(self.test.classes), compute, self.device.lane())

    @cached_property
    def examples(self) -> Examples:
        """What clients train on."""
        there = self.trainer
        return Examples(there.data, there.bound.vector.dtype, moved(there.augment), there.compute.channels_last)

    def _slot(self, shape: Shape) -> Slot:
        return Slot(self.trainer, self.examples, self.device.lane(), shape, self.received)


def is_captured(trainer: Trainer) -> bool:
    """Whether a visit is one row of plain steps; a loss that asks another model shows only when it is called."""
    method = trainer.method
    return method.perturb is None and method.own is None and not method.phases and trainer.privacy is None


def is_banked(trainer: Trainer) -> bool:
    """Whether visits can be done in a bank: as in slots, by a model and a loss that can be stacked."""
    return is_captured(trainer) and can_stack(trainer)


def suited(trainer: Trainer, cohort: int) -> int:
    """How many of a `cohort`'s clients to try in a bank, where the settings leave it open; 1: none."""
    trained = trainer.bound.layout.trained
    if trained > SMALL or not is_banked(trainer):
        return 1
    return evenly(cohort, min(PLACES, ENTRIES // trained))


def on(vectors: Vectors, where: torch.device) -> dict[str, Tensor]:
    """`vectors` on a device."""
    return {name: vector.to(where) for name, vector in vectors.items()}


def tell(cause: Uncaptured, instead: str) -> None:
    """Warn that what was to be captured is not, unless that was to be expected."""
    if cause.__cause__ is None:
        return
    reason = cause.__cause__.__context__ or cause.__cause__  # ending a failed capture raises once more
    what, do = "a step cannot be captured as a CUDA graph", "Let the model read nothing back from the device."
    seen = f"{type(reason).__name__}: {reason}; {instead}"
    warnings.warn(str(Problem(what, 'engine.kind = "cuda"', seen, do)), RuntimeWarning, stacklevel=2)
