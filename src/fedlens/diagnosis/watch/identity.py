"""Numbers for objects and for memory that are never given twice, so that one object met again is known again."""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_NEXT = itertools.count(1)
_LOCK = threading.RLock()
_OBJECTS: dict[int, tuple[weakref.ref[Any], int]] = {}
_MEMORY: dict[int, tuple[StorageWeakRef, int]] = {}
_SWEEP = 4096  # known memories above which those that are gone are forgotten


def number_of(thing: Any) -> int:
    """A number that no other object of this process has or will have; the object is held weakly."""
    with _LOCK:
        known = _OBJECTS.get(id(thing))
        if known is not None and known[0]() is thing:
            return known[1]
        number = next(_NEXT)
        _OBJECTS[id(thing)] = weakref.ref(thing), number
        if len(_OBJECTS) > _SWEEP:
            for key in [key for key, (held, _) in _OBJECTS.items() if held() is None]:
                del _OBJECTS[key]
        return number


def number_of_memory(tensor: Tensor) -> int:
    """The same for the memory that a tensor lies in; as long as it is known, its address is not given out again."""
    with _LOCK:
        held = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        known = _MEMORY.get(held.cdata)
        if known is not None:
            return known[1]
        number = next(_NEXT)
        _MEMORY[held.cdata] = held, number
        if len(_MEMORY) > _SWEEP:
            for key in [key for key, (one, _) in _MEMORY.items() if one.expired()]:  # type: ignore[no-untyped-call]
                del _MEMORY[key]
        return number
