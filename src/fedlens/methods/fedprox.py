"""FedProx: a pull towards the model that was sent, against client drift.

Source: Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, Algorithm 2: client i minimises
F_i(w) + mu/2 ||w - w^t||^2, whose gradient is g + mu (w - w^t).
Differs from the paper: the pull is added to the gradient, not to the loss, which is the same number without a second
pass of automatic differentiation; work is exact epochs or steps, not a gamma-inexact solution.
"""

from __future__ import annotations

from torch import Tensor

from fedlens.methods.method import Client, Method


def fedprox(*, mu: float = 0.01) -> Method:
    """FedAvg whose clients are pulled towards the model they received, `mu` (>= 0) times as hard as they strayed."""

    def correct(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        return gradient + mu * (weights - client.start)

    return Method(name="fedprox", source="Li et al. 2020", settings={"mu": mu}, correct=correct)
