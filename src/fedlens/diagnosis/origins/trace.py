"""Listens to the author's functions: how long each of them works by itself, and what it gives back."""

from __future__ import annotations

import sys
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
from typing import Any, NamedTuple

from fedlens.diagnosis.origins.frames import is_authors
from fedlens.diagnosis.origins.memory import arrays_in, memory_of, positions_in
from fedlens.diagnosis.origins.passing import Passing

CALLS = 500_000  # after so many calls, about half a second of listening, nothing more is heard
LOOKING = 0.3  # seconds that looking through values may take in all
INSIDE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # parts of the function that they stand in
# A network's forward, a data set's rows: PyTorch asks for them in the course of somebody else's work.
ERRANDS = ("torch/nn/", "torch/utils/data/", "torch/optim/", "torch/autograd/")


class _Made(NamedTuple):
    """Who gave back something in one memory, the innermost first, who only passed it on, and what it was."""

    codes: list[CodeType]
    passed: list[CodeType]
    owners: list[weakref.ref[Any]]


class _Call:
    """One call under way. `inner`: seconds of the author's functions that it called."""

    __slots__ = ("began", "frame", "inner")

    def __init__(self, frame: FrameType) -> None:
        self.frame, self.began, self.inner = frame, time.perf_counter(), 0.0


class Trace:
    """What was heard of the author's functions. `order`: their code, in the order of their first calls; `seconds`:
    that each worked itself; `deals`: who gave back lists of positions, and their lengths; `passing`: what is handed on,
    where somebody wants to hear it.

    Only plain Python calls of the listening thread are heard, and nothing is while somebody else traces (a debugger).
    """

    def __init__(self) -> None:
        self.order: dict[CodeType, None] = {}
        self.seconds: dict[CodeType, float] = defaultdict(float)
        self.deals: list[tuple[CodeType, tuple[int, ...]]] = []
        self.passing: Passing | None = None
        self._made: dict[int, _Made] = {}
        self._calls: list[_Call] = []
        self._heard, self._looking = 0, 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what is called inside."""
        if sys.gettrace() is not None:
            yield
            return
        self._heard = 0
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)
            while self._calls:  # somebody else took over the tracing
                self._ended(self._calls.pop())

    def makers(self, array: Any) -> list[CodeType]:
        """The author's functions that gave back what lies in the memory of `array`, the innermost first; those that
        had been given it come last."""
        found = self._made.get(memory_of(array))
        return [*found.codes, *found.passed] if found is not None else []

    def hold(self, code: CodeType, values: Any, before: str) -> None:
        """Remember what is in `values` as made by `code`, where nobody is known to have made it, or first somebody in
        the file `before`."""
        for array in arrays_in(values):
            at = memory_of(array)
            if not at or not len(array.shape):
                continue
            known = self._made.get(at)
            if known is None:
                self._add(at, array, code, passed=False)
            elif not known.codes or known.codes[0].co_filename == before:
                known.codes.insert(0, code)

    def working(self, since: Mapping[CodeType, float]) -> dict[CodeType, float]:
        """Seconds that each function worked beyond those of `since`, an earlier copy of `seconds`."""
        return {code: more for code, spent in self.seconds.items() if (more := spent - since.get(code, 0.0)) > 0}

    def _called(self, frame: FrameType, event: str, given: Any) -> Any:
        self._heard += 1
        if self._heard > CALLS:
            sys.settrace(None)
            return None
        if frame.f_code.co_name in INSIDE or not is_authors(frame.f_code):
            return None
        frame.f_trace_lines = False
        self.order.setdefault(frame.f_code)
        if self.passing is not None and not self._calls:
            self.passing.begun(_arguments(frame))
        self._calls.append(_Call(frame))
        return self._within

    def _within(self, frame: FrameType, event: str, given: Any) -> Any:
        if event == "return" and any(call.frame is frame for call in self._calls):
            while (call := self._calls.pop()).frame is not frame:  # what was left without a word
                pass
            self._ended(call)
            began = time.perf_counter()
            if self._looking < LOOKING:
                with suppress(Exception):  # whatever their values do when they are looked at, their code goes on
                    self._remember(frame, given)
            self._looking += time.perf_counter() - began
        return self._within

    def _ended(self, call: _Call) -> None:
        spent, caller = time.perf_counter() - call.began, call.frame.f_back
        errand = caller is not None and any(part in caller.f_code.co_filename for part in ERRANDS)
        if errand and self._calls:
            return  # it is its caller's time
        self.seconds[call.frame.f_code] += spent - call.inner
        if self._calls:
            self._calls[-1].inner += spent

    def _remember(self, frame: FrameType, given: Any) -> None:
        code, arguments = frame.f_code, _arguments(frame)
        if self.passing is not None:
            self.passing.ended(code, arguments, given)
        if code.co_name == "__init__" and arguments:
            given = getattr(arguments.pop(0), "__dict__", {})
        elif code.co_name == "<module>":
            given, arguments = [value for name, value in frame.f_globals.items() if not name.startswith("__")], []
        elif lengths := positions_in(given):
            self.deals.append((code, lengths))
        arrays = [array for array in arrays_in(given) if len(array.shape)]
        known = {memory_of(array) for array in arrays_in(arguments)} if arrays else set()
        for array in arrays:
            if at := memory_of(array):
                self._add(at, array, code, passed=at in known)

    def _add(self, at: int, array: Any, code: CodeType, *, passed: bool) -> None:
        known = self._made.get(at)
        if known is None or all(owner() is None for owner in known.owners):  # memory that was given back and used anew
            known = self._made[at] = _Made([], [], [])
        codes = known.passed if passed else known.codes
        if code not in codes:
            codes.append(code)
        if all(owner() is not array for owner in known.owners[-8:]):
            known.owners.append(weakref.ref(array))


def _arguments(frame: FrameType) -> list[Any]:
    code = frame.f_code
    return [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
