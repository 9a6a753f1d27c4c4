"""Optimisers as arithmetic on flat vectors [..., P]: no module, no parameter list.

State is a dict of vectors and one count, so that it can be kept, sent or checkpointed like any other vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.local.settings import Local

State = dict[str, Tensor]
Correct = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Optimizer:
    """One local optimiser. `step` changes weights and state in place.

    sgd: m = momentum*m + g; w -= rate * m (Nesterov: rate * (g + momentum*m)); the first m is g, as PyTorch has it.
    adam, adamw: Kingma and Ba 2015 with bias correction. Differs from torch.optim.Adam: weight decay is always
    decoupled (Loshchilov and Hutter 2019), so adam with weight_decay is adamw.
    """

    local: Local

    @property
    def plain(self) -> bool:
        """Whether a step is w -= rate * g and nothing else."""
        local = self.local
        return local.optimizer == "sgd" and not local.momentum and not local.weight_decay and local.clip_norm is None

    def start(self, weights: Tensor) -> State:
        """The state before the first step for `weights` [..., P]."""
        if self.local.optimizer == "sgd":
            return {"momentum": torch.zeros_like(weights)} if self.local.momentum else {}
        return {
            "first": torch.zeros_like(weights),
            "second": torch.zeros_like(weights),
            "count": torch.zeros((), dtype=torch.float64),
        }

    def reach(self, steps: int) -> float:
        """||a_i||_1 of Wang et al. 2020: how far `steps` steps of SGD at rate 1 go against a gradient of ones.

        The number of steps without momentum. Adam has no such number; there it is the number of steps, too.
        """
        if not self.local.momentum or self.local.optimizer != "sgd":
            return float(steps)
        momentum, velocity, reach = self.local.momentum, 0.0, 0.0
        for _ in range(steps):
            velocity = momentum * velocity + 1
            reach += 1 + momentum * velocity if self.local.nesterov else velocity
        return reach

    def step(
        self, weights: Tensor, gradient: Tensor, state: State, rate: float, correct: Correct | None = None
    ) -> None:
        """Move `weights` [..., P] against `gradient` [..., P]; `gradient` may be overwritten.

        `correct` (gradient, weights) -> gradient changes the gradient after clipping, so that a method's terms are not
        clipped away.
        """
        local = self.local
        if local.clip_norm is not None:
            norm = gradient.norm(dim=-1, keepdim=True)
            gradient.mul_((local.clip_norm / norm.clamp_min(1e-30)).clamp(max=1.0))
        if correct is not None:
            gradient = correct(gradient, weights)
        if local.weight_decay:
            weights.mul_(1 - rate * local.weight_decay)
        if local.optimizer == "sgd":
            self._sgd(weights, gradient, state, rate)
        else:
            self._adam(weights, gradient, state, rate)

    def _sgd(self, weights: Tensor, gradient: Tensor, state: State, rate: float) -> None:
        if not state:
            weights.add_(gradient, alpha=-rate)
            return
        momentum = state["momentum"].mul_(self.local.momentum).add_(gradient)
        direction = gradient.add_(momentum, alpha=self.local.momentum) if self.local.nesterov else momentum
        weights.add_(direction, alpha=-rate)

    def _adam(self, weights: Tensor, gradient: Tensor, state: State, rate: float) -> None:
        beta1, beta2 = self.local.betas
        count = state["count"].add_(1).item()
        first = state["first"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        second = state["second"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = second.sqrt().div_(math.sqrt(1 - beta2**count)).add_(self.local.eps)
        weights.addcdiv_(first, scale, value=-rate / (1 - beta1**count))
