"""A run folder as values. What is absent or torn is listed in `missing`; what is damaged in the middle is an error."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlens.errors import ConfigurationError, nearest
from fedlens.lines import read_lines

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
SIGNS_OF_A_RUN = ("experiment.toml", "rounds.jsonl", "status")
STATUSES = ("done", "running", "interrupted", "failed")


@dataclass(frozen=True)
class Record:
    """Everything a run folder holds. `missing`: one sentence for each thing that could not be read.

    `counts`: training samples [clients, classes]; `visits`: one array per quantity, one entry per client visit;
    `references`: the evaluated rows of each reference run. `findings`: findings.json, empty where there is none.
    """

    path: Path
    status: str
    rounds: list[Row]
    timings: list[Row]
    summary: Row
    environment: Row
    experiment: str
    references: dict[str, list[Row]]
    counts: np.ndarray | None
    visits: dict[str, np.ndarray]
    missing: tuple[str, ...]
    findings: Row

    @property
    def name(self) -> str:
        """The run's name: the summary's, the configuration's, or else the folder's."""
        return str(self.summary.get("name") or self.settings.get("name") or self.path.resolve().name)

    @property
    def settings(self) -> Row:
        """The configuration as a dict; empty where it is absent or not TOML."""
        try:
            return tomllib.loads(self.experiment)
        except tomllib.TOMLDecodeError:
            return {}

    @property
    def measure(self) -> str:
        """What the run is judged by: accuracy of the one global model, or of every client's own."""
        personal = not any("accuracy" in row for row in self.rounds)
        return "personal_accuracy" if personal and self.series("personal_accuracy")[0] else "accuracy"

    def series(self, key: str) -> tuple[list[int], list[Any]]:
        """The rounds that recorded `key`, and what they recorded."""
        return series(self.rounds, key)

    @property
    def trained(self) -> int:
        """Rounds of training that are on record; row 0 is the untrained model."""
        return max((int(row.get("round", 0)) for row in self.rounds), default=0)


def series(rows: list[Row], key: str) -> tuple[list[int], list[Any]]:
    """The rounds among `rows` that hold `key`, and their values."""
    pairs = [(int(row["round"]), row[key]) for row in rows if row.get(key) is not None and "round" in row]
    return [number for number, _ in pairs], [value for _, value in pairs]


def read_run(folder: Path) -> Record:
    """Read a run folder, whole or not. Raises when `folder` is no run or a line that was finished is damaged."""
    if not is_run(folder):
        raise _not_a_run(folder)
    missing: list[str] = []
    summary = _document(folder / "summary.json", missing, "the summary")
    environment = _document(folder / "environment.json", missing, "the environment")
    rounds = read_lines(folder / "rounds.jsonl")
    if not rounds:
        missing.append("rounds.jsonl: no round was written, so there are no curves.")
    experiment = _text(folder / "experiment.toml")
    if not experiment:
        missing.append("experiment.toml: the configuration is absent.")
    names = sorted(path.parent.name for path in folder.glob("references/*/rounds.jsonl"))
    return Record(
        path=folder,
        status=_status(folder),
        rounds=rounds,
        timings=read_lines(folder / "timings.jsonl"),
        summary=summary,
        environment=environment,
        experiment=experiment,
        references={name: read_lines(folder / "references" / name / "rounds.jsonl") for name in names},
        counts=_counts(folder / "clients" / "partition.npz", missing),
        visits=_visits(folder / "clients", missing),
        missing=tuple(missing),
        findings=_findings(folder / "findings.json"),
    )


def _findings(path: Path) -> Row:
    """What the doctor wrote of the run; empty where it did not: the run is whole without."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("suspects"), list) else {}


def is_run(folder: Path) -> bool:
    """Whether `folder` holds at least one of the files that every run writes first."""
    return any((folder / name).is_file() for name in SIGNS_OF_A_RUN)


def _not_a_run(folder: Path) -> ConfigurationError:
    looked = ", ".join(SIGNS_OF_A_RUN)
    places = [folder] if folder.is_dir() else []
    places.append(folder.resolve().parent)
    known = [path for place in places if place.is_dir() for path in sorted(place.iterdir()) if is_run(path)]
    seen = f"looked for {looked}; the folder has none of them" if folder.is_dir() else "there is no such folder"
    if not known:
        return ConfigurationError("not a run folder", where=str(folder), seen=seen, do="give a folder of `fedlens run`")
    close = nearest(folder.name, [path.name for path in known])
    ordered = sorted(known, key=lambda path: path.name != close)
    listed = ", ".join(str(path) for path in ordered[:4]) + (", ..." if len(ordered) > 4 else "")
    return ConfigurationError("not a run folder", where=str(folder), seen=seen, do=f"run folders near it: {listed}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _status(folder: Path) -> str:
    words = _text(folder / "status").split()
    return words[0] if words and words[0] in STATUSES else "unknown"


def _document(path: Path, missing: list[str], what: str) -> Row:
    """A JSON object, or {} with a word in `missing`: these files are written at the end and may be absent or torn."""
    if not path.is_file():
        missing.append(f"{path.name}: {what} is absent.")
        return {}
    try:
        found = json.loads(_text(path))
    except json.JSONDecodeError as error:
        missing.append(f"{path.name}: {what} cannot be read (line {error.lineno}: {error.msg}).")
        return {}
    return found if isinstance(found, dict) else {}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    # opened here: numpy leaves a file open when the zip in it is torn
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _counts(path: Path, missing: list[str]) -> np.ndarray | None:
    try:
        return _arrays(path)["counts"]
    except (
        Exception
    ) as error:  # a torn zip fails in many ways (BadZipFile, EOFError, zlib.error); none may stop the page
        missing.append(f"clients/{path.name}: the split cannot be drawn ({type(error).__name__}).")
        return None


def _visits(folder: Path, missing: list[str]) -> dict[str, np.ndarray]:
    """The visits of all shards one after the other; a quantity that a shard lacks is left out."""
    import numpy as np

    shards: list[dict[str, np.ndarray]] = []
    for path in sorted(folder.glob("[0-9]*-[0-9]*.npz")):
        try:
            shards.append(_arrays(path))
        except Exception as error:  # as above
            missing.append(f"clients/{path.name}: visits cannot be read ({type(error).__name__}).")
    names = set.intersection(*(set(shard) for shard in shards)) if shards else set()
    return {name: np.concatenate([np.atleast_1d(shard[name]) for shard in shards]) for name in sorted(names)}
