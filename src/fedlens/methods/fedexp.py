"""FedExP: a server step that grows where the clients' updates disagree.

Source: Jhunjhunwala et al., "FedExP: Speeding up Federated Averaging via Extrapolation", ICLR 2023, Algorithm 1:
eta_g = max(1, sum_i ||Delta_i||^2 / (2 m (||mean Delta||^2 + eps))).
Differs from the paper: the last iterate is evaluated; the paper evaluates the mean of the last two. Means are uniform,
as in the paper.
"""

from __future__ import annotations

from torch import Tensor

from fedlens.methods.method import Client, Method, Reduced, Server, Vectors


def fedexp(*, eps: float = 1e-3) -> Method:
    """FedAvg with an adaptive server rate of at least one; `eps` > 0 keeps it bounded."""

    def finish(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
        update = weights - client.start
        return {"update": update, "square": (update * update).sum(-1, keepdim=True)}, {}

    def aggregate(server: Server, reduced: Reduced) -> Server:
        update = reduced.mean["update"]
        norm = (update * update).sum(-1, keepdim=True)
        rate = (reduced.mean["square"] / (2 * (norm + eps))).clamp_min(1.0)
        return server.next(server.weights + rate * update)

    return Method(
        name="fedexp",
        source="Jhunjhunwala et al. 2023",
        settings={"eps": eps},
        finish=finish,
        aggregate=aggregate,
        weights={"update": "uniform", "square": "uniform"},
    )
