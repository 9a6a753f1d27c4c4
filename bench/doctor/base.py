"""What no author would retype: small parts of known data sets, ways of dealing them out, and the networks."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

Part = tuple[Tensor, Tensor]
ORDER = 2026  # of the one permutation that a data set is cut from


def beside(folder: Path, *names: str) -> list[ModuleType]:
    """The modules `names` of `folder`, imported anew under these names, so that they find each other."""
    found = []
    for name in names:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(module)
    return found


def mnist(train: int = 6000, test: int = 2000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images u8 [N, 1, 28, 28] and labels i64 [N] to train on, and as many as `test` to be tested on."""
    return subset("mnist", train, test)


def cifar(train: int = 4000, test: int = 1000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images u8 [N, 3, 32, 32] and labels i64 [N] of CIFAR-10."""
    return subset("cifar10", train, test)


def subset(name: str, train: int, test: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first examples of a data set after one fixed permutation; decoded once, then kept in the cache."""
    from fedlens.data import Data, load
    from fedlens.data.hub import cache

    file = cache() / "doctor" / f"{name}-{train}-{test}.pt"
    if not file.exists():
        split = load(Data(name))
        kept: list[Tensor] = []
        for part, count in ((split.train, train), (split.test, test)):
            order = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(ORDER))[:count]
            kept += [part.images[order].clone(), part.labels[order].clone()]
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            torch.save(tuple(kept), draft)
        Path(draft.name).replace(file)
    images, labels, test_images, test_labels = torch.load(file)
    return images, labels, test_images, test_labels


def logistic(clients: int = 30, features: int = 60, classes: int = 10, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Synthetic(1, 1) of Li et al. 2018 (arXiv 1812.06127, 5.1): each client's inputs and labels, log-normal sizes."""
    draw = np.random.default_rng(seed)
    sizes = (draw.lognormal(4.0, 1.0, clients).astype(int) + 50).clip(max=1000)
    spread = np.diag(np.arange(1, features + 1) ** -1.2)
    made = []
    for size in sizes:
        shift, centre = draw.normal(0, 1), draw.normal(0, 1)
        weight, offset = draw.normal(shift, 1, (features, classes)), draw.normal(shift, 1, classes)
        inputs = draw.multivariate_normal(draw.normal(centre, 1, features), spread, size)
        labels = (inputs @ weight + offset).argmax(axis=1)
        made.append((torch.from_numpy(inputs).float(), torch.from_numpy(labels)))
    return made


def iid(labels: Tensor, clients: int, seed: int = 0) -> list[Tensor]:
    """Positions of the examples of each client, equally many, at random."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return list(order.chunk(clients))


def dirichlet(labels: Tensor, clients: int, alpha: float, seed: int = 0, least: int = 20) -> list[Tensor]:
    """Each class divided by a draw from Dir(alpha), anew until every client has `least` examples."""
    draw = np.random.default_rng(seed)
    while True:
        parts: list[list[np.ndarray]] = [[] for _ in range(clients)]
        for label in labels.unique():
            members = draw.permutation((labels == label).nonzero().flatten().numpy())
            cuts = (draw.dirichlet([alpha] * clients).cumsum() * len(members)).astype(int)[:-1]
            for part, share in zip(parts, np.split(members, cuts), strict=True):
                part.append(share)
        dealt = [draw.permutation(np.concatenate(part)) for part in parts]
        if min(map(len, dealt)) >= least:
            return [torch.from_numpy(part) for part in dealt]


def shards(labels: Tensor, clients: int, each: int = 2, seed: int = 0) -> list[Tensor]:
    """Examples sorted by label, cut into clients * each shards, and `each` of them dealt to every client."""
    pieces = labels.argsort(stable=True).chunk(clients * each)
    order = torch.randperm(clients * each, generator=torch.Generator().manual_seed(seed)).tolist()
    return [torch.cat([pieces[one] for one in sorted(order[k * each : (k + 1) * each])]) for k in range(clients)]


def lognormal(labels: Tensor, clients: int, sigma: float, seed: int = 0, least: int = 20) -> list[Tensor]:
    """IID, but the clients' sizes are in proportion to draws from a log-normal distribution."""
    draw = np.random.default_rng(seed)
    share = draw.lognormal(0.0, sigma, clients)
    sizes = least + (share / share.sum() * (len(labels) - least * clients)).astype(int)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return list(order[: sizes.sum()].split(sizes.tolist()))


def mlp(norm: bool = False) -> nn.Sequential:
    """784-64-64-64-10 with ReLU; `norm`: BatchNorm1d after each hidden layer."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before in (784, 64, 64):
        layers += [nn.Linear(before, 64), *([nn.BatchNorm1d(64)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def cnn(norm: str = "group") -> nn.Sequential:
    """Three convolutions of 16, 32 and 64 channels with stride 2, each normalised, ReLU, and a linear layer."""
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 64)):
        normed = nn.GroupNorm(4, after) if norm == "group" else nn.BatchNorm2d(after)
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), normed, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))
