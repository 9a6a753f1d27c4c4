"""Ditto: beside the global model, each client trains one of its own that stays near it.

Source: Li, Hu, Beirami and Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
Algorithm 1: v_i -= eta (grad F_i(v_i) + lambda (v_i - w^t)), with w^t the model as it was received, not the one that
the client just trained.
Differs from the paper: v_i takes as many steps as w does, on the same batches. A visit costs two trainings: at equal
samples it is twice the work of FedAvg, and the run's record counts both.
"""

from __future__ import annotations

from torch import Tensor

from fedlens.methods.method import Client, Method


def ditto(*, lam: float = 0.1) -> Method:
    """FedAvg, and a second model at every client, pulled towards the received one `lam` (>= 0) times its distance."""

    def own(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        return gradient + lam * (weights - client.start)

    return Method(name="ditto", source="Li et al. 2021", settings={"lam": lam}, own=own)
