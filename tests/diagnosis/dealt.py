"""Made-up federated data: four Gaussian classes of eight features, dealt to clients in several ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from fedlens.diagnosis.evidence import DataAudit, Facts, LabelAudit
from fedlens.diagnosis.probes.data import examine_data
from fedlens.diagnosis.probes.labels import examine_labels
from fedlens.diagnosis.subject.patient import Subject

CLASSES, FEATURES, SIZE, HELD_OUT = 4, 8, 80, 300
Rows = tuple[np.ndarray, np.ndarray]
Change = Callable[[np.ndarray, np.ndarray], Rows]


class Dealt:
    """A job of which only the data matters."""

    cohort, rounds = 1, 1

    def __init__(self, clients: Mapping[int, Rows], classes: int = CLASSES) -> None:
        self.held, self.clients, self.classes = clients, len(clients), classes

    def init(self) -> dict[str, torch.Tensor]:
        return {"w": torch.zeros(1)}

    def sample(self, round: int) -> list[int]:
        return [0]

    def fit(self, client: int, received: object, round: int) -> tuple[object, int]:
        return received, 1

    def aggregate(self, current: object, uploads: object, round: int) -> object:
        return current

    def evaluate(self, state: object, round: int) -> dict[str, float]:
        return {}

    def train_data(self, client: int) -> Rows:
        return self.held[client]


class Tested(Dealt):
    """The same with test data."""

    def __init__(self, clients: Mapping[int, Rows], test: Rows, classes: int = CLASSES) -> None:
        super().__init__(clients, classes)
        self.tested = test

    def test_data(self) -> Rows:
        return self.tested


def drawn(labels: np.ndarray, random: np.random.Generator, apart: float = 2.0) -> Rows:
    """One example for every label: unit noise around means that stand `apart` on their own axis."""
    means = apart * np.eye(CLASSES, FEATURES)
    return (means[labels] + random.normal(size=(len(labels), FEATURES))).astype(np.float32), labels


def deal(kind: str, seed: int, clients: int = 8, size: int = SIZE, apart: float = 2.0) -> dict[int, Rows]:
    """Clients by "iid", "shards" (two classes each), "dirichlet" (0.1) or "quantity" (20 to 200 examples)."""
    random, held = np.random.default_rng(seed), {}
    for client in range(clients):
        shares = np.full(CLASSES, 1 / CLASSES)
        if kind == "shards":
            shares = np.isin(np.arange(CLASSES), random.choice(CLASSES, 2, replace=False)) / 2
        elif kind == "dirichlet":
            shares = random.dirichlet(np.full(CLASSES, 0.1))
        count = int(random.integers(20, 200)) if kind == "quantity" else size
        held[client] = drawn(random.choice(CLASSES, count, p=shares), random, apart)
    return held


def held_out(seed: int, size: int = HELD_OUT, apart: float = 2.0) -> Rows:
    random = np.random.default_rng(1000 + seed)
    return drawn(random.integers(0, CLASSES, size), random, apart)


def changed(held: dict[int, Rows], who: object, change: Change) -> dict[int, Rows]:
    return {client: change(*rows) if client in who else rows for client, rows in held.items()}  # type: ignore[operator]


def audits(clients: Mapping[int, Rows], test: Rows | None) -> tuple[DataAudit, LabelAudit]:
    subject = subject_of(clients, test)
    facts = facts_of(subject)
    data = examine_data(subject, facts)
    return data, examine_labels(subject, facts, data)


def audit(clients: Mapping[int, Rows], test: Rows | None = None, most: int = 50) -> DataAudit:
    subject = subject_of(clients, test)
    return examine_data(subject, facts_of(subject), most)


def subject_of(clients: Mapping[int, Rows], test: Rows | None) -> Subject:
    return Subject(lambda: Dealt(clients) if test is None else Tested(clients, test), "dealt")


def facts_of(subject: Subject) -> Facts:
    return subject.fresh().facts()
