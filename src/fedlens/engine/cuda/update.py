"""An optimiser's step in a form that can be captured: no number in it that would be read back or frozen."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedlens.local.optimizer import Correct, Optimizer, State


@dataclass(frozen=True)
class Update(Optimizer):
    """`Optimizer.step` where the rate, and Adam's count of steps, are numbers on the device."""

    def take(self, weights: Tensor, gradient: Tensor, state: State, rate: Tensor, correct: Correct | None) -> None:
        """As `step`, with a `rate` [], or [C, 1] for `weights` [C, P]; Adam's count has the same shape."""
        self.step(weights, gradient, state, rate, correct)  # type: ignore[arg-type]  # clipping and decay take either

    def _sgd(self, weights: Tensor, gradient: Tensor, state: State, rate: float | Tensor) -> None:
        assert isinstance(rate, Tensor)
        direction = gradient
        if state:
            momentum = state["momentum"].mul_(self.local.momentum).add_(gradient)
            direction = gradient.add_(momentum, alpha=self.local.momentum) if self.local.nesterov else momentum
        weights.addcmul_(direction, rate.to(weights.dtype), value=-1)

    def _adam(self, weights: Tensor, gradient: Tensor, state: State, rate: float | Tensor) -> None:
        beta1, beta2 = self.local.betas
        count = state["count"].add_(1)
        first = state["first"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        second = state["second"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = second.sqrt().div_((1 - beta2**count).sqrt().to(weights.dtype)).add_(self.local.eps)
        weights.addcdiv_(first * (rate / (1 - beta1**count)).to(weights.dtype), scale, value=-1)
