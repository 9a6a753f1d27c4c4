"""Examples: images or any other arrays, in memory or made where asked for, their labels, and how to normalise them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fedlens.data.rows import Rows, Runs
from fedlens.errors import DataError, RunError

CHUNK = 4096  # images whose float64 copy is held at once: 100 MB for CIFAR-10
LOOKED_AT = 1000  # evenly spaced rows that stand for all where they are not in memory
FRACTION = 0.2
SEED = 20_170_403  # fixed here and not a setting: two experiments on one set must be examined on the same images


@dataclass(frozen=True)
class Dataset:
    """N examples with labels.

    Shapes: `images` u8 [N, C, H, W] with values 0..255, or float [N, ...]; `labels` i64 [N]; `mean` and `std` one
    number for each channel, in units of 1 = white for u8 and of the data for float, or empty: then nothing is shifted.
    `columns` holds what else the source says of every example: name -> array [N], or Runs. Images and labels are
    tensors, or Rows where they would not fit into memory.
    """

    images: Tensor | Rows
    labels: Tensor | Rows
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    columns: Mapping[str, np.ndarray | Runs] = field(default_factory=dict)

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, [C, H, W] for images."""
        return tuple(self.images.shape[1:])

    def select(self, indices: Tensor | np.ndarray) -> Dataset:
        """The examples at `indices`, i64 [M], in that order and in memory; the rest stays as it is."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        columns = {name: values[at.numpy()] for name, values in self.columns.items()}
        return replace(self, images=self.images[at], labels=self.labels[at], columns=columns)

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of the examples at `chosen`, i64 [B]."""
        if isinstance(self.images, Tensor) and isinstance(self.labels, Tensor):  # a seventh of the time of indexing
            return self.images.index_select(0, chosen), self.labels.index_select(0, chosen)
        return self.images[chosen], self.labels[chosen]

    def normalise(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(x - mean) / std of a batch [B, ...] of these images in `dtype`, where x = u8 / 255 or the float itself."""
        # In place: fresh memory for every pass takes eight times as long as the arithmetic.
        values = images.to(dtype, copy=bool(self.mean))
        if images.dtype == torch.uint8:
            values.div_(255)
        if not self.mean:
            return values
        channel = [1, -1] + [1] * (values.dim() - 2)
        mean = torch.tensor(self.mean, dtype=dtype, device=values.device).view(channel)
        std = torch.tensor(self.std, dtype=dtype, device=values.device).view(channel)
        return values.sub_(mean).div_(std)


@dataclass(frozen=True)
class Split:
    """What to learn from and what to be examined on; `test_is` says where the test set comes from, for the report."""

    train: Dataset
    test: Dataset
    test_is: str


def hold_out(whole: Dataset, of: str, fraction: float = FRACTION) -> Split:
    """`whole` in two, each class cut at `fraction`, rounded by largest remainders; `of` names the whole."""
    test_rows, train_rows = stratified(np.asarray(whole.labels.numpy()), fraction)
    train, test = whole.select(torch.from_numpy(train_rows)), whole.select(torch.from_numpy(test_rows))
    return Split(train, test, f"a stratified {fraction:.0%} hold-out of {of} ({len(test)} examples)".replace("%", " %"))


def stratified(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows held out and rows kept, both shuffled. A class keeps at least one row, so a single one is not held out."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    quota = counts * fraction
    taken = np.floor(quota + 1e-9).astype(np.int64)
    missing = round(len(labels) * fraction) - int(taken.sum())
    largest = np.argsort(taken - quota, kind="stable")[: max(0, missing)]
    taken[largest] += 1
    taken = np.minimum(taken, counts - 1)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = rank < np.repeat(taken, counts)
    return rng.permutation(order[held]), rng.permutation(order[~held])


def moments(images: Tensor | Rows) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of u8 images [N, C, H, W], in units of 1 = white.

    The sums run in float64 over chunks, so that fifty thousand images cost no second copy; of Rows, 1,000 evenly spaced
    ones stand for all. A channel without any variation gets std 1, which leaves it at zero.
    """
    total, squares = (
        torch.zeros(images.shape[1], dtype=torch.float64),
        torch.zeros(images.shape[1], dtype=torch.float64),
    )
    pixels = 0
    for _, chunk in _chunks(images):
        values = chunk.to(torch.float64) / 255
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
        pixels += len(chunk) * images.shape[2] * images.shape[3]
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp_min(0).sqrt()
    std[std < 1e-6] = 1.0  # one grey level in one of 10,000 pixels is 4e-5
    return tuple(mean.tolist()), tuple(std.tolist())


def _chunks(rows: Tensor | Rows, size: int = CHUNK) -> Iterator[tuple[Sequence[int], Tensor]]:
    """All of a tensor, `size` rows at once, or LOOKED_AT of Rows: row numbers and rows."""
    if isinstance(rows, Tensor):
        for start in range(0, len(rows), size):
            yield range(start, len(rows)), rows[start : start + size]
        return
    looked_at = np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(np.int64))
    for numbers in np.array_split(looked_at, -(-len(looked_at) // 100)):
        yield numbers.tolist(), rows[torch.from_numpy(numbers)]


def check(dataset: Dataset, where: str) -> Dataset:
    """`dataset`, after a look at what every later step relies on; DataError names `where` and the row, from 0.

    Of Rows it looks at 1,000, evenly spaced.
    """
    images, labels = dataset.images, dataset.labels
    if labels.dtype != torch.int64 or labels.dim() != 1:
        seen = f"{labels.dtype} of shape {list(labels.shape)}"
        raise DataError(
            "labels are not whole numbers [N]", where=where, seen=seen, do="Give one int64 for each example."
        )
    if len(images) != len(labels):
        what = f"{len(images)} images have {len(labels)} labels"
        raise DataError(what, where=where, do="Give one label for each image, in the same order.")
    if not len(labels):
        raise DataError("there are no examples", where=where, do="Look for the files that should hold them.")
    for name, values in dataset.columns.items():
        if len(values) != len(labels):
            what = f"column '{name}' has {len(values)} values for {len(labels)} examples"
            raise DataError(what, where=where, do="Give one value for each example.")
    try:
        _check_labels(labels, len(dataset.classes), where)
        _check_images(images, where)
    except RunError as error:  # of Rows, which do not know that nothing has been run yet
        raise DataError.of([replace(problem, where=where) for problem in error.problems]) from error.__cause__
    _check_moments(dataset, where)
    return dataset


def _check_labels(labels: Tensor | Rows, classes: int, where: str) -> None:
    for numbers, values in _chunks(labels, len(labels)):
        outside = torch.nonzero((values < 0) | (values >= classes))
        if len(outside):
            at = int(outside[0])
            what = f"the label of row {numbers[at]} is outside 0..{classes - 1}"
            seen = f"{int(values[at])} ({len(outside)} such rows)"
            raise DataError(what, where=where, seen=seen, do="Mend or drop those rows, or name every class.")


def _check_images(images: Tensor | Rows, where: str) -> None:
    seen = f"{images.dtype} of shape {list(images.shape)}"
    if images.dtype == torch.uint8:
        if images.dim() == 4 and images.shape[3] in (1, 3) and images.shape[1] > 4:
            do = "Move the channels forward: images.permute(0, 3, 1, 2)."
            raise DataError("u8 images look like [N, H, W, C]", where=where, seen=seen, do=do)
        if images.dim() != 4:
            do = "Give u8 images as [N, C, H, W], or other data as floats."
            raise DataError("u8 images are not [N, C, H, W]", where=where, seen=seen, do=do)
        return
    if not images.dtype.is_floating_point:
        raise DataError("images are neither u8 nor float", where=where, seen=seen, do="Convert them to one of the two.")
    for numbers, values in _chunks(images):
        finite = torch.isfinite(values).flatten(1).all(dim=1)
        if not finite.all():
            row = numbers[int(torch.nonzero(~finite)[0])]
            raise DataError(f"row {row} holds NaN or infinity", where=where, do="Fill in or drop such examples.")


def _check_moments(dataset: Dataset, where: str) -> None:
    lengths, channels = (len(dataset.mean), len(dataset.std)), dataset.shape[0] if dataset.shape else 1
    if lengths not in {(0, 0), (1, 1), (channels, channels)}:
        what = f"{lengths[0]} means and {lengths[1]} stds for {channels} channels"
        raise DataError(what, where=where, do="Give one of each for every channel, or none.")
    if any(not std > 0 for std in dataset.std):
        raise DataError("a std is not above 0", where=where, seen=dataset.std, do="Divide by 1 where nothing varies.")
