"""SCAFFOLD: control variates against client drift.

Source: Karimireddy et al., ICML 2020, Algorithm 1, option II. Steps y -= eta (g - c_i + c);
c_i+ = c_i - c + (w - y) / (K eta); w += eta_g mean(y - w); c += 1/N sum over the cohort of (c_i+ - c_i). All means are
uniform, c and c_i start at zero.
Differs from the paper: with momentum K is replaced by ||a_i||_1, the steps' total effect, because (w - y) / (K eta)
would overestimate the gradient by up to 1 / (1 - momentum).
"""

from __future__ import annotations

from torch import Tensor

from fedlens.local.settings import Local
from fedlens.methods.method import Client, Method, Reduced, Server, Vectors


def scaffold(*, server_lr: float = 1.0) -> Method:
    """Correct every local step by the difference of the cohort's and the client's direction."""

    def correct(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        return gradient - client.memory["c_i"] + client.received["c"]

    def finish(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
        update = weights - client.start
        c_i = client.memory["c_i"] - client.received["c"] - update / (client.rate * client.reach)
        return {"update": update, "c": c_i - client.memory["c_i"]}, {"c_i": c_i}

    def aggregate(server: Server, reduced: Reduced) -> Server:
        c = server.memory["c"] + reduced.fraction * reduced.mean["c"]
        return server.next(server.weights + server_lr * reduced.mean["update"], c=c)

    return Method(
        name="scaffold",
        source="Karimireddy et al. 2020",
        settings={"server_lr": server_lr},
        correct=correct,
        finish=finish,
        aggregate=aggregate,
        server_memory={"c": 0.0},
        client_memory={"c_i": 0.0},
        sends=("c",),
        weights={"update": "uniform", "c": "uniform"},
        check=_sgd_alone,
    )


def _sgd_alone(local: Local) -> None:
    if local.optimizer != "sgd" or local.weight_decay or local.clip_norm:
        raise ValueError(
            "scaffold reads the mean gradient off the update, which needs plain SGD; "
            'set local.optimizer = "sgd" without weight_decay and clip_norm (momentum is accounted for)'
        )
