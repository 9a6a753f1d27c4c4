"""Plain SGD on chains without first-layer weights for each client.

Every gradient of the first layer is slope^T X over the client's own examples X_c [n, D]. After any number of steps
W_c = W - rate * S_c^T X_c, where row i of S_c [n, H] sums the slopes that example i has passed down. What a step needs,
X_c W_c^T = X_c W^T - rate * (X_c X_c^T) S_c, takes one product for all clients, made once, and each client's small Gram
matrix; a bias is one more input, always 1. The sum over clients is one product again. Exact but for rounding. Layers
above the first are held for each client.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedlens.local.chain.chain import Chain, Part, Stacked, copies, descend, first, flat
from fedlens.local.chain.chunk import Chunk
from fedlens.local.optimizer import Optimizer
from fedlens.local.settings import Local

LANES = 16  # float32 numbers in a vector register
CACHED = 2**22  # bytes of weights that dense training goes through at once: beyond, they leave the caches


class Sums(NamedTuple):
    """What C clients' work adds up to: `update` [T] = sum of p_c (w_c - w) over those that are `finite` (bool [C]);
    the norms [C] of w_c - w; the loss of every step [C, K], nan after a client's last."""

    update: Tensor
    norms: Tensor
    losses: Tensor
    finite: Tensor


