"""Data from a function of the user's own."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlens.data.dataset import Dataset, Split, check, moments
from fedlens.data.rows import Rows
from fedlens.errors import DataError
from fedlens.own import call

MOST_CLASSES = 25_000  # beyond it labels are hashes or identifiers, and a confusion matrix fills the memory
EXPECTED = "Return (train, test): two Datasets, or two pairs (images, labels) of tensors or arrays; or a Split."


def from_function(source: str) -> Split:
    """What `package.module:function` returns when called without arguments, checked.

    A pair's classes are called "0", "1", ... up to its largest
    label; u8 images [N, H, W] get a channel; float64 becomes float32. u8 images without a mean are normalised by the
    mean and standard deviation of the training images; floats stay as they are. Arrays are not copied: what NumPy has
    mapped from a file stays there. DataError says what is wrong.
    """
    returned = call(source, "data.source")
    if isinstance(returned, Split):
        parts, told = [returned.train, returned.test], returned.test_is
    else:
        parts, told = _two(returned, source), f"the test set that {source} returned"
    largest = max((_largest(part) for part in parts), default=0)
    if largest >= MOST_CLASSES:
        do = "Number the classes from 0 on, without gaps."
        raise DataError("labels are no class numbers", where=source, seen=f"{largest + 1} classes", do=do)
    train, test = (
        _dataset(part, largest + 1, source, name) for part, name in zip(parts, ("train", "test"), strict=True)
    )
    if train.classes != test.classes or train.shape != test.shape:
        seen = f"{len(train.classes)} and {len(test.classes)} classes, {list(train.shape)} and {list(test.shape)}"
        raise DataError(
            "train and test are not alike", where=source, seen=seen, do="Give both the same classes and shape."
        )
    if train.images.dtype == torch.uint8 and not train.mean:
        mean, std = moments(train.images)
        train, test = (Dataset(d.images, d.labels, d.classes, mean, std, d.columns) for d in (train, test))
    return Split(train, test, told if "(" in told else f"{told} ({len(test)} examples)")


def _two(returned: Any, source: str) -> list[Any]:
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        raise DataError("the function did not return two data sets", where=source, seen=_brief(returned), do=EXPECTED)
    for part in returned:
        if not isinstance(part, Dataset) and not (isinstance(part, (tuple, list)) and len(part) == 2):
            raise DataError("a data set is no pair of images and labels", where=source, seen=_brief(part), do=EXPECTED)
    return list(returned)


def _brief(value: Any) -> str:
    size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"{type(value).__name__}{size}"


def _largest(part: Any) -> int:
    if isinstance(part, Dataset):
        return len(part.classes) - 1
    if isinstance(part[1], Rows):
        do = "Return Datasets, which name the classes: not all labels are read here."
        raise DataError("a pair's labels are not in memory", where="train or test", seen="Rows", do=do)
    labels = np.asarray(part[1])
    return int(labels.max()) if labels.size else -1


def _dataset(part: Any, classes: int, source: str, name: str) -> Dataset:
    where = f"{source}, {name}"
    if isinstance(part, Dataset):
        return check(part, where)
    images, labels = part[0] if isinstance(part[0], Rows) else _tensor(part[0], where), _tensor(part[1], where)
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.dim() != 1:
        seen = f"{labels.dtype} of shape {list(labels.shape)}"
        raise DataError(
            "labels are not whole numbers [N]", where=where, seen=seen, do="Give one class number an example."
        )
    if isinstance(images, Tensor) and images.dtype == torch.uint8 and images.dim() == 3:
        images = images.unsqueeze(1)
    if isinstance(images, Tensor) and images.dtype == torch.float64:
        images = images.float()
    return check(Dataset(images, labels.to(torch.int64), tuple(str(c) for c in range(classes))), where)


def _tensor(values: Any, where: str) -> Tensor:
    if isinstance(values, Tensor):
        return values
    try:
        with warnings.catch_warnings():  # that a file mapped for reading cannot be written to: nobody does
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return torch.from_numpy(np.ascontiguousarray(values))
    except (TypeError, ValueError) as error:
        raise DataError("no tensor can be made of it", where=where, seen=str(error)[:120], do=EXPECTED) from None
