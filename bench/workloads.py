"""What is timed, as plain values. Nothing here loads PyTorch before it is asked for an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlens import Experiment

BATCH = 10
NEVER = 10**6  # rounds: the last one is evaluated, and no workload may come to it
SYNTHETIC = "synthetic"  # the source of a million clients with 1 to 50 examples each, made when they are visited
IN_FILES = ("mnist", "cifar10")  # read by `material`, once for all contenders


@dataclass(frozen=True)
class Workload:
    """`cohort` of `clients` clients a round, who share the training set of `data` equally and train one epoch in
    batches of 10 at `rate`, by SGD without momentum, in float32 unless an engine says otherwise.

    `fewer`: instead of a rival, the same with so many registered clients.
    """

    title: str
    data: str
    model: Mapping[str, Any]
    clients: int
    cohort: int
    rate: float
    fewer: int | None = None

    def smaller(self) -> Workload:
        """A tenth of the cohort, and of a crowd: enough to see that all of it works."""
        clients = self.clients // 100 if self.fewer else self.clients
        return replace(self, clients=clients, cohort=max(2, self.cohort // 10))

    def experiment(self, seed: int, engine: Mapping[str, Any]) -> Experiment:
        """The workload for fedlens. Raises ConfigurationError where `engine` is no set of engine settings."""
        from fedlens import Clients, Data, Engine, Experiment, Local, Model
        from fedlens.data import Synthetic

        owners, partition = Synthetic(clients=self.clients), "iid" if self.data in IN_FILES else "natural:client"
        return Experiment(
            seed=seed,
            rounds=NEVER,
            evaluate_every=NEVER,
            data=Data(f"material:{self.data}") if self.data in IN_FILES else Data(self.data, synthetic=owners),
            clients=Clients(count=self.clients, cohort=self.cohort, partition=partition),
            model=Model(**self.model),
            local=Local(batch=BATCH, lr=self.rate),
            engine=Engine(**engine),
        )


WORKLOADS = {
    "W1": Workload("McMahan CNN", "mnist", {"name": "cnn"}, 1000, 50, 0.05),
    "W2": Workload("CIFAR CNN", "cifar10", {"name": "cifar-cnn", "dropout": 0.5}, 1000, 50, 0.1),
    "W3": Workload("MLP 784-200-10", "mnist", {"name": "mlp"}, 2000, 100, 0.05),
    "W4": Workload("ResNet-8 GN", "cifar10", {"name": "resnet8", "norm": "group"}, 100, 10, 0.1),
    "W5-bn": Workload("source 004's network, BN", "mnist", {"name": "mobilenet-mnist"}, 100, 10, 0.05),
    "W5-gn": Workload("source 004's network, GN", "mnist", {"name": "mobilenet-mnist", "norm": "group"}, 100, 10, 0.05),
    "W6": Workload("a million clients", SYNTHETIC, {"name": "logistic"}, 1_000_000, 1000, 0.05, fewer=1000),
    # 2,500 clients have 20 examples each: two steps of ten.
    "R50": Workload("ResNet-50 GN", "cifar10", {"name": "resnet50", "norm": "group", "groups": 2}, 2500, 2, 0.01),
}


def chosen(names: list[str]) -> dict[str, Workload]:
    """The workloads whose names begin with one of `names`; all, where there are none. Raises ValueError for others."""
    for name in names:
        if not any(key.startswith(name) for key in WORKLOADS):
            raise ValueError(f"there is no workload {name}; one of: {', '.join(WORKLOADS)}")
    return {key: work for key, work in WORKLOADS.items() if not names or key.startswith(tuple(names))}
