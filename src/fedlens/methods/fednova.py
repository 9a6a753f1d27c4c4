"""FedNova: normalised averaging, for clients that take different numbers of steps.

Source: Wang et al., "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization", NeurIPS
2020, equation 8: d_i = (w - w_i) / ||a_i||_1, w -= tau_eff sum_i p_i d_i with tau_eff = sum_i p_i ||a_i||_1. (The rate
is left inside d_i.) ||a_i||_1 is K_i for plain SGD, [K - r (1 - r^K) / (1 - r)] / (1 - r) with momentum r.
Differs from the paper: p_i is normalised over the clients that answered. At equal K_i this is FedAvg exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedlens.local.settings import Local
from fedlens.methods.method import Client, Method, Reduced, Server, Vectors


def fednova() -> Method:
    """Average directions per step, not whole updates, so that no client counts more for having taken more steps."""

    def finish(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
        update = weights - client.start
        reach = torch.ones_like(update[..., :1]) * client.reach
        return {"update": update / reach, "reach": reach}, {}

    def aggregate(server: Server, reduced: Reduced) -> Server:
        return server.next(server.weights + reduced.mean["reach"] * reduced.mean["update"])

    return Method(name="fednova", source="Wang et al. 2020", finish=finish, aggregate=aggregate, check=_steps_add_up)


def _steps_add_up(local: Local) -> None:
    if local.optimizer != "sgd":
        raise ValueError(
            f"fednova normalises by the steps' total effect, which {local.optimizer} does not have; "
            'set local.optimizer = "sgd"'
        )