@torch.no_grad()
def sums(
    chain: Chain, start: Tensor, inputs: Tensor, labels: Tensor, chunk: Chunk, weights: Tensor, rate: float
) -> Sums:
    """Plain SGD of C clients from `start` [T], summed with `weights` p [C]; dual or dense, whichever takes less.

    `inputs` and `labels` as in Chain.train. A client that leaves the finite numbers is left out of the sum, and changes
    nothing of the others' parts.
    """
    if pays(chain, chunk):
        return walk(chain, start, inputs, labels, chunk, rate).sums(weights)
    together, total, losses = max(1, CACHED // start.nbytes), torch.zeros_like(start), chunk.no_losses(start)
    norms, finite = torch.empty_like(losses[:, 0]), torch.empty(len(losses), dtype=torch.bool)
    for begin in range(0, len(losses), together):
        part, rows = chunk.part(begin, begin + together)
        some = slice(begin, begin + len(part.steps))
        trained = chain.train(start, inputs[rows], labels[rows], part, rate, Optimizer(Local()))
        updates = trained.weights.sub_(start)
        losses[some, : len(part.counts)], norms[some] = trained.losses, updates.norm(dim=1)
        finite[some] = _finite(part, trained.losses, norms[some])
        total += _weighted(weights[some], updates, finite[some])
    return Sums(total, norms, losses, finite)


def pays(chain: Chain, chunk: Chunk) -> bool:
    """Whether the dual form takes less time than the dense one, for clients of n examples that read m in their steps.

    Counted in operations of a wide product, as fitted on one core. Narrow products (a step's, a Gram matrix's) cost
    twice as much; a number read for a wide product costs what 10 columns of it do, a weight of one client, copied and
    summed, 100 operations. A Gram matrix must not take more memory than the examples do.
    """
    n, m, (outputs, inputs, *_) = chunk.sizes, chunk.counts.sum(0), chain.layers[0]
    dual = 4 * n * inputs * (outputs + 10 + n) + 4 * m * n * outputs
    dense = 8 * m * inputs * outputs + 100 * inputs * outputs
    return bool(n.max() <= inputs and dual.sum() < dense.sum())


@dataclass(frozen=True)
class Walk:
    """What C clients came to from `start` [T], the first layer in the dual form.

    `rows` [N, D]: the examples. `gram` [C, n, n] and `slopes` [C, n, H]: inner products and summed slopes of a client's
    examples; n is the most that one has, and slopes beyond a client's own are 0. `above`: the other layers.
    """

    chain: Chain
    start: Tensor
    chunk: Chunk
    rate: float
    rows: Tensor
    gram: Tensor
    slopes: Tensor
    above: list[Part]
    losses: Tensor

    def sums(self, weights: Tensor) -> Sums:
        """The updates, summed with `weights` p [C] over the finite clients."""
        squares = (torch.bmm(self.gram, self.slopes) * self.slopes).sum((1, 2)) * self.rate**2
        before = flat(self.chain.parts(self.start[None])[1:])
        changes = [now - then for now, then in zip(flat(self.above), before, strict=True)]
        squares += sum(change.square().sum(1) for change in changes)
        norms = squares.clamp_min(0).sqrt()  # rounding may take a client that hardly moved below zero
        finite = _finite(self.chunk, self.losses, norms)
        slopes, rows = self._own(self.slopes * (-self.rate * weights)[:, None, None], finite)
        update = torch.empty_like(self.start)
        (to_weight, to_bias), *above = self.chain.parts(update[None])
        torch.mm(slopes.T, rows, out=to_weight[0])
        if to_bias is not None:
            torch.sum(slopes, 0, out=to_bias[0])
        for to, change in zip(flat(above), changes, strict=True):
            to[0] = _weighted(weights, change, finite)
        return Sums(update, norms, self.losses, finite)

    def _own(self, slopes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """`slopes` [C, n, H] and examples of the clients that are `wanted` (bool [C]), without what is padded."""
        sizes = torch.from_numpy(self.chunk.sizes)
        padded = torch.arange(slopes.shape[1]) >= sizes[:, None]
        if wanted.all():
            return slopes.flatten(0, 1) if not padded.any() else slopes[~padded], self.rows
        return slopes[~padded & wanted[:, None]], self.rows[wanted.repeat_interleave(sizes)]

    def stacked(self) -> Stacked:
        """The weights of every client."""
        vectors = self.start.repeat(len(self.losses), 1)
        (weight, bias), *above = self.chain.parts(vectors)
        for clients, rows in _alike(self.chunk.sizes):
            size = self.chunk.sizes[clients.start]
            x = self.rows[rows].view(-1, size, self.rows.shape[1])
            weight[clients].baddbmm_(self.slopes[clients, :size].mT, x, alpha=-self.rate)
        if bias is not None:
            bias.sub_(self.slopes.sum(1), alpha=self.rate)
        for to, now in zip(flat(above), flat(self.above), strict=True):
            to.copy_(now)
        return Stacked(vectors, self.losses, {})


@torch.no_grad()
def walk(chain: Chain, start: Tensor, inputs: Tensor, labels: Tensor, chunk: Chunk, rate: float) -> Walk:
    """Plain SGD of C clients from `start` [T]; `inputs` and `labels` as in Chain.train."""
    (weight, bias), *above = chain.parts(start[None])
    rows, most, held = inputs.flatten(1).contiguous(), int(chunk.sizes.max()), copies(above, len(chunk.steps))
    products = rows @ weight[0].T if bias is None else torch.addmm(bias[0], rows, weight[0].T)
    gram = _gram(rows, chunk.sizes, bias is not None)
    slopes, losses = rows.new_zeros(len(chunk.steps), most, products.shape[1]), chunk.no_losses(start)
    shift = _shift(chunk.sizes)
    for step in chunk.each(labels, start.dtype):
        active, at = len(step.rows), step.rows.reshape(-1)
        padded = at if shift is None else (step.rows + shift[:active]).reshape(-1)
        x = products.index_select(0, at).view(*step.rows.shape, -1)
        if step.number:
            to_moved = gram.flatten(0, 1).index_select(0, padded).view(*step.rows.shape, -1)
            x.baddbmm_(to_moved, slopes[:active], alpha=-rate)
        slope = descend(first(held, active), x.relu_() if held else x, step, losses, rate, through=True)
        slopes.flatten(0, 1).index_add_(0, padded, slope.mT.flatten(0, 1))
    return Walk(chain, start, chunk, rate, rows, gram, slopes, held, losses)


def _shift(sizes: np.ndarray) -> Tensor | None:
    """What to add to a row of the N for its place among C * n, i64 [C, 1]; None where all clients have n examples."""
    shift = np.arange(len(sizes)) * sizes.max() - (np.cumsum(sizes) - sizes)
    return torch.from_numpy(shift)[:, None] if shift.any() else None


def _gram(rows: Tensor, sizes: np.ndarray, bias: bool) -> Tensor:
    """Inner products of each client's examples with one another [C, n, n]."""
    most = int(sizes.max())
    gram = rows.new_zeros(len(sizes), most, most)
    for clients, at in _alike(sizes):
        size = int(sizes[clients.start])
        # A product whose width is no multiple of LANES may take three times as long: the next clients' rows fill it up.
        width = min(-(-size // LANES) * LANES, len(rows) - at.stop + size)
        windows = rows[at.start : at.stop - size + width].unfold(0, width, size)
        gram[clients, :size, :size] = torch.bmm(rows[at].view(-1, size, rows.shape[1]), windows)[:, :, :size]
    return gram.add_(1) if bias else gram


def _alike(sizes: np.ndarray) -> list[tuple[slice, slice]]:
    """Neighbouring clients of one size, and the last one alone: places among clients, and of examples among rows."""
    changes = np.flatnonzero(np.diff(sizes)) + 1
    edges = np.unique(np.concatenate(([0], changes, [len(sizes) - 1, len(sizes)])))
    rows = np.concatenate(([0], np.cumsum(sizes)))[edges]
    return [(slice(*clients), slice(*at)) for clients, at in zip(pairwise(edges), pairwise(rows), strict=True)]


def _finite(chunk: Chunk, losses: Tensor, norms: Tensor) -> Tensor:
    """Which clients' losses and weights are all finite, bool [C]."""
    return (losses.isfinite().sum(1) == torch.from_numpy(chunk.steps)) & norms.isfinite()


def _weighted(weights: Tensor, changes: Tensor, finite: Tensor) -> Tensor:
    """The sum over the finite clients of p_c times their row of `changes` [C, ...]."""
    return weights @ changes if finite.all() else weights[finite] @ changes[finite]
