"""What the author's modules and jobs remember beside themselves: whether a copy is as good as one made anew."""

from __future__ import annotations
import __future__

import copy
import functools
import gc
import logging
import re
import site
import sys
import sysconfig
import types
import typing
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MANY = 20_000  # objects of a job from which it is not looked through: copying them would take long as well
SHARED = (weakref.ref, functools._lru_cache_wrapper)  # of which a deep copy has the very same
PLAIN = (str, bytes, int, float, complex, bool, type(None), ModuleType, torch.dtype, torch.device, Path, range)
FIXED = (*PLAIN, BuiltinFunctionType, re.Pattern, logging.Logger, type(__future__.annotations), types.GenericAlias)
NAMED = (types.UnionType, typing.TypeVar, type(typing.Any), type(typing.Callable[..., int]), type(Callable[..., int]))
MODES = (torch.no_grad, torch.enable_grad, torch.inference_mode, torch.set_grad_enabled)  # as decorators
INSTALLED = [*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), *site.getsitepackages()]
LIBRARIES = tuple(f"{Path(str(place)).resolve()}/" for place in (*INSTALLED, Path(__file__).parents[2]))


def keeps_nothing(module: ModuleType) -> bool:
    """Whether nothing that the module holds can remember a call: functions, classes, numbers and words alone."""
    return _Looking().through(vars(module))


@dataclass(frozen=True)
class Original:
    """A job to be copied, and the functions in it that remember: `copy.deepcopy` alone would let copies share them."""

    job: Any
    functions: Sequence[FunctionType] = ()

    def copy(self) -> Original:
        """Another, which shares nothing with this one that it remembers."""
        cells = {id(cell): (cell, CellType()) for one in self.functions for cell in one.__closure__ or ()}
        memo: dict[int, Any] = {id(one): _like(one, cells) for one in self.functions}
        made, functions = copy.deepcopy(self.job, memo), [memo[id(one)] for one in self.functions]
        for cell, new in cells.values():
            if _filled(cell):
                new.cell_contents = copy.deepcopy(cell.cell_contents, memo)
        for one, other in zip(self.functions, functions, strict=True):
            other.__defaults__ = copy.deepcopy(one.__defaults__, memo)
            other.__kwdefaults__ = copy.deepcopy(one.__kwdefaults__, memo)
        return Original(made, functions)


def original(job: Any) -> Original | None:
    """`job` to be copied, where copies are as good as jobs made anew: all that it remembers is its own. None where the
    author's modules or classes remember too, or it holds what copies share."""
    looking, seen, waiting, functions, numbers = _Looking(), dict[int, Any](), [job], list[FunctionType](), set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, int):
            numbers.add(one)
        if id(one) in seen or isinstance(one, PLAIN):
            continue
        seen[id(one)] = one  # held, so that no id comes back
        if isinstance(one, Tensor | np.ndarray):
            continue
        if len(seen) > MANY or isinstance(one, SHARED):
            return None
        if isinstance(one, FunctionType):
            if _own(one) and not looking.through(one.__globals__):
                return None
            if one.__closure__ or one.__defaults__ or one.__kwdefaults__:
                functions.append(one)
                cells = [cell.cell_contents for cell in one.__closure__ or () if _filled(cell)]
                waiting += [*cells, one.__defaults__, one.__kwdefaults__]
        elif isinstance(one, type | BuiltinFunctionType):
            if not looking.forgets(one):
                return None
        elif _own(type(one)) and hasattr(one, "__deepcopy__") and not isinstance(one, nn.Module):
            return None
        else:
            waiting += [type(one), *gc.get_referents(one)]
    asked = sys.version_info < (3, 14)  # later versions do not ask deepcopy's memo for functions
    named = not numbers.isdisjoint(seen)  # something is known by the id of an object, and a copy has another
    return Original(job, functions) if not named and (asked or not functions) else None


def _like(function: FunctionType, cells: Mapping[int, tuple[CellType, CellType]]) -> FunctionType:
    closure = tuple(cells[id(cell)][1] for cell in function.__closure__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, None, closure or None)
    made.__dict__.update(function.__dict__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made


class _Looking:
    """What has been looked at, by id: functions and classes refer to themselves and to each other."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def through(self, held: dict[str, Any]) -> bool:
        """Whether nothing in a module's globals remembers."""
        if id(held) in self.seen:
            return True
        self.seen.add(id(held))
        return all(self.forgets(value) for name, value in list(held.items()) if not name.startswith("__"))

    def forgets(self, value: Any) -> bool:
        """Whether `value`, as it stands in a module, a class or a function, remembers nothing of calls."""
        if id(value) in self.seen:
            return True
        if isinstance(value, type | FunctionType):
            self.seen.add(id(value))
            return self._class(value) if isinstance(value, type) else self._function(value)
        if isinstance(value, staticmethod | classmethod):
            return self.forgets(value.__func__)
        if isinstance(value, property):
            return all(self.forgets(one) for one in (value.fget, value.fset, value.fdel))
        if isinstance(value, nn.Module):  # a loss, for instance
            return not any(True for _ in value.parameters()) and not any(True for _ in value.buffers())
        if isinstance(value, tuple | frozenset):
            return all(self.forgets(one) for one in value)
        if isinstance(value, BuiltinFunctionType):  # as list.append of one list
            return isinstance(value.__self__, type | ModuleType | None)
        return isinstance(value, (*FIXED, *NAMED)) or (
            isinstance(value, MethodType) and isinstance(value.__self__, MODES)
        )

    def _class(self, value: type) -> bool:
        if not _own(value):
            return True
        made = "<string>" if is_dataclass(value) else None  # where its generated functions stand
        held = [
            one
            for name, one in vars(value).items()
            if (one.__code__.co_filename != made if isinstance(one, FunctionType) else not name.startswith("__"))
        ]
        return all(self.forgets(one) for one in (*held, *value.__bases__))

    def _function(self, value: FunctionType) -> bool:
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        if not _own(value):  # a decorator's: it remembers what it holds of the author's
            return all(self.forgets(one) for one in cells if isinstance(one, FunctionType | MethodType))
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        return (
            not vars(value)
            and all(self.forgets(one) for one in (*defaults, *cells))
            and self.through(value.__globals__)
        )


def _own(value: type | FunctionType) -> bool:
    """Whether it is the author's, neither Python's nor a library's."""
    if isinstance(value, FunctionType):
        return not value.__code__.co_filename.startswith(LIBRARIES)
    place = getattr(sys.modules.get(value.__module__), "__file__", None)
    if place is None:
        return value.__module__ not in sys.stdlib_module_names
    return not place.startswith(LIBRARIES)


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # nothing was put into it
        return False
