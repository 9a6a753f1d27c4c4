"""Which parquet files make up a data set, and whether they are all there and whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fedlens.errors import DataError

T = TypeVar("T")
SHARD = re.compile(r"(?P<split>[A-Za-z]+)(-(?P<number>\d+)-of-(?P<total>\d+)(-[0-9a-f]+)?)?\.parquet")
TEST_NAMES = ("test", "validation", "valid", "val")  # the first that is there is the test set
POINTER = b"version https://git-lfs"
AGAIN = "Delete it and fetch it again."


def series(folder: Path) -> dict[str, list[Path]]:
    """The files of every split in `folder` itself, in order; DataError when a shard of a series is missing."""
    found: dict[str, dict[int, list[tuple[int, Path]]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = SHARD.fullmatch(path.name)
        if match:
            totals = found.setdefault(match["split"], {})
            totals.setdefault(int(match["total"] or 1), []).append((int(match["number"] or 0), path))
    return {split: _complete(folder, split, totals) for split, totals in found.items()}


def _complete(folder: Path, split: str, totals: dict[int, list[tuple[int, Path]]]) -> list[Path]:
    if len(totals) > 1 or len(next(iter(totals.values()))) > next(iter(totals)):
        seen = ", ".join(path.name for shards in totals.values() for _, path in shards[:2])
        do = "Keep the files of one download only."
        raise DataError(f"two series of {split} files lie in one folder", where=str(folder), seen=seen, do=do)
    total, shards = next(iter(totals.items()))
    missing = sorted(set(range(total)) - {number for number, _ in shards})
    if missing:
        names = ", ".join(f"{split}-{number:05d}-of-{total:05d}.parquet" for number in missing[:3])
        what = f"{len(missing)} of {total} {split} files missing: {names}" + (" ..." if len(missing) > 3 else "")
        do = "Fetch the missing files into this folder."
        raise DataError(what, where=str(folder), seen=f"{len(shards)} files", do=do)
    return [path for _, path in sorted(shards)]


def opened(path: Path) -> Any:
    """The ParquetFile at `path`; DataError when it is no whole parquet file."""
    from pyarrow import parquet

    return whole(path, lambda: parquet.ParquetFile(path, memory_map=False))


def whole(path: Path, read: Callable[[], T]) -> T:
    """What `read` reads from the parquet file at `path`; DataError in place of whatever pyarrow raises."""
    from pyarrow import ArrowException

    try:
        return read()
    except (ArrowException, OSError, ValueError) as error:
        size = path.stat().st_size if path.exists() else 0
        head = path.read_bytes()[: len(POINTER)] if 0 < size < 1000 else b""
        seen = f"{size} bytes ({str(error).splitlines()[0][:120]})"
        if head == POINTER:
            what, do = "a Git LFS pointer stands where the data should be", "Run 'git lfs pull' in its repository."
        elif isinstance(error, PermissionError):
            what, do = "the file cannot be read", "Give yourself the right to read it."
        else:
            what, do = "not a whole parquet file", AGAIN
        raise DataError(what, where=str(path), seen=seen, do=do) from None
