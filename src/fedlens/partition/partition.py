"""What a deal results in: for every client the indices of its samples, in two flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedlens.errors import ConfigurationError

Ints = NDArray[np.int64]
LOOKED_AT = 10_000  # clients whose labels describe a deal to more: looking at those of a million takes seconds
DRAW = 20_240_811  # fixed here and not a setting: of a deal the same clients are looked at whoever asks


class Labels(Protocol):
    """Class numbers of all samples, [N]: an array, or what reads them only where they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any, /) -> Any: ...

    def __array__(self) -> NDArray[Any]: ...


@runtime_checkable
class Together(Protocol):
    """A column of which equal values lie together: rows `offsets[i]` to `offsets[i + 1]` have the i-th value."""

    @property
    def offsets(self) -> Ints: ...

    def __len__(self) -> int: ...


Column = np.ndarray | Together


@dataclass(frozen=True)
class Partition:
    """Client i holds samples `indices[offsets[i]:offsets[i + 1]]`.

    Shapes: `indices` i64 [M], `offsets` i64 [K + 1] from 0 to M. Two arrays and no list of lists, so that a hundred
    thousand clients cost two allocations. Where clients hold samples 0, 1, 2, ... one after another, `indices` is
    range(M), so that a million clients cost one.
    """

    indices: Ints | range
    offsets: Ints

    def __len__(self) -> int:
        """K, the number of clients."""
        return len(self.offsets) - 1

    def client(self, i: int) -> Ints:
        """The indices of client `i`, counted from 0: i64 [n_i], a view where there is something to view."""
        if not 0 <= i < len(self):
            raise IndexError(f"client {i} of {len(self)}")
        mine = self.indices[int(self.offsets[i]) : int(self.offsets[i + 1])]
        return mine if isinstance(mine, np.ndarray) else np.arange(mine.start, mine.stop)

    def at(self, positions: Ints) -> Ints:
        """The entries of `indices` at `positions`, i64 [m]."""
        return self.indices[positions] if isinstance(self.indices, np.ndarray) else positions

    def everything(self) -> Ints | range:
        """What all clients hold, sorted: i64 [M], or a range where that says it."""
        return self.indices if isinstance(self.indices, range) else np.sort(self.indices)

    def only(self, i: int) -> Partition:
        """As many clients, of whom client `i` alone has its samples."""
        indices = self.client(i)
        return Partition(indices, np.where(np.arange(len(self) + 1) > i, len(indices), 0))

    @cached_property
    def sizes(self) -> Ints:
        """n_i, the samples of every client: i64 [K]."""
        return np.diff(self.offsets)

    def owners(self) -> Ints:
        """The client of every entry of `indices`: i64 [M]."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @cached_property
    def looked_at(self) -> Ints:
        """The clients whose labels describe the deal: all, or 10,000 drawn ones, sorted: i64."""
        if len(self) <= LOOKED_AT:
            return np.arange(len(self))
        return np.sort(np.random.Generator(np.random.PCG64(DRAW)).choice(len(self), LOOKED_AT, replace=False))

    def counts(self, labels: Labels, classes: int) -> Ints:
        """How many samples of each class every client of `looked_at` holds: i64 [K or fewer, C]."""
        clients, sizes = len(self.looked_at), self.sizes[self.looked_at]
        held = self.at(ranges(self.offsets[self.looked_at], sizes))
        cells = np.repeat(np.arange(clients), sizes) * classes + labels[held]
        return np.bincount(cells, minlength=clients * classes).reshape(clients, classes)

    def check(self, samples: int, kind: str = "partition") -> Partition:
        """This partition, after a look that it deals `samples` samples: each at most once, and every client has one.

        Raises ConfigurationError and names the first wrong client or sample; `kind` says which partition it was.
        """
        offsets, indices = self.offsets, self.indices
        if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(indices) or (np.diff(offsets) < 0).any():
            seen = f"{len(offsets)} offsets over {len(indices)} indices"
            do = "Make offsets rise from 0 to the number of indices, one more than there are clients."
            raise ConfigurationError("the offsets do not cut the indices into clients", where=kind, seen=seen, do=do)
        if isinstance(indices, range):
            if len(indices) > samples:
                self._refuse(samples, f"is none of the {samples} samples", kind)
        else:
            self._check_indices(indices, samples, kind)
        empty = np.flatnonzero(self.sizes == 0)
        if len(empty):
            seen = f"{len(empty)} of {len(self)} clients without a sample"
            do = f"Deal to fewer clients, or choose parameters of '{kind}' that skew less."
            raise ConfigurationError(f"client {empty[0]} has no samples", where=kind, seen=seen, do=do)
        return self

    def _check_indices(self, indices: Ints, samples: int, kind: str) -> None:
        outside = np.flatnonzero((indices < 0) | (indices >= samples))
        if len(outside):
            self._refuse(int(outside[0]), f"is none of the {samples} samples", kind)
        twice = np.bincount(indices, minlength=samples)[indices] > 1
        if twice.any():
            self._refuse(int(np.flatnonzero(twice)[-1]), "is dealt more than once", kind)

    def _refuse(self, position: int, why: str, kind: str) -> None:
        sample, client = int(self.indices[position]), int(np.searchsorted(self.offsets, position, side="right")) - 1
        do = "Deal every sample at most once, by its position from 0."
        raise ConfigurationError(f"sample {sample} {why}", where=f"{kind}, client {client}", seen=str(sample), do=do)


def redeal(partition: Partition, rng: np.random.Generator) -> Partition:
    """The same samples and the same sizes, dealt at random: what `partition` would be without its skew of labels."""
    held = partition.indices
    return Partition(rng.permutation(len(held) if isinstance(held, range) else held), partition.offsets)


def enough(labels: Labels, clients: int, kind: str, each: int = 1) -> None:
    """Raise ConfigurationError unless `labels` suffice for `clients` clients with `each` samples."""
    if len(labels) >= clients * each and clients >= 1:
        return
    need = f"{clients} clients" if each == 1 else f"{clients} clients with at least {each} samples each"
    do = "Set fewer clients" + ("." if each == 1 else " or a smaller min_size.")
    seen = f"{len(labels)} samples"
    raise ConfigurationError(f"{need} cannot share {len(labels)} samples", where=kind, seen=seen, do=do)


def by_class(labels: Labels, rng: np.random.Generator) -> Ints:
    """Sample indices in the order of their labels, shuffled inside each class: i64 [N]."""
    # Shuffled, because files are often ordered inside a class too, and a shard should be a draw from its class.
    shuffled = rng.permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def of_sizes(order: Ints, sizes: Ints) -> Partition:
    """The partition that gives the first `sizes[0]` samples of `order` to client 0, and so on."""
    return Partition(order, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def of_owners(owners: Ints, clients: int) -> Partition:
    """The partition in which sample n belongs to client `owners[n]`; -1: to no one. Shape of `owners`: i64 [N]."""
    order = np.argsort(owners, kind="stable")
    sizes = np.bincount(owners[owners >= 0], minlength=clients)
    return of_sizes(order[len(owners) - sizes.sum() :], sizes)


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1, ... for each pair of start and length, one after another: i64 [sum of lengths]."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
