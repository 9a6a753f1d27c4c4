"""Tiny jobs of linear algebra: a fit returns what it received plus a known vector, so that every number is known."""

from __future__ import annotations

import torch

from fedlens.diagnosis.job import Declared, Upload
from fedlens.diagnosis.subject.patient import Subject


class Toy:
    """`clients` clients with sizes 10, 20, ...; client c sends w + d(c, round). Aggregates by examples."""

    clients, cohort, rounds, classes = 6, 4, 10, 10
    shape = (40, 5)
    declared = Declared()

    def __init__(self):
        self.sizes = [10 * (client + 1) for client in range(self.clients)]

    def init(self):
        generator = torch.Generator().manual_seed(1)
        return {
            "a": torch.randn(self.shape, generator=generator),
            "b": torch.randn(self.shape, generator=generator),
            "norm.running_mean": torch.zeros(5),
            "norm.running_var": torch.ones(5),
            "norm.num_batches_tracked": torch.tensor(0),
        }

    def sample(self, round):
        return torch.randperm(self.clients)[: self.cohort].tolist()

    def direction(self, client, round):
        generator = torch.Generator().manual_seed(100 * round + client)
        return {name: 0.1 * torch.randn(self.shape, generator=generator) for name in ("a", "b")}

    def fit(self, client, received, round):
        new = {name: value.clone() for name, value in received.items()}
        for name, value in self.direction(client, round).items():
            new[name] += value
        new["norm.running_mean"] += client + round
        new["norm.running_var"] += 0.1 * client
        new["norm.num_batches_tracked"] += 3
        return Upload(new, self.sizes[client])

    def aggregate(self, current, uploads, round):
        whole = sum(upload.examples for upload in uploads)
        return {
            name: sum(upload.state[name].to(torch.float32) * (upload.examples / whole) for upload in uploads).to(
                value.dtype
            )
            for name, value in current.items()
        }

    def evaluate(self, state, round):
        return {"accuracy": 0.1 * round}


def subject(job=Toy):
    return Subject(job, "toy")


def mean_of(uploads, name, weights=None):
    whole = sum(upload.examples for upload in uploads)
    weights = weights or [upload.examples / whole for upload in uploads]
    return sum(weight * upload.state[name] for weight, upload in zip(weights, uploads, strict=True))
