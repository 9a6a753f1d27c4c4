"""Who made a job's data, and who does the work of each stage: from one making of the job and a call of each part."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from fedlens.diagnosis.evidence import Facts, Origins
from fedlens.diagnosis.origins.frames import is_authors, place
from fedlens.diagnosis.origins.memory import arrays_in, sources
from fedlens.diagnosis.origins.passing import Passing
from fedlens.diagnosis.origins.trace import Trace
from fedlens.diagnosis.origins.written import numbers_written
from fedlens.diagnosis.subject.guard import Ailing, guarded
from fedlens.diagnosis.subject.patient import STAGES, Patient

PARTS = (*STAGES, "train_data", "test_data")
CLIENTS = 50  # that are asked for their data
SECONDS = 0.5  # after which no more of them are


@dataclass(frozen=True)
class _Home:
    """Where the job lives: the folders of its functions, and the file that puts it together, "" where there is none."""

    folders: tuple[str, ...]
    adapter: str

    def holds(self, code: CodeType) -> bool:
        """Whether `code` stands in those folders or below."""
        return is_authors(code) and code.co_filename.startswith(self.folders)

    def adapts(self, code: CodeType) -> bool:
        """Whether `code` stands in the file that puts the job together."""
        return code.co_filename == self.adapter


def examine_origins(patient: Patient, trace: Trace, facts: Facts) -> tuple[Origins, dict[str, str]]:
    """Whence the data of `patient`, whose making `trace` heard, and file:line of the stages that others do the work of.

    The patient's random states and models are used up. Raises nothing: what cannot be told is left out.
    """
    home = _home(patient, trace)
    if not home.folders:
        return Origins(), {}
    numbers = numbers_written(home.folders)
    for code, values in _globals(home):
        trace.hold(code, values, home.adapter)
    inputs, labels, sizes = _of_clients(patient, trace, facts, home)
    tests = _of_data(patient, trace, home, "test_data") if "test_data" in facts.offers else None
    origins = Origins(
        inputs=inputs,
        labels=labels,
        test_inputs=tests.inputs if tests else "",
        test_labels=tests.labels if tests else "",
        dealt=_dealt(trace, home, sizes, facts.clients),
        numbers=numbers,
    )
    return origins, _network(patient, home) | _stages(patient, trace, home)


def code_of(function: Any) -> CodeType | None:
    """The code that a call of `function` runs first, behind methods, wrappers and partial calls."""
    while isinstance(function, functools.partial):
        function = function.func
    plain = inspect.unwrap(getattr(function, "__func__", function)) if callable(function) else function
    if not isinstance(plain, FunctionType) and not isinstance(plain, type):
        plain = getattr(type(plain).__call__, "__func__", type(plain).__call__) if callable(plain) else plain
    return getattr(plain, "__code__", None)


def _home(patient: Patient, trace: Trace) -> _Home:
    codes = [code for name in PARTS if (code := code_of(getattr(patient.job, name, None))) is not None]
    own = [code for code in codes if is_authors(code)]
    folders = tuple(sorted({f"{Path(code.co_filename).parent}{os.sep}" for code in own}))
    if not folders:
        return _Home((), "")
    first = next((code for code in trace.order if code.co_filename.startswith(folders)), None)
    return _Home(folders, first.co_filename if first is not None else "")


def _globals(home: _Home) -> Iterator[tuple[CodeType, Any]]:
    """What the job's modules hold, as if it were made where its name stands first."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.startswith(home.folders) and file != home.adapter:
            for name, value in list(vars(module).items()):
                if (
                    not name.startswith("__")
                    and not isinstance(value, FunctionType)
                    and next(arrays_in(value, most=500), None) is not None
                ):
                    yield compile("", file, "exec").replace(co_firstlineno=_line(file, name)), value


def _line(file: str, name: str) -> int:
    lines = Path(file).read_text(errors="replace").splitlines()
    return next((at for at, line in enumerate(lines, 1) if re.match(rf"[^#=]*\b{re.escape(name)}\b[^=]*=", line)), 1)


@dataclass(frozen=True)
class _Whence:
    inputs: str
    labels: str
    size: int | None


def _of_clients(
    patient: Patient, trace: Trace, facts: Facts, home: _Home
) -> tuple[dict[int, str], dict[int, str], dict[int, int]]:
    inputs: dict[int, str] = {}
    labels: dict[int, str] = {}
    sizes: dict[int, int] = {}
    if "train_data" not in facts.offers:
        return inputs, labels, sizes
    chosen = np.unique(np.linspace(0, facts.clients - 1, min(CLIENTS, facts.clients)).round().astype(int))
    began = time.perf_counter()
    for client in chosen.tolist():
        if time.perf_counter() - began > SECONDS:
            break
        found = _of_data(patient, trace, home, "train_data", client)
        if found is not None:
            inputs[client], labels[client] = found.inputs, found.labels
            if found.size is not None:
                sizes[client] = found.size
    return inputs, labels, sizes


