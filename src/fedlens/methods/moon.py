"""MOON: a client's features stay near the received model's and away from those of its own last model.

Source: Li, He and Song, "Model-Contrastive Federated Learning", CVPR 2021, equation 3: cross-entropy +
mu * -log( e^(s(z, z_glob)/t) / (e^(s(z, z_glob)/t) + e^(s(z, z_prev)/t)) ), s the cosine.
Differs from the paper: z is what the head is given, without the paper's extra projection layers, so that the model
under study stays the same; both teachers answer in evaluation mode, with the received running statistics. At a first
visit z_prev = z_glob and the term is the constant log 2. Every client remembers one model: N times the model in all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fedlens.methods.method import Client, Lesson, Method, Vectors


def moon(*, mu: float = 1.0, temperature: float = 0.5) -> Method:
    """FedAvg with a contrastive term, `mu` times; the paper takes 5 on CIFAR-10 and 1 elsewhere."""

    def loss(outputs: Tensor, labels: Tensor, lesson: Lesson) -> Tensor:
        if lesson.features is None:
            raise ValueError("moon compares features, and the model has no layer called 'head' to take them from")
        teachers = (lesson.client.start, lesson.client.memory["previous"])
        near = [F.cosine_similarity(lesson.features, lesson.answers(w).features, dim=-1) for w in teachers]
        logits = torch.stack(near, 1) / temperature
        return F.cross_entropy(outputs, labels) + mu * F.cross_entropy(logits, torch.zeros_like(labels))

    def finish(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
        return {"update": weights - client.start}, {"previous": weights.clone()}

    return Method(
        name="moon",
        source="Li et al. 2021",
        settings={"mu": mu, "temperature": temperature},
        loss=loss,
        finish=finish,
        client_memory={"previous": "model"},
    )
