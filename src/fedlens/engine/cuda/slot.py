"""Room on the device for one visit at a time: everything that a captured step reads and writes lies in one place."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlens.engine.cuda.device import Lane, Repeated, Uncaptured
from fedlens.engine.cuda.examples import Examples, height
from fedlens.engine.cuda.update import Update
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Trainer
from fedlens.local import Broken, Diverged, Trained
from fedlens.local.statistics import freeze_statistics
from fedlens.local.tap import tapped
from fedlens.methods import Answers, Client, Lesson
from fedlens.methods.method import Vectors
from fedlens.tree import Bound, Tree, bind

AT_ONCE = 32  # steps that are asked for before the next slot gets its turn
ASKED = 2  # such portions that may be under way in one slot


class Job(NamedTuple):
    """A visit, and on the device: the model it begins with, what the method may know, what its client remembers."""

    visit: Visit
    begin: Tree
    client: Client
    state: Vectors


class Shape(NamedTuple):
    """The longest visit that a slot has room for: so many steps, with so many examples in a batch."""

    steps: int
    width: int

    @classmethod
    def of(cls, visits: Sequence[Visit]) -> Shape:
        """What `visits` need."""
        sizes = [visit.sizes for visit in visits]
        return cls(max(map(len, sizes)), max(int(size.max()) for size in sizes))

    def holds(self, other: Shape) -> bool:
        """Whether a visit of the `other` shape fits."""
        return self.steps >= other.steps and self.width >= other.width

    def twice(self) -> Shape:
        """Room for later rounds, whose clients may be larger: room costs little, new graphs cost seconds."""
        return Shape(2 * self.steps, 2 * self.width)


class Slot:
    """A module of its own over static vectors, and its captured steps, one for every size of a batch.

    A step reads its row of the table at the device's own counter, so that nothing is asked of Python on the way.
    """

    def __init__(self, there: Trainer, examples: Examples, lane: Lane, shape: Shape, received: Vectors) -> None:
        self.examples, self.lane, self.compute, self.shape = examples, lane, there.compute, shape
        self.bound = bound_on(there.bound.module, there.bound.vector.device, there.bound.vector.dtype)
        self.weights = self.bound.vector[: self.bound.layout.trained]
        self.begin = torch.empty_like(self.bound.vector)
        start = self.begin[: self.bound.layout.trained]
        one = torch.ones((), dtype=torch.float64, device=start.device)
        memory = {name: torch.zeros_like(start) for name in there.method.client_memory}
        self.client = Client(start, received, memory, one.clone(), one.clone())
        self.update = Update(there.local)
        self.state = {name: value.to(start.device) for name, value in self.update.start(start).items()}
        self.correct, self.loss = there.method.correct, there.method.loss
        self.table = one.new_zeros(shape.steps, height(there.augment), shape.width, dtype=torch.int64)
        self.counter, self.losses = one.new_zeros(1, dtype=torch.int64), start.new_zeros(shape.steps)
        self.counts = one.new_zeros(len(there.data.classes), dtype=torch.int64)
        self.steps: dict[tuple[int, bool], Repeated] = {}
        self.marks: deque[Callable[[], bool]] = deque()

    def start(self, job: Job, table: Tensor, counts: Tensor | None, seed: int) -> None:
        """Take over a visit. `table` [K, rows, width]: what its steps read."""
        while self.marks:  # steps before one that raised may still be under way
            self._look()
        self.job, self.sizes, self.done = job, job.visit.sizes.tolist(), 0
        self.begin.copy_(job.begin.vector)
        self.bound.load(job.begin)
        self.table[: len(table)].copy_(table)
        for name, vector in self.client.memory.items():
            vector.copy_(job.client.memory[name])
        for name, value in self.state.items():
            kept = job.state.get(f"optimizer.{name}")
            value.zero_() if kept is None else value.copy_(kept)
        for number, now in ((self.client.rate, job.visit.rate), (self.client.reach, job.client.reach)):
            assert isinstance(number, Tensor)
            number.fill_(now)
        if counts is not None:
            self.counts.copy_(counts)
        self.counter.zero_()
        self.lane.seed(seed)
        self.lane.follow()

    def go(self) -> bool:
        """Ask for some steps more; whether all are done. Raises Broken, and Uncaptured."""
        self._look()
        if len(self.marks) < ASKED and self.done < len(self.sizes):
            try:
                with self.lane.active():
                    for size in self.sizes[self.done : self.done + AT_ONCE]:
                        self._take(size)
            finally:
                self.marks.append(self.lane.mark())
        return self.done == len(self.sizes) and not self.marks

    def finish(self) -> Trained:
        """What came out, in vectors of its own. Raises Diverged, for the step at which sequential training would."""
        losses = self.losses[: len(self.sizes)].tolist()
        check_finite(losses, self.bound.vector.norm().item(), self.job.visit.rate)
        state = {name: value.clone() for name, value in self.state.items()}
        return Trained(self.bound.vector.clone(), self.bound.copied_integers(), losses, state)

    def _look(self) -> None:
        """Forget the portions that are done."""
        while self.marks and self.marks[0]():
            self.marks.popleft()

    def _take(self, size: int) -> None:
        key = size, self.job.visit.frozen_statistics
        if key not in self.steps:
            self.steps[key] = Repeated(self.lane, lambda: self._step(*key))
        self.done += 1
        try:
            self.steps[key]()
        except Uncaptured:
            raise
        except Exception as error:
            raise Broken(self.done) from error

    def _step(self, size: int, frozen: bool) -> None:
        """One step on the `size` examples of the batch at the counter."""
        module = self.bound.module.train()
        if frozen:
            freeze_statistics(module)
        row = self.table.index_select(0, self.counter)[0, :, :size]
        inputs = self.examples.inputs(row[0], row[2:].T)
        with tapped(module, wanted=self.loss is not None) as tap:
            outputs = self.compute.forward(module, inputs)  # opens and ends its own autocast: no cast outlives it
        loss = self._value(outputs, row[1], tap.features)
        # Handed over and copied, not added into a gradient that was set to zero: a third of the bytes.
        slopes = torch.autograd.grad(loss, self.bound.parameters, materialize_grads=True)
        with torch.no_grad():
            torch.cat([slope.reshape(-1) for slope in slopes], out=self.bound.gradient)
            self.update.take(self.weights, self.bound.gradient, self.state, self._rate, self._corrected)
            self.losses.index_copy_(0, self.counter, loss.detach().to(self.losses.dtype).reshape(1))
            self.counter.add_(1)

    @property
    def _rate(self) -> Tensor:
        assert isinstance(self.client.rate, Tensor)
        return self.client.rate

    def _corrected(self, gradient: Tensor, weights: Tensor) -> Tensor:
        return gradient if self.correct is None else self.correct(gradient, weights, self.client)

    def _value(self, outputs: Tensor, labels: Tensor, features: Tensor | None) -> Tensor:
        if self.loss is None:
            return F.cross_entropy(outputs, labels)
        return self.loss(outputs, labels, Lesson(self.counts, self.client, features, _unanswered))


def check_finite(losses: Sequence[float], norm: float, rate: float) -> None:
    """Raise Diverged where a step's loss or the `norm` of what came out is not finite."""
    for number, loss in enumerate(losses, 1):
        if not math.isfinite(loss):
            raise Diverged(number, loss, rate, f"loss is {loss}")
    if not math.isfinite(norm):
        raise Diverged(len(losses), losses[-1], rate, "a weight is not finite")


def bound_on(module: nn.Module, where: torch.device, dtype: torch.dtype) -> Bound:
    """A copy of `module` on a device, bound to vectors there."""
    with where:
        copied = copy.deepcopy(module).to(where)
        for mine, theirs in zip(copied.parameters(), module.parameters(), strict=True):
            if theirs._backward_hooks:  # a copied module keeps its hooks, a copied parameter does not
                mine._backward_hooks = theirs._backward_hooks
        return bind(copied, dtype)


def _unanswered(weights: Tensor) -> Answers:
    raise Uncaptured("the loss asks what another model says of a batch")
