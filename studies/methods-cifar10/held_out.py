"""CIFAR-10 for tuning: 100 clients are dealt, 80 train, and a rate is judged on the examples of the other 20.

The test set takes no part. Each function is a data source without arguments, as `data.source` wants it.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import torch

import fedlens as fl
from fedlens.data import Dataset, Split, load
from fedlens.seeds import generator

CLIENTS, TRAINING, SEED = 100, 80, 100
PARTITIONS = {"shards": fl.Shards(2), "dirichlet": fl.Dirichlet(0.1)}


@cache
def whole() -> Split:
    """CIFAR-10 as it is; kept, because reading it takes as long as ten rounds."""
    return load(fl.Data("cifar10"))


@cache
def shards() -> Split:
    """80 clients of two shards; 20 held out."""
    return _split("shards")


@cache
def dirichlet() -> Split:
    """80 clients of Dirichlet(0.1); 20 held out."""
    return _split("dirichlet")


def _split(kind: str) -> Split:
    train = whole().train
    deal = PARTITIONS[kind].deal(train.labels.numpy(), CLIENTS, generator(SEED, "deal"))
    owner = np.empty(len(train), dtype=np.int64)
    for client in range(CLIENTS):
        owner[deal.client(client)] = client
    ours, theirs = np.flatnonzero(owner < TRAINING), np.flatnonzero(owner >= TRAINING)
    kept = dataclasses.replace(_part(train, ours), columns={"client": owner[ours]})
    return Split(kept, _part(train, theirs), "the examples of 20 held-out clients")


def _part(data: Dataset, indices: np.ndarray) -> Dataset:
    chosen = torch.from_numpy(indices)
    return dataclasses.replace(data, images=data.images[chosen], labels=data.labels[chosen], columns={})
