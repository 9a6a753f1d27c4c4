"""FedDyn: dynamic regularisation, so that the clients' optima agree with the server's.

Source: Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021, Algorithm 1. Client i minimises
L_i(v) - <h_i, v> + alpha/2 ||v - w||^2, whose gradient is g - h_i + alpha (v - w); h_i -= alpha (w_i - w). Server:
h -= alpha / N sum over the cohort of (w_i - w); w = mean of w_i - h / alpha. All means are uniform, h and h_i start at
zero.
Differs from the paper: exact epochs or steps instead of an exact minimiser; local.clip_norm bounds the loss's gradient
before the terms are added.
"""

from __future__ import annotations

from torch import Tensor

from fedlens.methods.method import Client, Method, Reduced, Server, Vectors


def feddyn(*, alpha: float = 0.01) -> Method:
    """FedAvg with a linear and a quadratic term per client; `alpha` > 0 sets how fast they act."""
    if alpha <= 0:
        raise ValueError(f"alpha = {alpha} is not above 0; set for example 0.01, or use fedavg")

    def correct(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        return gradient - client.memory["h_i"] + alpha * (weights - client.start)

    def finish(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
        update = weights - client.start
        return {"update": update}, {"h_i": client.memory["h_i"] - alpha * update}

    def aggregate(server: Server, reduced: Reduced) -> Server:
        h = server.memory["h"] - alpha * reduced.fraction * reduced.mean["update"]
        return server.next(server.weights + reduced.mean["update"] - h / alpha, h=h)

    return Method(
        name="feddyn",
        source="Acar et al. 2021",
        settings={"alpha": alpha},
        correct=correct,
        finish=finish,
        aggregate=aggregate,
        server_memory={"h": 0.0},
        client_memory={"h_i": 0.0},
        weights={"update": "uniform"},
    )
