"""The rival: federated averaging as a careful person writes it for one experiment, in plain PyTorch.

Images lie in memory as floats, one module serves all clients, its tensors are set back in place, a step is one call for
all parameters, and sums grow as clients finish. There is no data loader, no copy of the module and no state dict.
Floating buffers (batch norm's running statistics) are averaged as parameters are. Nothing of fedlens is used.
"""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cohort = Sequence[Tensor]  # the examples of each client, i64 [n_i], in the order in which it trains on them


@dataclass
class OneProcess:
    """The loop in this process, with the threads that PyTorch has been given.

    `inputs` f32 [N, ...], `labels` i64 [N]; `rounds`: the cohort of each round; `average`: the model between rounds,
    parameters and then floating buffers.
    """

    module: nn.Module
    inputs: Tensor
    labels: Tensor
    rounds: Sequence[Cohort]
    rate: float
    batch: int = 10
    average: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.module.train()
        self._parameters = list(self.module.parameters())
        self._weights = [parameter.detach() for parameter in self._parameters]
        self._state = self._weights + [b for b in self.module.buffers() if b.is_floating_point()]
        self.average = [tensor.clone() for tensor in self._state]

    def round(self, number: int) -> None:
        """Make `average` of the model after round `number`, from 0."""
        sums = self.sums(self.rounds[number], self.average)
        torch._foreach_div_(sums, float(sum(map(len, self.rounds[number]))))
        self.average = sums

    def sums(self, cohort: Cohort, start: list[Tensor]) -> list[Tensor]:
        """The models of `cohort` trained from `start`, each times its number of examples, added up."""
        sums = [torch.zeros_like(tensor) for tensor in start]
        for examples in cohort:
            torch._foreach_copy_(self._state, start)
            inputs, labels = self.inputs[examples], self.labels[examples]
            for at in range(0, len(examples), self.batch):
                outputs = self.module(inputs[at : at + self.batch])
                loss = F.cross_entropy(outputs, labels[at : at + self.batch])
                torch._foreach_add_(self._weights, torch.autograd.grad(loss, self._parameters), alpha=-self.rate)
            torch._foreach_add_(sums, self._state, alpha=len(examples))
        return sums

    def load(self) -> nn.Module:
        """The module with `average` in it."""
        torch._foreach_copy_(self._state, self.average)
        return self.module

    def close(self) -> None:
        """Nothing is held."""


class Processes:
    """The same in `count` forked processes of one thread each, which see one start and leave one sum each.

    Make it in a process that has used one thread only: a forked child must not inherit a pool of threads.
    """

    def __init__(self, loop: OneProcess, count: int) -> None:
        self.loop, size = loop, sum(tensor.numel() for tensor in loop.average)
        memory = torch.frombuffer(mmap.mmap(-1, 4 * size * (count + 1)), dtype=torch.float32).view(count + 1, size)
        self._sums, start = memory[1:], self._views(memory[0])
        self._start = start
        self._pipes: list[Connection] = []
        context = multiprocessing.get_context("fork")
        for hand in range(count):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            context.Process(target=self._serve, args=(hand, theirs), daemon=True).start()
            theirs.close()

    def round(self, number: int) -> None:
        """Make the average of the model after round `number`, from 0."""
        torch._foreach_copy_(self._start, self.loop.average)
        for pipe in self._pipes:
            pipe.send(number)
        for pipe in self._pipes:
            pipe.recv()
        examples = sum(map(len, self.loop.rounds[number]))
        self.loop.average = self._views(self._sums.sum(0).div_(examples))

    def load(self) -> nn.Module:
        """The module with the average in it."""
        return self.loop.load()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()

    def _views(self, vector: Tensor) -> list[Tensor]:
        parts = vector.split([tensor.numel() for tensor in self.loop.average])
        return [part.view_as(tensor) for part, tensor in zip(parts, self.loop.average, strict=True)]

    def _serve(self, hand: int, pipe: Connection) -> None:
        for other in self._pipes:
            other.close()
        torch.set_num_threads(1)
        torch.manual_seed(hand)  # else all would drop the same units
        mine = self._views(self._sums[hand])
        while True:
            try:
                number = pipe.recv()
            except (EOFError, ConnectionError):
                return
            cohort = self.loop.rounds[number][hand :: len(self._sums)]
            torch._foreach_copy_(mine, self.loop.sums(cohort, self._start))
            pipe.send(number)
