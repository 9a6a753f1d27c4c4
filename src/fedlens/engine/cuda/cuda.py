"""Several clients at the same time on one GPU, each a queue of captured steps.

A step of a small batch asks a GPU for some hundred kernels of a few microseconds each, which takes Python ten times as
long as the GPU. Captured once as a graph and repeated, it takes the GPU's time alone; and because one client's batch
fills a fraction of the GPU, several clients train beside each other (docs: bench/gpu.md, what is measured and what is
not). Examples, weights, optimiser states and sums stay on the device.

Clients of small models can do better (`together`): a bank trains many by one step, whose kernels they share. Not in it:
models with buffers, or that draw numbers or look at a batch as a whole, and losses of a method's own.

Not captured, but done on the device by the ordinary trainer, one visit after another: methods with phases, a second
model, a second gradient in a step (perturb) or a loss that asks another model; private gradients of single examples;
and models whose passes cannot be captured (tried, and told in a warning). Done on the CPU: codecs, bounds and robust
rules, which look at single uploads; tuning, hold-outs and clients' losses, which the runs measure there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from fedlens.data import Dataset
from fedlens.engine.cuda.cohort import CPU, Cohort
from fedlens.engine.cuda.device import Device, Gpu, Uncaptured
from fedlens.engine.cuda.examples import in_memory
from fedlens.engine.cuda.resident import Resident, on, tell
from fedlens.engine.plan import Visit
from fedlens.engine.sequential import Dispatch, Given, Outcome, Sequential
from fedlens.errors import ConfigurationError
from fedlens.local.evaluate import Tally
from fedlens.methods.method import Vectors
from fedlens.server import Mean, Plain, Sum
from fedlens.tree import Tree


def check_cuda(*data: Dataset) -> None:
    """Raise ConfigurationError where PyTorch finds no GPU, or `data` cannot lie on it."""
    for one in data:
        in_memory(one)
    if torch.cuda.is_available():
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise ConfigurationError(
        "there is no GPU to train on",
        where="engine.kind",
        seen=f"PyTorch {torch.__version__}, {built}, finds no CUDA device",
        do='Set engine.kind = "auto", or look with nvidia-smi whether the driver sees a GPU.',
    )


@dataclass(frozen=True)
class Cuda(Sequential):
    """The sequential engine with `slots` clients at the same time (None: as many as suit the model) on `device`, or
    with up to `together` of them in one step, where the model, the method and the work have that form (1: none).

    Any number of slots gives the same run: what a visit comes to does not depend on its slot, and sums are taken in
    the order of the visits. Any number together gives the same run to rounding: who stands beside whom says in which
    order products add up; the same number gives the same run again. From other engines it differs by rounding, and by
    dropout's masks. Call `close` when the run is over.
    """

    slots: int | None = None
    device: Device = field(default_factory=Gpu)
    together: int = 1

    def round(self, tree: Tree, received: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors]) -> Outcome:
        """As of the sequential engine; the sums end on the CPU."""
        outcome = super().round(tree, received, visits, memory)
        for total in (*outcome.sums.values(), outcome.rest):
            if isinstance(total, Sum) and total.total is not None:
                total.total = total.total.cpu()
        outcome.integers = on(outcome.integers, CPU)
        return outcome

    def work(self, dispatch: Dispatch, groups: Sequence[Sequence[Visit]]) -> Iterator[Given]:
        """What each of `groups` gives, in their order; a vector in it is good until the next is asked for."""
        with self.device.exact():
            cohort = Cohort(self._here, *dispatch, self._summed)
            given = cohort.give([visit for group in groups for visit in group])
            for group in groups:
                yield [next(given) for _ in group]

    def tallies(self, tree: Tree, order: np.ndarray, statistics: Literal["running", "batch"]) -> Iterable[Tally]:
        """What the test examples at `order` come to, in one part."""
        with self.device.exact():
            try:
                yield self._here.exam.tally(tree, order, statistics)
            except Uncaptured as cause:
                tell(cause, "evaluation runs on the CPU")
                yield from super().tallies(tree, order, statistics)

    def recalibrated(self, tree: Tree, visits: Sequence[Visit]) -> Tree:
        """`tree` with running statistics as the examples of `visits` have them, measured on the device."""
        there = Sequential(self._here.trainer, self.rule, self.expected, self.test, recalibrate=self.recalibrate)
        with self.device.exact():
            return there.recalibrated(tree, visits)

    def close(self) -> None:
        """Give back what lies on the device; the engine can be used again."""
        here = self.__dict__.pop("_here", None)
        if here is not None:
            here.dismiss()
            del here
            gc.collect()  # as there, of the evaluation

    @cached_property
    def _here(self) -> Resident:
        return Resident(self.trainer, self.test, self.device, self.slots, self.together, self.expected)

    @property
    def _summed(self) -> bool:
        """Whether uploads are added up as they are: codecs and bounds read them on the CPU, other rules compare."""
        sender = self.trainer.sender
        return isinstance(self.rule, Mean) and sender.mechanism is None and isinstance(sender.communication.up, Plain)
