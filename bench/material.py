"""What contenders share, in files: the examples, decoded once, and what the rounds of a workload are made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FOLDER = "FEDLENS_BENCH"  # the environment variable that names the folder with the files
TEST = 1000  # images of noise to be examined on


def mnist() -> Any:
    """MNIST or, where it is not at hand, noise of its shape: a source of data for fedlens."""
    return _split("mnist")


def cifar10() -> Any:
    """CIFAR-10, or noise of its shape."""
    return _split("cifar10")


def examples(name: str) -> dict[str, Any]:
    """Tensors of the data set `name`: `images` u8 [N, C, H, W] and `labels` i64 [N], `test_images` and `test_labels`,
    and `mean`, `std`, `classes`, and whether it is `noise`."""
    file = Path(os.environ[FOLDER]) / f"{name}.pt"
    if not file.exists():
        torch.save(_found(name), file)
    return dict(torch.load(file))


def floats(images: Tensor, data: dict[str, Any]) -> Tensor:
    """`images` as a module takes them, f32."""
    mean, std = (torch.tensor(data[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    return (images.float() / 255 - mean) / std


def _split(name: str) -> Any:
    from fedlens.data import Dataset, Split

    data = examples(name)
    facts = tuple(data["classes"]), tuple(data["mean"]), tuple(data["std"])
    train, test = (Dataset(data[f"{part}images"], data[f"{part}labels"], *facts) for part in ("", "test_"))
    return Split(train, test, "noise" if data["noise"] else "the test set")


def _found(name: str) -> dict[str, Any]:
    from fedlens.data import SOURCES, Data, load
    from fedlens.errors import DataError

    known = SOURCES[name]
    try:
        split = load(Data(name))
        train, test = ((part.images, part.labels) for part in (split.train, split.test))
    except DataError:
        split = None
        train, test = (_noise(known.shape, count) for count in (known.train, TEST))
    return {
        "images": train[0],
        "labels": train[1],
        "test_images": test[0],
        "test_labels": test[1],
        "mean": known.mean,
        "std": known.std,
        "classes": known.classes,
        "noise": split is None,
    }


def _noise(shape: tuple[int, ...], count: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, *shape), generator=draw, dtype=torch.uint8)
    return images, torch.randint(0, 10, (count,), generator=draw)


class Kitchen:
    """Says what a workload's rounds are made of, in a process of its own, so that no rival remembers how."""

    def __init__(self, workload: Any, seed: int, rounds: int, file: str) -> None:
        from fedlens.runs import initial_model, prepare

        experiment = workload.experiment(seed, {"kind": "sequential", "threads": 1})
        plan = prepare(experiment).plan
        module = initial_model(experiment)
        cohorts = [[visit.batches for visit in plan.visits(number)] for number in range(1, rounds + 1)]
        orders = [[torch.cat([torch.from_numpy(b) for b in batches]) for batches in cohort] for cohort in cohorts]
        torch.save((module, orders), file)
        data = examples(workload.data)
        self._facts = {
            "noise": bool(data["noise"]),
            "images": sum(map(len, orders[0])),
            "mflop": training_mflop(module, tuple(data["images"].shape[1:])),
        }

    def facts(self) -> dict[str, Any]:
        """`images` that a round trains on, `mflop` of training on one, and whether the images are `noise`."""
        return self._facts


def training_mflop(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Million operations of a step for each image: the forward pass, the gradients by weights, which cost as much, and
    those by inputs, which cost as much again save for the first layer, whose inputs are the images.

    PyTorch's own counter is asked for the forward pass only: it counts the backward pass of grouped convolutions as if
    they had one group (32 to 64 times too much for source 004's network).
    """
    from fedlens.models import cost
    from fedlens.models.probe import outputs_of, weightless

    free, layers = weightless(module), []

    def seen(layer: nn.Module, inputs: Any, outputs: Tensor) -> None:
        layers.append(2e-6 * outputs[0].numel() * layer.weight[0].numel())

    for layer in free.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(seen)
    outputs_of(free, shape)
    return 3 * cost(module, shape).mflop - layers[0]
