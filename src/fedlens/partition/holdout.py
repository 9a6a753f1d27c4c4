"""A test set on every client, cut from the client's own samples."""

from __future__ import annotations

import numpy as np

from fedlens.partition.partition import Ints, Labels, Partition, of_sizes


def holdout(
    partition: Partition, labels: Labels, fraction: float, rng: np.random.Generator
) -> tuple[Partition, Partition]:
    """Each client's samples in two: to train on, and `fraction` (0 <= fraction < 1) of them held out.

    Both are shuffled, and the part held out has the client's own mix of classes, rounded by largest remainders. At
    least one sample stays for training, so the smallest clients may hold out none. The cut of an unshuffled,
    label-sorted list tests a client on a single class (diagnosis.md, P4); this is its cure.
    """
    clients, sizes = len(partition), partition.sizes
    total = np.minimum(np.floor(fraction * sizes + 0.5).astype(np.int64), np.maximum(sizes - 1, 0))
    shuffled = rng.permutation(len(partition.indices))
    owner, sample = partition.owners()[shuffled], partition.at(shuffled)
    order = np.lexsort((labels[sample], owner))  # stable, so that it stays shuffled inside a client's class
    owner, sample = owner[order], sample[order]
    starts = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(labels[sample], prepend=-1))
    cell_sizes = np.diff(starts, append=len(sample))
    taken = _taken(owner[starts], cell_sizes, total, rng)
    held = np.arange(len(sample)) - np.repeat(starts, cell_sizes) < np.repeat(taken, cell_sizes)
    parts = []
    for chosen in (~held, held):
        mine = rng.permutation(np.flatnonzero(chosen))
        mine = mine[np.argsort(owner[mine], kind="stable")]
        parts.append(of_sizes(sample[mine], np.bincount(owner[mine], minlength=clients)))
    return parts[0], parts[1]


def _taken(owner: Ints, counts: Ints, total: Ints, rng: np.random.Generator) -> Ints:
    """How many of each cell's `counts` to take so that client i gives `total[i]`: i64 [cells].

    A cell is one class of one client; `owner` is sorted.
    """
    clients = len(total)
    sizes = np.bincount(owner, weights=counts, minlength=clients)
    quota = counts * (total / np.maximum(sizes, 1))[owner]
    taken = np.floor(quota + 1e-9).astype(np.int64)  # 10 * (3 / 10) must not fall to 2
    missing = total - np.bincount(owner, weights=taken, minlength=clients).astype(np.int64)
    order = np.lexsort((rng.random(len(owner)), taken - quota, owner))  # equal remainders: by lot
    first = np.cumsum(np.bincount(owner, minlength=clients)) - np.bincount(owner, minlength=clients)
    rank = np.arange(len(owner)) - first[owner]
    taken[order[rank < missing[owner]]] += 1
    return taken
