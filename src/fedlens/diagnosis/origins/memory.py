"""Which tensors and arrays a value holds, and in whose memory they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
from torch import Tensor, nn

DEPTH = 6
MOST = 5_000  # things looked at in one value
CLOSED = (str, bytes, int, float, complex, type, ModuleType, BuiltinFunctionType, NoneType, nn.Module)


def arrays_in(value: Any, most: int = MOST) -> Iterator[Tensor | np.ndarray]:
    """The tensors and arrays in `value`, in order, through containers, attributes and what functions close over."""
    left, seen = [(value, 0)], set[int]()
    while left and most:
        most -= 1
        one, depth = left.pop()
        if isinstance(one, CLOSED) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor | np.ndarray):
            yield one
        elif depth < DEPTH:
            left += [(part, depth + 1) for part in reversed(_parts(one)) if not isinstance(part, CLOSED)]


def _parts(one: Any) -> Sequence[Any]:
    if isinstance(one, Mapping):
        return list(one.values())[:MOST]
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)[:MOST]
    if isinstance(one, MethodType):
        return [one.__self__]
    if isinstance(one, FunctionType):
        return sources(one)
    return list(getattr(one, "__dict__", {}).values())


def sources(function: FunctionType) -> list[Any]:
    """What `function` closes over, its defaults, and the global values that it names, of other modules too."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    names = function.__code__.co_names
    named = [function.__globals__[name] for name in names if name in function.__globals__]
    modules = [one for one in named if isinstance(one, ModuleType) and hasattr(one, "__file__")]
    values = [one for one in named if not isinstance(one, FunctionType)]
    values += [vars(module)[name] for module in modules for name in names if name in vars(module)]
    return [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *values]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # nothing was put into it
        return False


def memory_of(array: Tensor | np.ndarray) -> int:
    """Where the memory that `array` is a view of begins; 0 where it has none of its own."""
    if isinstance(array, Tensor):
        try:
            return array.untyped_storage().data_ptr()
        except (RuntimeError, NotImplementedError):  # sparse tensors, and those without values
            return 0
    while isinstance(array.base, np.ndarray):
        array = array.base
    return int(array.__array_interface__["data"][0]) if array.size else 0


def positions_in(value: Any) -> tuple[int, ...]:
    """How many positions each part has, where `value` deals out rows: a list or mapping of lists of whole numbers."""
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(parts, list | tuple) or len(parts) < 2 or not all(map(_positions, parts)):
        return ()
    return tuple(map(len, parts))


def _positions(part: Any) -> bool:
    if isinstance(part, Tensor):
        return part.dim() == 1 and not part.is_floating_point() and not part.is_complex()
    if isinstance(part, np.ndarray):
        return part.ndim == 1 and part.dtype.kind in "iu"
    return isinstance(part, range | list | tuple | set) and all(isinstance(one, int | np.integer) for one in part)
