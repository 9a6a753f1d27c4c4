"""The examples of a job's clients and of its test set, read into plain tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedlens.diagnosis.evidence import Facts
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.errors import ConfigurationError

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
WIDEST = 1024  # features that statistics are made of
MOST_TEST = 20_000  # test examples that are looked at
MANY = 5_000  # more distinct values than this are no class numbers


class Table(NamedTuple):
    """Examples of one holder. `inputs`: as given; `labels`: class numbers [N], -1 where a one-hot row names none, None
    where labels are no classes. `malformed`: share of one-hot rows whose sum is not 1."""

    inputs: Tensor
    labels: Whole | None
    malformed: float = 0.0

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.inputs.shape[1:])


class Tables(NamedTuple):
    """Of the clients looked at, by number, and of the test set where the job has one."""

    clients: dict[int, Table]
    test: Table | None
    classes: int


def read_tables(subject: Subject, facts: Facts, most: int = 50) -> Tables:
    """The data of at most `most` evenly spaced clients, and at most 20,000 test examples.

    Raises Ailing if no client's data can be had, ConfigurationError if the job offers none.
    """
    if "train_data" not in facts.offers:
        do = "Give the job train_data(client) -> (inputs, labels)."
        raise ConfigurationError("the clients' data cannot be seen", where="train_data", seen="no such part", do=do)
    patient = subject.fresh()
    chosen = np.unique(np.linspace(0, facts.clients - 1, min(most, facts.clients)).round().astype(int))
    clients: dict[int, Table] = {}
    failed: Ailing | None = None
    for client in chosen.tolist():
        try:
            clients[client] = table_of(*patient.train_data(client))
        except Ailing as error:  # one silo without data is a fact about that silo, not the end of the examination
            failed = failed or error
    if failed is not None and not any(map(len, clients.values())):
        raise failed
    test = _test(patient) if "test_data" in facts.offers else None
    return Tables(clients, test, _classes(facts, [*clients.values(), *([test] if test else [])]))


def table_of(inputs: Tensor, labels: Tensor) -> Table:
    """Inputs [N, ...] beside class numbers [N] or [N, 1], one-hot or soft rows [N, C], or other targets."""
    count = min(len(inputs), len(labels)) if labels.dim() and inputs.dim() else 0
    if not count:
        return Table(inputs.reshape(0, *inputs.shape[1:]), np.zeros(0, np.int64))
    inputs, rows = inputs[:count], labels[:count].reshape(count, -1)
    if rows.shape[1] > 1:
        return Table(inputs, *_from_rows(rows))
    values = rows[:, 0]
    if values.is_floating_point() and not bool((values == values.round()).all()):
        return Table(inputs, None)
    return Table(inputs, values.long().numpy().copy())


def _from_rows(rows: Tensor) -> tuple[Whole | None, float]:
    rows = rows.double()
    if not bool(torch.isfinite(rows).all()) or float(rows.min()) < 0 or float(rows.max()) > 1.001:
        return None, 0.0
    sums = rows.sum(dim=1)
    if float((sums > 1.5).double().mean()) > 0.05:  # rows that name several classes each are another task
        return None, 0.0
    wrong = (sums - 1).abs() > 1e-3
    labels = rows.argmax(dim=1)
    labels[wrong] = -1
    return labels.numpy().copy(), float(wrong.double().mean())


def _test(patient: Patient) -> Table | None:
    try:
        inputs, labels = patient.test_data()
    except Ailing:
        return None
    if len(inputs) > MOST_TEST:
        kept = torch.linspace(0, len(inputs) - 1, MOST_TEST).long()
        inputs, labels = inputs[kept], labels[kept]
    return table_of(inputs, labels)


def _classes(facts: Facts, tables: list[Table]) -> int:
    if facts.classes:
        return facts.classes
    highest = max((int(t.labels.max()) for t in tables if t.labels is not None and len(t.labels)), default=-1)
    return highest + 1 if 0 <= highest < MANY else 0


def counts_of(labels: Whole | None, classes: int) -> Whole:
    """Examples of each class; labels outside the classes count for nothing."""
    if labels is None or not classes:
        return np.zeros(classes, np.int64)
    return np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)


def features(inputs: Tensor) -> Floats:
    """Inputs as rows of at most 1,024 numbers: images by averages over areas, others by evenly spaced features."""
    values = inputs.float() if not inputs.is_complex() else inputs.abs().float()
    if values[0].numel() > WIDEST and values.dim() == 4:
        values = values.movedim(_channel_axis(tuple(values.shape)) or 1, 1)
        side = max(1, int((WIDEST / values.shape[1]) ** 0.5))
        halves = max(1, -(-max(values.shape[2:]) // side))
        values = functional.avg_pool2d(values, halves, ceil_mode=True)
    rows = values.flatten(1)
    if rows.shape[1] > WIDEST:
        rows = rows[:, torch.linspace(0, rows.shape[1] - 1, WIDEST).long()]
    return np.ascontiguousarray(rows.numpy(), dtype=np.float32)


def _channel_axis(shape: tuple[int, ...]) -> int:
    """Which axis of a batch of images is the channels': 1, 3, or 0 where none looks like it."""
    if len(shape) != 4:
        return 0
    return 1 if shape[1] <= 4 or shape[1] < min(shape[2:]) else 3 if shape[3] <= 4 else 0


def channels_of(inputs: Tensor) -> Floats:
    """Inputs as [channels, values]; one row where there are no channels."""
    axis = _channel_axis(tuple(inputs.shape))
    values = inputs.abs() if inputs.is_complex() else inputs
    values = values.float().movedim(axis, 0).flatten(1) if axis else values.float().reshape(1, -1)
    return np.ascontiguousarray(values.numpy())