def _of_data(patient: Patient, trace: Trace, home: _Home, part: str, *given: int) -> _Whence | None:
    """Who made what the function `part` of the job gives; None where it fails."""
    function, before = getattr(patient.job, part), dict(trace.seconds)
    try:
        with guarded(part, "", patient.patience), trace.listening():
            raw = function(*given)
    except Ailing:
        return None
    known = _reading(raw, home)
    if known is None:
        known = next((one for one in _workers(trace, before, home) if not home.adapts(one)), None)
        fallback = known or code_of(function)
        first, second, size = _halves(raw)
        makers = [_maker(trace, home, half, function) or fallback for half in (first, second)]
    else:
        makers, size = [known, known], None
    where = [place((code, code.co_firstlineno)) if code is not None and home.holds(code) else "" for code in makers]
    return _Whence(where[0], where[1], size)


def _reading(raw: Any, home: _Home) -> CodeType | None:
    """The author's own function that reads a row of a data set, where rows are read one by one."""
    for _ in range(5):
        code = code_of(getattr(type(raw), "__getitem__", None))
        if code is not None and home.holds(code):
            return code
        raw = getattr(raw, "dataset", None)
    return None


def _halves(raw: Any) -> tuple[Any, Any, int | None]:
    """Inputs and labels as they lie in what was given, and how many there are."""
    if isinstance(raw, Mapping) and len(raw) >= 2:
        raw = list(raw.values())[:2]
    if not (isinstance(raw, tuple | list) and len(raw) == 2):
        held = [array for array in arrays_in(raw) if len(array.shape)]
        raw = (held[:1], held[1:2] or held[:1])
    return raw[0], raw[1], len(raw[1]) if hasattr(raw[1], "__len__") else None


def _maker(trace: Trace, home: _Home, half: Any, function: Any) -> CodeType | None:
    """Who made the array `half`. What the file that puts the job together cuts out of others' data is theirs."""
    own = _first(trace, home, half)
    if own is None or not home.adapts(own):
        return own
    plain = getattr(function, "__func__", function)
    beside = sources(plain) if isinstance(plain, FunctionType) else [function]
    theirs = [code for array in arrays_in(beside) for code in trace.makers(array)[:1]]
    outside = Counter(code for code in theirs if home.holds(code) and not home.adapts(code))
    cut = own is code_of(function)  # it is no more than a cut, made in this very call
    return outside.most_common(1)[0][0] if outside and cut else own


def _first(trace: Trace, home: _Home, half: Any) -> CodeType | None:
    for array in arrays_in(half, most=50):
        if codes := [code for code in trace.makers(array) if home.holds(code)]:
            return codes[0]
    return None


def _dealt(trace: Trace, home: _Home, sizes: Mapping[int, int], clients: int) -> str:
    for code, lengths in trace.deals:
        fits = len(lengths) == clients and all(lengths[client] == size for client, size in sizes.items())
        if sizes and fits and home.holds(code):
            return place((code, code.co_firstlineno))
    return ""


def _workers(trace: Trace, before: Mapping[CodeType, float], home: _Home) -> Sequence[CodeType]:
    """The author's functions that worked since `before`, the longest first."""
    spent = trace.working(before)
    return sorted((code for code in spent if home.holds(code)), key=lambda code: -spent[code])


def _network(patient: Patient, home: _Home) -> dict[str, str]:
    """file:line of the class that the network is of, where it is the author's own."""
    if patient.offers("model"):
        with suppress(Ailing):
            code = code_of(vars(type(patient.model())).get("__init__"))
            if code is not None and home.holds(code):
                return {"model": place((code, code.co_firstlineno))}
    return {}


def _stages(patient: Patient, trace: Trace, home: _Home) -> dict[str, str]:
    """file:line of who does the work of a stage that the file which puts the job together only passes on."""
    codes = {name: code_of(getattr(patient.job, name, None)) for name in STAGES}
    passed = {name for name, code in codes.items() if code is not None and home.adapts(code)}
    if not passed or all(home.adapts(code) for code in trace.order if home.holds(code)):
        return {}
    found = dict(_played(patient, trace, home, passed))
    return {
        name: place((worker, worker.co_firstlineno))
        for name, worker in found.items()
        if worker is not None and home.holds(worker) and not home.adapts(worker)
    }


def _played(patient: Patient, trace: Trace, home: _Home, passed: set[str]) -> Iterator[tuple[str, CodeType | None]]:
    """Of the stages in `passed`, called once in the order of a round, who does the work: the function that works
    longest or, where it can be told, who gave back what the stage is about; and who loads what a client is sent
    ("load") and makes its optimiser ("optimizer"). A failure is told of where the stage is examined."""

    def worker(call: Callable[..., Any], *given: Any) -> tuple[CodeType | None, Any, Passing]:
        before, told = dict(trace.seconds), None
        trace.passing = heard = Passing()
        with suppress(Ailing), trace.listening():
            told = call(*given)
        trace.passing = None
        return next(iter(_workers(trace, before, home)), None), told, heard

    found, asked, _ = worker(patient.sample, 1)
    yield "sample", found
    if passed & {"fit", "aggregate"} and asked:
        found, sent, heard = worker(patient.fit, asked[0], patient.init, 1)
        yield "fit", found
        yield "load", next(iter(heard.loaders), None)
        yield "optimizer", next(iter(heard.optimizers), None)
        if sent is not None:
            found, _, heard = worker(patient.aggregate, patient.init, [sent] * len(asked), 1)
            yield "aggregate", heard.who_weighs(len(asked)) or found
    if "evaluate" in passed:
        found, told, heard = worker(patient.evaluate, patient.init, 1)
        yield "evaluate", (heard.who_told(told) if told else None) or found
