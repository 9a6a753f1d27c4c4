"""Federated averaging, and FedSGD as its special case.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
Algorithm 1. w <- w + sum_i p_i (w_i - w), with p_i normalised over the clients that answered.
Differs from the paper: running statistics of batch norm, which the paper does not have, are averaged like weights;
integer buffers are copied, never averaged.
"""

from __future__ import annotations

from fedlens.local.settings import Local
from fedlens.methods.method import Method

SOURCE = "McMahan et al. 2017"


def fedavg() -> Method:
    """Average what clients trained, weighted as `server.weights` says."""
    return Method(name="fedavg", source=SOURCE)


def fedsgd() -> Method:
    """One gradient of all of a client's examples per round: w <- w - rate * sum_i p_i g_i.

    This is fedavg with E = 1 and B = all; the name states the intent, and other local work is refused.
    """
    return Method(name="fedsgd", source=SOURCE, check=_one_full_batch)


def _one_full_batch(local: Local) -> None:
    plain = local.optimizer == "sgd" and not local.momentum
    if not (plain and local.batch == "all" and (local.steps or local.epochs) == 1):
        raise ValueError(
            "fedsgd is one plain SGD step on all of a client's examples; "
            'set local.batch = "all", local.epochs = 1, local.optimizer = "sgd", no momentum, or use fedavg'
        )
