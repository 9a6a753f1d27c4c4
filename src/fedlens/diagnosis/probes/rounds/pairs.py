"""Which labels inputs had in training, beside those that the client's data hold them with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fedlens.diagnosis.evidence import Paired

FEATURES = 64  # numbers of an input from which their order alone tells it from others


def paired(inputs: Tensor, labels: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Paired | None:
    """`pairs` of inputs and labels as training was given them, looked up in the client's data `inputs` [N, ...] with
    `labels` [N] or one-hot [N, C]. None: nothing was heard. An input that the data hold several times has all its
    labels."""
    heard = sum(len(one) for one, _ in pairs)
    if not heard or not len(inputs):
        return None
    names = labels.argmax(dim=1) if labels.dim() > 1 and labels.shape[-1] > 1 else labels.reshape(-1)
    held: dict[bytes, _Held] = {}
    for place, (key, name) in enumerate(zip(keys(inputs), names.long().tolist(), strict=False)):
        held.setdefault(key, _Held(place, set())).labels.add(name)
    told = [
        (held.get(key), name)
        for given, labelled in pairs
        for key, name in zip(keys(given), labelled.long().tolist(), strict=True)
    ]
    found = [(one, name) for one, name in told if one is not None]
    if not found:
        return Paired(0, heard, 0.0, 0.0)
    changed = sum(name not in one.labels for one, name in found) / len(found)
    steps = [after.place > before.place for (before, _), (after, _) in pairwise(told) if before and after]
    rising = sum(steps) / len(steps) if steps else 0.5
    return Paired(len(found), heard, changed, _torn(found), rising)


class _Held(NamedTuple):
    """Where an input stands first in the data, and all its labels there."""

    place: int
    labels: set[int]


def _torn(found: Sequence[tuple[_Held, int]]) -> float:
    """Share of examples whose label in training is not the one that most of their class have."""
    table = Counter((min(one.labels), name) for one, name in found if len(one.labels) == 1)
    most: dict[int, int] = {}
    for (own, _), count in table.items():
        most[own] = max(most.get(own, 0), count)
    return 1 - sum(most.values()) / max(1, table.total())


def keys(inputs: Tensor) -> list[bytes]:
    """What tells rows from each other: whether each number is above the one before it, which neither scale nor shift
    changes; of rows of few numbers, the numbers."""
    rows = np.ascontiguousarray(inputs.reshape(len(inputs), -1).float().numpy()) + np.float32(0)
    told = np.packbits(rows[:, 1:] > rows[:, :-1], axis=1) if rows.shape[1] >= FEATURES else rows
    return [row.tobytes() for row in told]
