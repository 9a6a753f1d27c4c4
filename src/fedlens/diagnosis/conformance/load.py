"""Finds a function in a file or a module, as often anew as it is asked for."""

from __future__ import annotations

import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fedlens.diagnosis.conformance.calling import PATIENCE
from fedlens.diagnosis.subject.guard import guarded, seeded
from fedlens.diagnosis.subject.patient import STAGES
from fedlens.errors import ConfigurationError, FedlensError, nearest

SLOW = 0.3  # seconds; a file that takes longer to run is not run anew for every experiment


class Component:
    """The function at `path`, FILE.py:FUNCTION or package.module:function; Class.method is bound to a new object.

    Raises ConfigurationError if there is no such file, module or function, or if it makes a job.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.source, _, self.attribute = path.rpartition(":")
        if not self.source or not all(part.isidentifier() for part in self.attribute.split(".")):
            do = "Write FILE.py:FUNCTION, for example agg.py:aggregate."
            raise ConfigurationError(f"'{path}' does not name a function", where="check", do=do)
        self._code: CodeType | None = None
        began = time.perf_counter()
        seeded(0)
        self._module = self._load()
        self._slow = time.perf_counter() - began > SLOW
        self.function = self._found(self._module)
        if _is_job(self.function):
            do = f"Run fedlens diagnose {path}; check examines one function of it."
            raise ConfigurationError("this is a job, not one component", where=path, do=do)

    def fresh(self, seed: int = 0) -> Callable[..., Any]:
        """The function as if it had never been called: its file is run again, where that is quick."""
        seeded(seed)
        if self._slow or not self.source.endswith(".py"):
            return self.function
        return self._found(self._load())

    @property
    def names(self) -> tuple[inspect.Parameter, ...]:
        """The parameters that can be given by place or name."""
        try:
            taken = inspect.signature(self.function).parameters.values()
        except (ValueError, TypeError):
            return ()
        return tuple(one for one in taken if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD))

    def beside(self, name: str) -> Any:
        """What else its module calls `name`, or None."""
        return getattr(self._module, name, None)

    def _load(self) -> ModuleType:
        with _loading(self.source):
            if not self.source.endswith(".py"):
                _importable(Path.cwd())
                return importlib.import_module(self.source)
            file = Path(self.source)
            if not file.is_file():
                near = nearest(file.name, [one.name for one in file.parent.glob("*.py")])
                do = f"Did you mean {file.parent / near}?" if near else "Name a file of Python code."
                seen = f"looked in {Path.cwd()}"
                raise ConfigurationError("there is no such file", where=self.source, seen=seen, do=do)
            _importable(file.resolve().parent)
            if self._code is None:
                self._code = compile(file.read_bytes(), str(file), "exec")
            module = ModuleType(f"_examined_{file.stem}")
            module.__file__ = str(file)
            sys.modules[module.__name__] = module  # dataclasses look their module up
            exec(self._code, module.__dict__)
            return module

    def _found(self, module: ModuleType) -> Callable[..., Any]:
        found: Any = module
        for part in self.attribute.split("."):
            if inspect.isclass(found):
                found = found()
            if not hasattr(found, part):
                known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
                near = nearest(part, known)
                do = f"Did you mean '{near}'?" if near else "It has: " + (", ".join(known[:10]) or "no functions") + "."
                raise ConfigurationError(f"'{self.source}' has no '{self.attribute}'", where=self.path, do=do)
            found = getattr(found, part)
        if not callable(found):
            seen = f"{type(found).__name__}: {found!r:.60}"
            raise ConfigurationError("this is not a function", where=self.path, seen=seen, do="Name a function.")
        made: Callable[..., Any] = found
        return made


def _importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # as `python file.py` does


@contextmanager
def _loading(source: str) -> Iterator[None]:
    """Nothing is written beside the file, and whatever goes wrong is told."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    except FedlensError:
        raise
    except (Exception, SystemExit) as error:
        message = (str(error).splitlines() or [""])[0]
        frames = [one for one in traceback.extract_tb(error.__traceback__) if "importlib" not in one.filename]
        place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        seen = f"{type(error).__name__}: {message}{place}"
        do = "Make `python` run it without an error; -v shows the whole traceback."
        raise ConfigurationError(f"importing '{source}' failed", where="check", seen=seen, do=do) from error
    finally:
        sys.dont_write_bytecode = before


def _is_job(function: Callable[..., Any]) -> bool:
    """Whether it is a job, its class, or a function without arguments that makes one."""
    if all(hasattr(function, stage) for stage in STAGES):
        return True
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return False
    if any(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
        return False
    try:
        with guarded("make", "", PATIENCE):
            made = function()
    except FedlensError:
        return False
    return all(hasattr(made, stage) for stage in STAGES)
