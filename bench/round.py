"""How fast is a round? fedlens's sequential engine beside a careful plain PyTorch loop, alternating in one process.

Prints images per second of both and their ratio (medians over repeats); above 1 means fedlens is faster. Both train the
same clients with the same batches in float32 on the same number of threads; evaluation is outside the timed part.
Run: make bench, or python bench/round.py --threads 1 --repeats 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fedlens import Clients, Data, Experiment, Local, Model
from fedlens.data import Dataset
from fedlens.engine import Visit
from fedlens.runs import Federation, initial_model, prepare

# name: model, images, clients, cohort
WORKLOADS = {
    "W1 McMahan CNN": ("cnn", "mnist_like", 100, 10),
    "W3 MLP": ("mlp", "mnist_like", 200, 100),
    "W4 ResNet-8 GN": ("resnet8", "cifar_like", 20, 4),
    "W5 source 004's network": ("mobilenet-mnist", "mnist_like", 100, 10),
}


def mnist_like() -> tuple[Dataset, Dataset]:
    """6,000 images of noise, 1 x 28 x 28: time does not depend on what they show."""
    return _noise((1, 28, 28), 6000)


def cifar_like() -> tuple[Dataset, Dataset]:
    """1,000 images of noise, 3 x 32 x 32."""
    return _noise((3, 32, 32), 1000)


def _noise(shape: tuple[int, int, int], count: int) -> tuple[Dataset, Dataset]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=draw)
    channels = (0.5,) * shape[0]
    data = Dataset(images, labels, tuple("0123456789"), channels, channels)
    return data, data.select(torch.arange(100))


def federation(workload: str) -> Federation:
    """The workload made ready: E = 1, B = 10, plain SGD."""
    model, images, clients, cohort = WORKLOADS[workload]
    return prepare(
        Experiment(
            data=Data(f"round:{images}"),
            clients=Clients(count=clients, cohort=cohort),
            model=Model(model, norm="group" if model == "resnet8" else None),
            local=Local(lr=0.01),
        )
    )


def plain_round(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, visits: list[Visit]) -> None:
    """The rival: float images in memory, one reused module, foreach SGD, sums as clients finish."""
    parameters = list(module.parameters())
    start = [p.detach().clone() for p in parameters]
    total = [torch.zeros_like(p) for p in parameters]
    module.train()
    for visit in visits:
        with torch.no_grad():
            torch._foreach_copy_(parameters, start)
        for indices in visit.batches:
            chosen = torch.from_numpy(indices)
            gradients = torch.autograd.grad(F.cross_entropy(module(inputs[chosen]), labels[chosen]), parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-visit.rate)
        with torch.no_grad():
            torch._foreach_add_(total, parameters)
    with torch.no_grad():
        torch._foreach_copy_(parameters, [t / len(visits) for t in total])


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(workload: str, repeats: int) -> tuple[float, float, float]:
    """Images per second of fedlens and of the plain loop, and the median ratio of paired rounds."""
    ready = federation(workload)
    visits, data = ready.plan.visits(1), ready.split.train
    inputs, rival = data.normalise(data.images), initial_model(ready.experiment)
    ours: list[float] = []
    theirs: list[float] = []
    for repeat in range(repeats + 1):
        one = seconds(lambda: ready.engine.round(ready.start, {}, visits, {}))
        other = seconds(lambda: plain_round(rival, inputs, data.labels, visits))
        if repeat:  # the first warms up
            ours.append(one)
            theirs.append(other)
    images = sum(len(indices) for visit in visits for indices in visit.batches)
    ratio = statistics.median(other / one for one, other in zip(ours, theirs, strict=True))
    return images / statistics.median(ours), images / statistics.median(theirs), ratio


def main() -> None:
    """Time every workload and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for workload in WORKLOADS:
        fast, plain, ratio = compare(workload, arguments.repeats)
        print(f"{workload:<26} fedlens {fast:8,.0f} images/s   plain loop {plain:8,.0f}   ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
