"""The user's own functions, named `package.module:function` in a file or on the command line.

Knows: how to find and call one, and how each way of failing is told.
Does not know: what the function is for.
Offers: call, found.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from fedlens.errors import ConfigurationError, FedlensError, nearest


def call(path: str, where: str, offered: Mapping[str, object] | None = None) -> object:
    """What the function that `path` names returns, called with those of `offered` that its signature takes.

    The current folder is importable. Raises ConfigurationError, naming the setting `where`, if the module or the
    function is not found, or if the function cannot be called so or raises.
    """
    function = found(path, where)
    try:
        arguments = _arguments(function, offered or {}, path)
    except ConfigurationError as error:
        raise ConfigurationError.of([replace(problem, where=where) for problem in error.problems]) from error.__cause__
    try:
        return function(**arguments)
    except FedlensError:  # the function used fedlens, and the words are already right
        raise
    except (Exception, SystemExit) as error:  # a function that exits must not pass for a run that ended well
        do = "Correct the function; -v shows the whole traceback."
        raise ConfigurationError(f"'{path}' failed", where=where, seen=_brief(error), do=do) from error


def found(path: str, where: str) -> Callable[..., object]:
    """The function that `path` names. Raises ConfigurationError, naming the setting `where`."""
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        do = "Write package.module:function, for example my_models:small."
        raise ConfigurationError(f"'{path}' does not name a function", where=where, do=do)
    try:
        return _function(_module(module_name), attribute, path)
    except ConfigurationError as error:
        raise ConfigurationError.of([replace(problem, where=where) for problem in error.problems]) from error.__cause__


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        # As `python file.py` does. It stays, because the user's function may import more when it is called.
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name + ".").startswith(error.name + "."):
            do = "Start in the folder that holds the module, or install its package."
            seen = f"looked in {here} and in the installed packages"
            raise ConfigurationError(f"there is no module '{error.name}'", seen=seen, do=do) from None
        raise _import_failed(name, error) from error
    except (Exception, SystemExit) as error:  # a script without a main guard may exit
        raise _import_failed(name, error) from error


def _import_failed(name: str, error: BaseException) -> ConfigurationError:
    do = f"Make `python -c 'import {name}'` work; -v shows the whole traceback."
    return ConfigurationError(f"importing '{name}' failed", seen=_brief(error), do=do)


def _function(module: ModuleType, attribute: str, path: str) -> Callable[..., object]:
    found: object = getattr(module, attribute, None)
    if callable(found):
        return found
    known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    guess = nearest(attribute, [name for name in known if name != attribute])
    do = f"Did you mean '{guess}'?" if guess else "It has: " + (", ".join(known[:10]) or "no functions") + "."
    if found is not None:
        what = f"'{path}' is not a function"
        raise ConfigurationError(what, seen=f"{type(found).__name__}: {found!r:.60}", do=do)
    what = f"module '{module.__name__}' has no '{attribute}'"
    raise ConfigurationError(what, seen=module.__file__ or "", do=do)


def _arguments(function: Callable[..., object], offered: Mapping[str, object], path: str) -> Mapping[str, object]:
    try:
        taken = inspect.signature(function).parameters.values()
    except ValueError:  # written in C: it tells no signature
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return offered
    alone = [p.name for p in taken if p.default is p.empty and p.kind is p.POSITIONAL_ONLY]
    needed = [p.name for p in taken if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    missing = alone + [name for name in needed if name not in offered]
    if missing:
        given = f"It is given {', '.join(offered)} by name, if it takes them" if offered else "It is given none"
        do = f"{given}; give the others defaults."
        what = f"'{path}' needs arguments that it is not given"
        raise ConfigurationError(what, seen=", ".join(missing), do=do)
    names = {p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in offered.items() if name in names}


def _brief(error: BaseException) -> str:
    """The error in one line, and the line of code that raised it."""
    message = (str(error).splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{place}"
