"""Ragged clients for fully connected models, and the visits of `fedlens.local.train` that batched ones must equal."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from fedlens import Local
from fedlens.local import Optimizer, Trained, Work, train
from fedlens.local.chain.chain import Chain, chain_of
from fedlens.local.chain.chunk import Chunk
from fedlens.tree import Layout, Tree, bind

Batches = list[np.ndarray]
SIZES = (9, 11, 4, 4, 7, 1)  # of clients, in batches of 4: with and without a short last one, one example, two alike


def line(*widths: int, bias: bool = True) -> nn.Sequential:
    """Linear layers between `widths`, rectified in between, with the same values every time."""
    torch.manual_seed(len(widths))
    layers: list[nn.Module] = [nn.Flatten()]
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


MODELS = {
    "logistic": lambda: line(12, 3),
    "logistic-no-bias": lambda: line(12, 3, bias=False),
    "mlp": lambda: line(12, 7, 3),
    "mlp-no-bias": lambda: line(12, 7, 3, bias=False),
    "three-layers": lambda: line(12, 7, 6, 3),
}


@dataclass
class Case:
    """A model, examples f64 [60, 3, 4], and each client's batches, those with most steps first."""

    module: nn.Sequential
    inputs: Tensor
    labels: Tensor
    clients: list[Batches]

    @property
    def chain(self) -> Chain:
        found = chain_of(self.module, Layout.of(self.module))
        assert found is not None
        return found

    @property
    def start(self) -> Tensor:
        return Tree.of(self.module, torch.float64).vector

    @property
    def chunk(self) -> Chunk:
        return Chunk.of(self.clients)

    @property
    def given(self) -> tuple[Tensor, Tensor, Tensor, Chunk]:
        """What batched training takes first: start, inputs, labels, chunk."""
        chunk = self.chunk
        return self.start, self.inputs[chunk.chosen], self.labels[chunk.chosen], chunk

    def alone(self, client: int, local: Local, correct: Callable[[Tensor, Tensor], Tensor] | None = None) -> Trained:
        """One client's visit by automatic differentiation."""
        batches = [(self.inputs[at], self.labels[at]) for at in self.clients[client]]
        bound = bind(copy.deepcopy(self.module), torch.float64)
        work = Work(batches, local.lr, 0, correct)
        return train(bound, Tree.of(self.module, torch.float64), work, Optimizer(local))


def case(model: str = "mlp", sizes: Sequence[int] = SIZES, epochs: int = 3) -> Case:
    """Clients of `sizes`, all with `epochs` passes in batches of 4 but the second, which takes one step fewer."""
    rng, draw = np.random.default_rng(3), torch.Generator().manual_seed(3)
    inputs = torch.randn(60, 3, 4, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, 3, (60,), generator=draw)
    own = np.split(rng.permutation(60), np.cumsum(sizes))[: len(sizes)]
    clients = []
    for mine in own:
        passes = [rng.permutation(mine) for _ in range(epochs)]
        clients.append([one[at : at + 4] for one in passes for at in range(0, len(mine), 4)])
    if len(clients) > 1 and len(clients[1]) > 1:
        clients[1].pop()
    return Case(MODELS[model](), inputs, labels, sorted(clients, key=len, reverse=True))


def near(ours: Tensor, theirs: Tensor) -> bool:
    """Equal to 1e-12 of the longest vector."""
    return bool((ours - theirs).abs().max() <= 1e-12 * theirs.abs().max())
