"""Where a data set of the hub lies on this machine, or how it gets here."""

from __future__ import annotations

import os
from pathlib import Path

from fedlens.data.known import SOURCES
from fedlens.errors import DataError

SECONDS = 5.0  # to the first answer of the hub: without a network the error should come while one still looks


def locate(repository: str, name: str, directory: str | None) -> Path:
    """The folder with the train-*.parquet files of `repository` (OWNER/NAME or OWNER/NAME/PART), known here as `name`.

    Looks in `directory`, in the folder FEDLENS_DATA, in the cache (FEDLENS_CACHE, else ~/.cache/fedlens), and then
    downloads into the cache. In each of them the files lie in OWNER/NAME, in NAME or in the folder itself, either
    directly or in one sub-folder. DataError tells every place where they were looked for.
    """
    owner, hub_name, *part = repository.split("/")
    if directory is not None and not Path(directory).expanduser().is_dir():
        do = "Name a folder that holds data sets, or leave data.directory away."
        raise DataError("there is no such data directory", where="data.directory", seen=directory, do=do)
    names = [f"{owner}/{hub_name}", hub_name, *([name] if name not in (repository, hub_name) else [])]
    searched = []
    for root in _roots(directory):
        for place in [*(root / inner for inner in names), root]:
            searched.append(place)
            folder = _with_files(place, part, place != root or root.name.lower() in {n.lower() for n in names})
            if folder and not _is_another(place, root, names):
                return folder
    return _download(f"{owner}/{hub_name}", part, searched)


def cache() -> Path:
    """The folder that downloads go to."""
    given = os.environ.get("FEDLENS_CACHE")
    return Path(given).expanduser() if given else Path("~/.cache/fedlens").expanduser()


def _roots(directory: str | None) -> list[Path]:
    given = (directory, os.environ.get("FEDLENS_DATA"))
    return [*(Path(root).expanduser() for root in given if root), cache()]


def _is_another(place: Path, root: Path, names: list[str]) -> bool:
    """Whether `root` itself is called like another known set: MNIST's files must not pass for Fashion-MNIST's."""
    others = {word for name, known in SOURCES.items() for word in (name, known.hub.rpartition("/")[2])}
    return place == root and root.name.lower() in others - set(names)


def _with_files(place: Path, part: list[str], look_inside: bool) -> Path | None:
    """`place` or its one sub-folder with train-*.parquet in it. A `part` names the sub-folder."""
    if part:
        place = place.joinpath(*part)
        look_inside = False
    if not place.is_dir():
        return None
    if any(place.glob("train*.parquet")):
        return place
    inner = sorted(path.parent for path in place.glob("*/train*.parquet")) if look_inside else []
    folders = list(dict.fromkeys(inner))
    if len(folders) > 1:
        raise _several(str(place), [folder.name for folder in folders])
    return folders[0] if folders else None


def _download(repository: str, part: list[str], searched: list[Path]) -> Path:
    """Fetch one part of `repository` into the cache; any failure becomes one DataError, within seconds."""
    from huggingface_hub import HfApi, snapshot_download

    target = cache() / repository
    # Files arrive beside the target, which appears when they are complete: half a set would pass for one without tests.
    arriving = target.with_name(target.name + ".part")
    try:
        # Asked first, because the download itself would try again for minutes without a network.
        there = [str(file.rfilename) for file in HfApi().dataset_info(repository, timeout=SECONDS).siblings or ()]
        folder = _part_of(repository, there, part)
        pattern = f"{folder}/*.parquet" if folder else "*.parquet"
        snapshot_download(repository, repo_type="dataset", allow_patterns=pattern, local_dir=arriving)
        (target / folder).parent.mkdir(parents=True, exist_ok=True)
        (arriving / folder).rename(target / folder)
    except DataError:
        raise
    except Exception as error:  # the library's errors are many and change; every one of them means: no data
        raise _not_found(repository, searched, error) from None
    return target / folder


def _part_of(repository: str, files: list[str], part: list[str]) -> str:
    """The folder in the repository that holds its train-*.parquet files, "" for the top."""
    pairs = [file.rpartition("/")[::2] for file in files]
    folders = sorted({folder for folder, name in pairs if name.startswith("train") and name.endswith(".parquet")})
    if part and part[0] in folders:
        return part[0]
    where = f"hub:{repository}"
    if part or not folders:
        do = f"It has: {', '.join(folders)}." if folders else "Load it with a function of your own."
        what = f"part '{part[0]}' has no train-*.parquet files" if part else "it has no train-*.parquet files"
        raise DataError(what, where=where, seen=", ".join(files[:5]), do=do)
    if len(folders) > 1:
        raise _several(where, folders)
    return folders[0]


def _several(where: str, folders: list[str]) -> DataError:
    do = f"Name the part: hub:OWNER/NAME/{folders[0]}."
    return DataError("the data set has several parts", where=where, seen=", ".join(folders), do=do)


def _not_found(repository: str, searched: list[Path], error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or [""])[0][:120]
    name = repository.rpartition("/")[2]
    what = f"the data set {repository} is not on this machine and cannot be downloaded"
    seen = f"no train-*.parquet in {', '.join(str(place) for place in searched)}; "
    seen += f"the hub: {type(error).__name__}: {reason}"
    do = (
        f"With a network: run this again, or check the name at https://huggingface.co/datasets/{repository}. "
        f"Without: put its train-*.parquet and test-*.parquet into DIR/{name}/ "
        f"and set data.directory (--data-dir) or FEDLENS_DATA to DIR."
    )
    return DataError(what, where=f"hub:{repository}", seen=seen, do=do)
