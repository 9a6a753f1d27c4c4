"""Data from a function of the user's own."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fedlens.data.dataset import Dataset, Split, check, moments
from fedlens.errors import DataError, nearest

EXPECTED = "Return (train, test): two Datasets, or two pairs (images, labels) of tensors or arrays; or a Split."


def from_function(source: str) -> Split:
    """What `package.module:function` returns when called without arguments, checked.

    The working directory is importable while it runs. A pair's classes are called "0", "1", ... up to its largest
    label; u8 images [N, H, W] get a channel; float64 becomes float32. u8 images without a mean are normalised by the
    mean and standard deviation of the training images; floats stay as they are. DataError says what is wrong.
    """
    here = str(Path.cwd())
    # For the call too, not only for the import: the function may import its neighbours when it runs.
    sys.path.insert(0, here)
    try:
        returned = _called(_found(source), source)
    finally:
        if here in sys.path:
            sys.path.remove(here)
    if isinstance(returned, Split):
        parts, told = [returned.train, returned.test], returned.test_is
    else:
        parts, told = _two(returned, source), f"the test set that {source} returned"
    largest = max((_largest(part) for part in parts), default=0)
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


def _found(source: str) -> Callable[[], Any]:
    module_name, _, name = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise DataError(f"it needs the module '{error.name}'", where=source, do="Install that module.") from None
        do = f"Run fedlens where {module_name.replace('.', '/')}.py lies, or install the package."
        raise DataError(f"there is no module '{error.name}'", where=source, seen=f"in {Path.cwd()}", do=do) from None
    except Exception as error:
        raise _raised(error, source, "the module cannot be imported") from error
    function = getattr(module, name, None)
    if not callable(function):
        guess = nearest(name, [known for known in vars(module) if callable(getattr(module, known))])
        do = f"Did you mean '{module_name}:{guess}'?" if guess else f"Write a function {name}() in it."
        raise DataError(f"module '{module_name}' has no function '{name}'", where=source, do=do)
    return cast("Callable[[], Any]", function)


def _called(function: Callable[[], Any], source: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise _raised(error, source, "the function failed") from error


def _raised(error: Exception, source: str, what: str) -> DataError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    seen = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
    return DataError(what, where=source, seen=seen, do="Mend it; it is called without arguments.")


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
    labels = np.asarray(part[1])
    return int(labels.max()) if labels.size else -1


def _dataset(part: Any, classes: int, source: str, name: str) -> Dataset:
    where = f"{source}, {name}"
    if isinstance(part, Dataset):
        return check(part, where)
    images, labels = _tensor(part[0], where), _tensor(part[1], where)
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.dim() != 1:
        seen = f"{labels.dtype} of shape {list(labels.shape)}"
        raise DataError(
            "labels are not whole numbers [N]", where=where, seen=seen, do="Give one class number an example."
        )
    if images.dtype == torch.uint8 and images.dim() == 3:
        images = images.unsqueeze(1)
    if images.dtype == torch.float64:
        images = images.float()
    return check(Dataset(images, labels.to(torch.int64), tuple(str(c) for c in range(classes))), where)


def _tensor(values: Any, where: str) -> Tensor:
    try:
        return values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))
    except (TypeError, ValueError) as error:
        raise DataError("no tensor can be made of it", where=where, seen=str(error)[:120], do=EXPECTED) from None
