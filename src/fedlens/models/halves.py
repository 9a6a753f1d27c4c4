"""Networks in two halves for knowledge transfer: a small one for every client, a large one for the server.

Source: He, Annavaram and Avestimehr 2020 (FedGKT), section 3, and their code in FedML; resnet8/resnet49 is the pair of
source document 003. Both names count layers as He et al. 2016 do. The cut lies behind the stem: a client's extractor is
one 3x3 convolution with norm and rectifier, [N, channels, H, W] to features [N, 16, H, W]; its own classifier goes on
from there, and so does the server's half, which is a ResNet without its stem. Differs from the sources: the norm that
is asked for stands in both halves (document 003 always leaves batch norm at the clients); the server's half keeps no
unused stem (there 23,512,970 parameters, of which 23,503,626 take part); convolutions start as in `resnet` (He et al.
2015, fan in, where both codes take fan out).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from fedlens.errors import ConfigurationError, nearest
from fedlens.models.norm import batch_or_nothing, swap_norm
from fedlens.models.resnet import Basic, Bottleneck, initialise
from fedlens.models.settings import Model, Norm

FEATURES = 16  # channels of what a client sends

Block = type[Basic] | type[Bottleneck]


class Classifier(nn.Module):
    """Stages of (width, blocks), mean over the image, head: features [N, 16, H, W] to logits [N, classes].

    Every stage but the first halves height and width in its first block, as in ResNet.
    """

    def __init__(
        self, block: Block, stages: Sequence[tuple[int, int]], classes: int, *, norm: bool, dropout: float
    ) -> None:
        super().__init__()
        into = FEATURES
        self.stages = nn.Sequential()
        for index, (width, blocks) in enumerate(stages, start=1):
            stage = nn.Sequential()
            for place in range(blocks):
                stage.append(block(into, width, 2 if index > 1 and place == 0 else 1, norm))
                into = width * block.expansion
            self.stages.add_module(f"stage{index}", stage)
        self.dropout: nn.Module | None = nn.Dropout(dropout) if dropout else None
        self.head = nn.Linear(into, classes)
        initialise(self, norm)

    def forward(self, features: Tensor) -> Tensor:
        pooled = self.stages(features).mean(dim=(2, 3))
        if self.dropout is not None:
            pooled = self.dropout(pooled)
        logits: Tensor = self.head(pooled)
        return logits


class Extractor(nn.Module):
    """The stem: images [N, channels, H, W] to features [N, 16, H, W]."""

    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, FEATURES, 3, padding=1, bias=not norm)
        self.norm = batch_or_nothing(FEATURES, norm)
        initialise(self, norm)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(images)))


class Stacked(nn.Module):
    """`extractor`, then `classifier`: images [N, channels, H, W] to logits [N, classes].

    With its own classifier this is a client's half; with the server's half as classifier it is the whole network.
    """

    def __init__(self, extractor: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.extractor, self.classifier = extractor, classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.extractor(images))
        return logits


class MakesClassifier(Protocol):
    """Makes a half from features on. With `norm` it stands with BatchNorm, which is swapped afterwards."""

    def __call__(self, classes: int, *, norm: bool, dropout: float) -> Classifier: ...


@dataclass(frozen=True)
class Pair:
    """One line of the table: what follows the client's extractor, the server's half, their own norm, their story."""

    client: MakesClassifier
    server: MakesClassifier
    norm: Norm
    about: str


@dataclass(frozen=True)
class Halves:
    """Two networks: `client` maps images to logits, `server` maps the features of `client.extractor` to logits."""

    client: Stacked
    server: Classifier

    def whole(self) -> Stacked:
        """The client's extractor under the server's half: what is tested, and what pooled training trains.

        It shares its parameters with the halves.
        """
        return Stacked(self.client.extractor, self.server)


_AT_CLIENT = partial(Classifier, Bottleneck, [(16, 2)])  # with the stem and the head: ResNet-8

HALVES: dict[str, Pair] = {
    "resnet8/resnet49": Pair(
        _AT_CLIENT,
        partial(Classifier, Bottleneck, [(64, 3), (128, 4), (256, 6), (512, 3)]),
        "batch",
        "10,586 parameters, and ResNet-50 without its stem (source document 003)",
    ),
    "resnet8/resnet55": Pair(
        _AT_CLIENT,
        partial(Classifier, Bottleneck, [(16, 6), (32, 6), (64, 6)]),
        "batch",
        "10,586 parameters, and a bottleneck ResNet-56 without its stem (He et al. 2020)",
    ),
    "resnet8/resnet19": Pair(
        _AT_CLIENT,
        partial(Classifier, Basic, [(16, 3), (32, 3), (64, 3)]),
        "batch",
        "10,586 parameters, and resnet20 without its stem, for a CPU (ours)",
    ),
    "resnet4/resnet7": Pair(
        partial(Classifier, Basic, [(16, 1)]),
        partial(Classifier, Basic, [(16, 1), (32, 1), (64, 1)]),
        "group",
        "one block, and resnet8 without its stem, for 8 x 8 digits (ours)",
    ),
}


def build_halves(model: Model, shape: tuple[int, ...], classes: int) -> Halves:
    """The two halves of `model` (a name in HALVES), float32, for images [N, *shape] (shape is C, H, W).

    Initial weights come from PyTorch's global generator, which the caller seeds, the client's first; all norms start
    from the same weights under one seed. Both halves take `model.dropout` before their heads. Raises
    ConfigurationError for an unknown name, examples that are not images, and groups that do not divide a layer's
    channels.
    """
    if model.name not in HALVES:
        guess = nearest(model.name, HALVES)
        choices = f"One of: {', '.join(HALVES)}."
        do = f"Did you mean '{guess}'? {choices}" if guess else choices
        raise ConfigurationError(f"there is no pair of halves '{model.name}'", where="model.name", do=do)
    if len(shape) != 3:
        what = f"the halves '{model.name}' cannot take examples of shape {tuple(shape)}"
        raise ConfigurationError(what, where="model.name", do="Give images as (C, H, W).")
    pair = HALVES[model.name]
    kind = model.norm or pair.norm
    normed = kind != "none"
    client = Stacked(Extractor(shape[0], norm=normed), pair.client(classes, norm=normed, dropout=model.dropout))
    server = pair.server(classes, norm=normed, dropout=model.dropout)
    swap_norm(client, kind, model.groups)
    swap_norm(server, kind, model.groups)
    return Halves(client, server)
