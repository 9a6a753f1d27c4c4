"""Server optimisers: the mean update is a pseudo-gradient. FedAvgM, FedAdagrad, FedAdam, FedYogi.

Source: FedAvgM: Hsu, Qi and Brown 2019, section 4.3: v = beta v + mean Delta, w += eta_g v. The others: Reddi et al.,
"Adaptive Federated Optimization", ICLR 2021, Algorithm 2: m = beta1 m + (1 - beta1) mean Delta; v by the method;
w += eta_g m / (sqrt(v) + tau), v starting at tau^2.
Differs from the papers: nothing. There is no bias correction, as in Reddi et al.; Flower's FedAdam has one. Clients are
averaged as server.weights says. Running statistics are averaged plainly, never adapted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedlens.methods.method import Method, Reduced, Server

REDDI = "Reddi et al. 2021"


def fedavgm(*, beta: float = 0.9, server_lr: float = 1.0) -> Method:
    """Momentum on the server. The step's gain is server_lr / (1 - beta): 10 at beta = 0.9, so lower a rate with it."""

    def aggregate(server: Server, reduced: Reduced) -> Server:
        v = beta * server.memory["v"] + reduced.mean["update"]
        return server.next(server.weights + server_lr * v, v=v)

    settings = {"beta": beta, "server_lr": server_lr}
    return Method(
        name="fedavgm", source="Hsu et al. 2019", settings=settings, aggregate=aggregate, server_memory={"v": 0.0}
    )


def fedadagrad(*, server_lr: float = 0.1, beta1: float = 0.0, tau: float = 1e-3) -> Method:
    """v = v + Delta^2: steps that shrink as updates add up."""

    def second(v: Tensor, square: Tensor) -> Tensor:
        return v + square

    return _adaptive("fedadagrad", {"server_lr": server_lr, "beta1": beta1, "tau": tau}, second)


def fedadam(*, server_lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Method:
    """v = beta2 v + (1 - beta2) Delta^2. `tau` bounds the step; 1e-8 from habit makes idle coordinates explode."""

    def second(v: Tensor, square: Tensor) -> Tensor:
        return beta2 * v + (1 - beta2) * square

    return _adaptive("fedadam", {"server_lr": server_lr, "beta1": beta1, "beta2": beta2, "tau": tau}, second)


def fedyogi(*, server_lr: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Method:
    """v = v - (1 - beta2) Delta^2 sign(v - Delta^2): as fedadam, but v falls only slowly."""

    def second(v: Tensor, square: Tensor) -> Tensor:
        return v - (1 - beta2) * square * torch.sign(v - square)

    return _adaptive("fedyogi", {"server_lr": server_lr, "beta1": beta1, "beta2": beta2, "tau": tau}, second)


def _adaptive(name: str, settings: dict[str, float], second: Callable[[Tensor, Tensor], Tensor]) -> Method:
    rate, beta1, tau = settings["server_lr"], settings["beta1"], settings["tau"]

    def aggregate(server: Server, reduced: Reduced) -> Server:
        update = reduced.mean["update"]
        m = beta1 * server.memory["m"] + (1 - beta1) * update
        v = second(server.memory["v"], update * update)
        return server.next(server.weights + rate * m / (v.sqrt() + tau), m=m, v=v)

    memory = {"m": 0.0, "v": tau**2}
    return Method(name=name, source=REDDI, settings=settings, aggregate=aggregate, server_memory=memory)
