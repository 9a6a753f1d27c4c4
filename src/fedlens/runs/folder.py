"""Where runs live: names, the lock, the status, and what was there when a run began."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import torch

from fedlens._version import __version__
from fedlens.errors import ConfigurationError
from fedlens.runs.configuration import as_toml
from fedlens.runs.experiment import Experiment
from fedlens.runs.store import told, write_atomically


def create(experiment: Experiment, out: str | Path | None, command: str, megabytes: float, engine: str = "") -> Path:
    """A new run folder with experiment.toml and environment.json; `runs/latest` points to it. `engine`: why it runs
    on this one.

    Raises ConfigurationError where `out` is taken, cannot be written, or the disk has no room for `megabytes`.
    """
    folder = Path(out) if out else _stamped(experiment)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            "the output folder exists", where=str(folder), do="Choose another --out, or go on with --resume."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free / 1e6
        if free < megabytes:
            folder.rmdir()
            raise ConfigurationError(
                "the disk is too full",
                where=str(folder),
                seen=f"{free:.0f} MB free, {megabytes:.0f} MB wanted",
                do="Make room.",
            )
        (folder / "experiment.toml").write_text(as_toml(experiment))
        (folder / "environment.json").write_text(
            json.dumps(_environment(command) | {"engine": engine}, indent=2) + "\n"
        )
    except OSError as error:
        raise ConfigurationError(
            "the output folder cannot be written", where=str(folder), seen=error, do="Choose another --out."
        ) from None
    _point_latest(folder)
    return folder


def existing(out: str | Path | None) -> Path:
    """The run folder to resume: `out`, or runs/latest."""
    folder = Path(out) if out else Path("runs/latest")
    if not (folder / "experiment.toml").is_file():
        raise ConfigurationError("there is no run to resume", where=str(folder), do="Name its folder with --out.")
    return folder.resolve()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run; a second process that wants it is told. The lock falls with the process, however it ends."""
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    with told(folder):
        try:
            lock.acquire()
        except filelock.Timeout:  # an OSError: it must not be told as one
            seen = (folder / "status").read_text() if (folder / "status").exists() else ""
            do = "Wait for it, or stop it."
            raise ConfigurationError(
                "another process is running this run", where=str(folder), seen=seen.strip(), do=do
            ) from None
    try:
        yield
    finally:
        lock.release()


def set_status(folder: Path, word: str, detail: str = "") -> None:
    """running, done, interrupted or failed, on the first line of `status`; details follow."""
    write_atomically(folder / "status", f"{word}\n{detail}".rstrip() + "\n")


def _stamped(experiment: Experiment) -> Path:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H%M%S")
    digest = hashlib.sha256(as_toml(experiment).encode()).hexdigest()[:4]
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in experiment.name)
    short = name.encode()[:80].decode(errors="ignore")  # file systems take 255 bytes
    base = Path("runs") / f"{stamp}-{short}-{digest}"
    numbered = (base.with_name(f"{base.name}-{number}") for number in range(2, 1000))
    return base if not base.exists() else next(path for path in numbered if not path.exists())


def _point_latest(folder: Path) -> None:
    """`latest` beside the run points to it. Where links are impossible or taken by a real folder, nothing happens."""
    link = folder.parent / "latest"
    writing = folder.parent / f".latest-{os.getpid()}"
    try:
        writing.symlink_to(folder.name)
        writing.replace(link)
    except OSError:
        writing.unlink(missing_ok=True)


def _environment(command: str) -> dict[str, Any]:
    return {
        "fedlens": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "command": command,
        "git": _git(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git() -> str:
    """The commit of the working folder, "+changes" where it has any; empty outside a repository."""
    try:
        ask = ["git", "describe", "--always", "--dirty=+changes", "--abbrev=12", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
