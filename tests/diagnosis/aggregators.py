"""A small federation whose aggregator can be exchanged, and aggregators that are right and wrong."""

import copy
import functools

import numpy as np
import torch
from torch import nn

from fedlens.diagnosis.subject.patient import Subject


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 4)
    )


class Federation:
    clients, cohort, rounds, classes = 8, 5, 3, 4
    declared = {}  # noqa: RUF012

    def init(self):
        return network().state_dict()

    def model(self):
        return network()

    def sample(self, round):
        return list(range(self.cohort))

    def trained(self, client, received):
        draw = torch.Generator().manual_seed(client)
        return {
            name: value + 0.02 * torch.randn(value.shape, generator=draw) if value.is_floating_point() else value + 7
            for name, value in received.items()
        }

    def fit(self, client, received, round):
        return self.trained(client, received), 30 + client

    def evaluate(self, state, round):
        return {"accuracy": 0.0}


def subject(aggregate=None, kind=Federation, **parts):
    if aggregate is not None:
        parts["aggregate"] = lambda self, current, uploads, round: aggregate(current, uploads)
    return Subject(type("Job", (kind,), parts), "job")


def shares(uploads):
    return [n / sum(n for _, n in uploads) for _, n in uploads]


def mean(current, uploads):
    p = shares(uploads)
    return {
        name: sum(share * state[name] for share, (state, _) in zip(p, uploads, strict=True))
        if value.is_floating_point()
        else max(uploads, key=lambda upload: upload[1])[0][name].clone()
        for name, value in current.items()
    }


def uniform(current, uploads):
    m = len(uploads)
    return {name: (sum(state[name] for state, _ in uploads) / m).to(v.dtype) for name, v in current.items()}


def first(current, uploads):
    return uploads[0][0]


def largest(current, uploads):
    return max(uploads, key=lambda upload: upload[1])[0]


def whole_numbers(current, uploads):
    p, made = shares(uploads), copy.deepcopy(uploads[0][0])
    for name in made:
        for share, (state, _) in zip(p[1:], uploads[1:], strict=True):
            made[name] += (state[name] * share).long()
    return made


def first_unweighted(current, uploads):
    p, made = shares(uploads), copy.deepcopy(uploads[0][0])
    for name in made:
        for share, (state, _) in zip(p[1:], uploads[1:], strict=True):
            made[name] = (made[name] + state[name] * share).to(current[name].dtype)
    return made


def total(current, uploads):
    return {name: sum(state[name] for state, _ in uploads) for name in current}


def tenth(current, uploads):
    return {name: (sum(state[name] for state, _ in uploads) / 10).to(v.dtype) for name, v in current.items()}


def in_place(current, uploads):
    p, made = shares(uploads), uploads[0][0]
    for name, value in current.items():
        if value.is_floating_point():
            made[name] *= p[0]
            for share, (state, _) in zip(p[1:], uploads[1:], strict=True):
                made[name] += share * state[name]
    return made


def parameters_only(current, uploads):
    held = ("running_mean", "running_var", "num_batches_tracked")
    return {n: current[n] if n.endswith(held) else value for n, value in mean(current, uploads).items()}


def first_buffers(current, uploads):
    held = ("running_mean", "running_var", "num_batches_tracked")
    return {n: uploads[0][0][n] if n.endswith(held) else value for n, value in mean(current, uploads).items()}


def swapped(current, uploads):
    made = mean(current, uploads)
    made["3.weight"], made["5.weight"] = made["5.weight"], made["3.weight"]
    made["3.bias"], made["5.bias"] = made["5.bias"], made["3.bias"]
    return made


def float_counters(current, uploads):
    p = shares(uploads)
    return {name: sum(s * state[name] for s, (state, _) in zip(p, uploads, strict=True)) for name in current}


def median(current, uploads):
    return {name: torch.stack([state[name] for state, _ in uploads]).median(dim=0).values for name in current}


def trimmed(current, uploads):
    stacked = {name: torch.stack([state[name].float() for state, _ in uploads]) for name in current}
    return {name: stacked[name].sort(dim=0).values[1:-1].mean(dim=0).to(v.dtype) for name, v in current.items()}


def krum(current, uploads):
    floats = [name for name, value in current.items() if value.is_floating_point()]
    vectors = torch.stack([torch.cat([state[name].flatten() for name in floats]) for state, _ in uploads])
    nearest = torch.cdist(vectors, vectors).square().sort(dim=1).values[:, 1 : len(uploads) - 2]
    return uploads[int(nearest.sum(dim=1).argmin())][0]


def clipped(current, uploads, bound=0.1, noise=0.0):
    made = {}
    moves = [{n: state[n] - v for n, v in current.items() if v.is_floating_point()} for state, _ in uploads]
    factors = [min(1.0, bound / sum(float(v.square().sum()) for v in move.values()) ** 0.5) for move in moves]
    for name, value in current.items():
        if not value.is_floating_point():
            made[name] = uploads[-1][0][name]
            continue
        step = sum(factor * move[name] for factor, move in zip(factors, moves, strict=True))
        made[name] = value + (step + noise * bound * torch.randn(value.shape)) / len(uploads)
    return made


def private(current, uploads):
    return clipped(current, uploads, noise=1.0)


def stepped(rate, step=lambda move: move):
    def aggregate(current, uploads):
        made = mean(current, uploads)
        floats = [name for name, value in current.items() if value.is_floating_point()]
        return {**made, **{name: current[name] + rate * step(made[name] - current[name]) for name in floats}}

    return aggregate


def rounded(current, uploads):
    return {n: torch.round(v / 0.05) * 0.05 if v.is_floating_point() else v for n, v in mean(current, uploads).items()}


def reduced(current, uploads):
    n = sum(count for _, count in uploads)
    return {
        name: (functools.reduce(torch.add, [state[name].double() * count for state, count in uploads]) / n).to(v.dtype)
        for name, v in current.items()
    }


def arrays(current, uploads):
    n = sum(count for _, count in uploads)
    layers = zip(*[[layer * count for layer in state] for state, count in uploads], strict=True)
    return [(functools.reduce(np.add, layer) / n).astype(now.dtype) for layer, now in zip(layers, current, strict=True)]
