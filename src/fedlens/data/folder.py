"""Folders of images, one folder a class."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from fedlens.data.dataset import Dataset, Split, check, hold_out, moments
from fedlens.data.decode import Group, decode
from fedlens.errors import DataError, nearest

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
TEST_FOLDERS = ("test", "validation", "valid", "val")
READ = 256  # encoded images in memory at once


def from_folder(path: str, size: int | None) -> Split:
    """The images under `path`: in train/CLASS and test/CLASS, else in CLASS with a stratified fifth held out.

    Classes are the names of the folders, sorted; images lie in them at any depth. DataError names the file.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        near = nearest(root.name, [other.name for other in root.parent.iterdir()]) if root.parent.is_dir() else ""
        do = f"Did you mean '{root.parent / near}'?" if near else "Name a folder with one folder of images a class."
        raise DataError("there is no such folder", where=f"folder:{path}", seen=str(root.absolute()), do=do)
    inside = root / "train" if (root / "train").is_dir() else root
    classes = tuple(sorted(entry.name for entry in inside.iterdir() if entry.is_dir() and entry.name[0] != "."))
    train = _read(inside, classes, size)
    mean, std = moments(train.images)
    train = Dataset(train.images, train.labels, classes, mean, std)
    tests = [root / name for name in TEST_FOLDERS if (root / name).is_dir() and inside != root]
    if not tests:
        return hold_out(train, "the folder")
    test = _read(tests[0], classes, size)
    if test.shape != train.shape:
        seen = f"{list(test.shape)} and {list(train.shape)}"
        do = "Set data.size, or make the two alike."
        raise DataError("test and train images have different shapes", where=str(tests[0]), seen=seen, do=do)
    test = Dataset(test.images, test.labels, classes, mean, std)
    return Split(train, test, f"the images in {tests[0].name}/ ({len(test)} images)")


def _read(folder: Path, classes: tuple[str, ...], size: int | None) -> Dataset:
    if not classes:
        do = "Make one folder for each class, and put its images into it."
        raise DataError("there are no class folders", where=str(folder), do=do)
    unknown = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in classes)
    unknown = [name for name in unknown if name[0] != "."]
    if unknown:
        do = "Every class of the test set needs a folder in train/."
        raise DataError(f"class '{unknown[0]}' has no training images", where=str(folder), do=do)
    files = [(file, label) for label, name in enumerate(classes) for file in _images(folder / name)]
    if not files:
        do = f"Put images there; fedlens reads {', '.join(sorted(ENDINGS))}."
        raise DataError("the class folders hold no images", where=str(folder), seen=", ".join(classes[:5]), do=do)
    images = decode(len(files), lambda: _groups([file for file, _ in files]), size)
    return check(Dataset(images, torch.tensor([label for _, label in files]), classes), str(folder))


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.name[0] != ".")


def _groups(files: list[Path]) -> Iterator[Group]:
    for start in range(0, len(files), READ):
        part = files[start : start + READ]
        yield Group([_bytes(file) for file in part], partial(_name, part))


def _name(part: list[Path], at: int) -> str:
    return str(part[at])


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        seen = error.strerror or type(error).__name__
        raise DataError("an image cannot be read", where=str(file), seen=seen, do="Give yourself the right.") from None
