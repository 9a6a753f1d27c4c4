"""What is to be examined, as a person names it: a run folder, FILE.py:FUNCTION that makes a job, or a log."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from fedlens.diagnosis.subject.copies import keeps_nothing
from fedlens.diagnosis.subject.ours import of_run
from fedlens.diagnosis.subject.patient import PATIENCE, Subject
from fedlens.errors import ConfigurationError, nearest
from fedlens.own import found

NEVER = frozenset({"fedlens", "__main__"})  # packages that are not loaded anew
SLOW = 2.0  # seconds; a module that takes longer to load (it reads its data) is loaded once


def subject_of(target: str, patience: float = PATIENCE) -> Subject:
    """The subject that `target` names. Raises ConfigurationError where there is none."""
    path, colon, function = target.rpartition(":")
    if colon and path.endswith(".py"):
        return Subject(_maker(Path(path), function), f"{path}:{function}", patience)
    if colon and not Path(target).exists():
        return Subject(found(target, "TARGET"), target, patience)
    if (Path(target) / "experiment.toml").is_file():
        return of_run(Path(target))
    do = "Name a run folder, FILE.py:FUNCTION (a function that returns a job), or a log (.log, .txt, .csv, .json)."
    raise ConfigurationError("there is nothing to examine", where="TARGET", seen=target, do=do)


def is_log(target: str) -> bool:
    """Whether `target` is a file of printed values."""
    return Path(target).is_file() and Path(target).suffix in (".log", ".txt", ".csv", ".json", ".jsonl", ".out")


def _maker(path: Path, function: str) -> Callable[..., Any]:
    """A function that makes the job, each time from a module loaded anew: what it keeps globally must not stay."""
    if not path.is_file():
        raise ConfigurationError(
            "there is no such file", where="TARGET", seen=str(path), do="Give the path to a .py file."
        )
    began = time.perf_counter()
    module = loaded(path)
    kept = time.perf_counter() - began > SLOW or all(keeps_nothing(one) for one in _beside(path))
    if not callable(getattr(module, function, None)):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        guess = nearest(function, known)
        do = f"Did you mean '{guess}'?" if guess else "It has: " + (", ".join(known[:10]) or "no functions") + "."
        raise ConfigurationError(f"{path} has no function '{function}'", where="TARGET", do=do)

    def make(seed: int = 0) -> Any:
        made = getattr(module if kept else loaded(path), function)
        return made(seed=seed) if _takes(made, "seed") else made()

    return make


def loaded(path: Path) -> ModuleType:
    """The module in `path`, run anew together with the modules of its folder that it imports."""
    folder = str(path.parent.absolute())
    for name in (*(module.__name__ for module in _beside(path)), *_shadowed(path)):
        sys.modules.pop(name, None)
    if sys.path[0] != folder:  # as `python file.py` does
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        do = f"Make `python {path}` work; -v shows the whole traceback."
        seen = f"{type(error).__name__}: {error}"
        raise ConfigurationError("the file cannot be loaded", where=str(path), seen=seen, do=do) from error
    return module


def _beside(path: Path) -> list[ModuleType]:
    """The modules of the file's folder, and of packages in it, that are loaded."""
    folder = path.parent.absolute()
    modules = {module: name for name, module in list(sys.modules.items()) if name.partition(".")[0] not in NEVER}
    files = {module: Path(at) for module in modules if (at := getattr(module, "__file__", None))}
    return [one for one, at in files.items() if at.parent == folder or _in_package(modules[one], at, folder)]


def _shadowed(path: Path) -> list[str]:
    """Names of files beside `path` under which a module of another folder is loaded: an own one of another job, not
    one of Python's or an installed one, which others use."""
    names = {one.stem for one in path.parent.glob("*.py")} - NEVER - set(sys.stdlib_module_names)
    places = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    known = (path.parent.absolute(), Path(torch.__file__).parents[1])
    return [name for name, at in places.items() if at and not any(Path(at).is_relative_to(one) for one in known)]


def _in_package(name: str, at: Path, folder: Path) -> bool:
    """Whether the file `at` of the module `name` lies in a package in `folder`, by its name and by its place."""
    parts = name.split(".")
    below = parts if at.name == "__init__.py" else parts[:-1]
    return bool(below) and at.parent == folder.joinpath(*below)


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except ValueError:
        return False
