"""Data sets in the hub's parquet layout: folders of train-*.parquet and test-*.parquet with encoded images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedlens.data.columns import Columns, columns_of
from fedlens.data.dataset import Dataset, Split, check, hold_out, moments
from fedlens.data.decode import Group, decode
from fedlens.data.files import TEST_NAMES, opened, series, whole
from fedlens.data.known import Known
from fedlens.errors import DataError


def from_parquet(folder: Path, size: int | None, known: Known | None = None) -> Split:
    """The data set whose files lie in `folder`: u8 images, i64 labels, other scalar columns as arrays.

    The test set is the split `test`, else `validation`, else a stratified hold-out of `train`. Classes, mean and
    standard deviation are those of a `known` set, else from the files. DataError names file and row.
    Measured, one busy core: the 60,000 PNG of CIFAR-10 take 5.8 s and 270 MB (its pixels are 184 MB), the 70,000 of
    MNIST 3.3 s and 130 MB; nine tenths of the time are PIL's, 50 to 90 us for each file.
    """
    splits = series(folder)
    if "train" not in splits:
        seen = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) if folder.is_dir() else "no such folder"
        raise DataError("there are no train-*.parquet files", where=str(folder), seen=seen, do="Put them there.")
    classes = known.classes if known else ()
    train = _read(splits["train"], size, classes, known)
    named = next((name for name in TEST_NAMES if name in splits), None)
    if named is None and known:  # a known set has an official test set; another one would not compare
        seen = ", ".join(path.name for path in splits["train"][:5])
        do = "Put its test-*.parquet beside them."
        raise DataError(f"the test files of {known.hub} are missing", where=str(folder), seen=seen, do=do)
    if named is None:
        return hold_out(_normalised(train, known), f"{folder.name}, which has no test files")
    test = _read(splits[named], size, train.classes, known)
    if test.shape != train.shape:
        where, seen = str(splits[named][0]), f"{list(test.shape)} and {list(train.shape)}"
        do = "Set data.size, or make the two alike."
        raise DataError("test and train images have different shapes", where=where, seen=seen, do=do)
    train = _normalised(train, known)
    test = Dataset(test.images, test.labels, train.classes, train.mean, train.std, test.columns)
    return Split(train, test, f"the official {named} set ({len(test)} images)")


def _normalised(dataset: Dataset, known: Known | None) -> Dataset:
    mean, std = (known.mean, known.std) if known else moments(dataset.images)
    return Dataset(dataset.images, dataset.labels, dataset.classes, mean, std, dataset.columns)


def _read(paths: list[Path], size: int | None, classes: tuple[str, ...], known: Known | None) -> Dataset:
    """One split, without its moments."""
    files = [(path, opened(path)) for path in paths]
    columns = columns_of(files[0][1].schema_arrow, str(paths[0]))
    rows = [file.metadata.num_rows for _, file in files]
    labels, others = _scalars(files, columns)
    classes = classes or columns.classes or tuple(str(label) for label in range(int(labels.max(initial=0)) + 1))
    _check_rows(labels, len(classes), paths, rows)
    images = decode(sum(rows), lambda: _groups(files, columns.image), size)
    if known and size is None and tuple(images.shape[1:]) != known.shape:
        what, seen = f"the images are not those of {known.hub}", f"{list(images.shape[1:])} for {list(known.shape)}"
        raise DataError(what, where=str(paths[0].parent), seen=seen, do="Point the data directory at the right files.")
    return check(Dataset(images, torch.from_numpy(labels), classes, columns=others), str(paths[0].parent))


def _groups(files: list[tuple[Path, Any]], column: str) -> Iterator[Group]:
    """The encoded images, row group by row group: a whole file of large images would not fit."""
    for path, file in files:
        row = 0
        for number in range(file.num_row_groups):
            table = whole(path, partial(file.read_row_group, number, columns=[column]))
            images = table.column(0).combine_chunks()
            encoded = (images.field("bytes") if hasattr(images, "field") else images).to_pylist()
            yield Group(encoded, partial(_name, path, row))
            row += len(encoded)


def _name(path: Path, first: int, at: int) -> str:
    return f"{path}, row {first + at}"


def _scalars(files: list[tuple[Path, Any]], columns: Columns) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels i64 [N], and every other scalar column [N] by its name; text as str."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in (columns.label, *columns.others)}
    for path, file in files:
        missing = sorted(set(found) - set(file.schema_arrow.names))
        if missing:
            do = "Fetch the series again: its files do not belong together."
            raise DataError(f"column '{missing[0]}' is missing", where=str(path), do=do)
        table = whole(path, partial(file.read, columns=list(found)))
        for name, parts in found.items():
            parts.append(_array(table.column(name), name == columns.label, path))
    arrays = {name: np.concatenate(parts) for name, parts in found.items()}
    return arrays.pop(columns.label), arrays


def _array(column: Any, is_label: bool, path: Path) -> np.ndarray:
    if is_label and column.null_count:
        row = column.to_pylist().index(None)
        raise DataError("a label is missing", where=f"{path}, row {row}", do="Fill in or drop such rows.")
    values: np.ndarray = column.to_numpy()
    if is_label:
        return values.astype(np.int64)
    return values.astype(str) if values.dtype == object else values


def _check_rows(labels: np.ndarray, classes: int, paths: list[Path], rows: list[int]) -> None:
    """DataError with file and row for a label outside 0..classes-1, before any image is decoded."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if not len(wrong):
        return
    ends = np.cumsum(rows)
    which = int(np.searchsorted(ends, wrong[0], side="right"))
    row = int(wrong[0] - (ends[which] - rows[which]))
    what = f"a label is outside 0..{classes - 1}"
    seen = f"{labels[wrong[0]]} ({len(wrong)} such rows)"
    do = "Mend or drop these rows; -1 often marks a test set whose labels are kept secret."
    raise DataError(what, where=f"{paths[which]}, row {row}", seen=seen, do=do)
