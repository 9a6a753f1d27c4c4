"""Calls of the author's code: stopped when they hang, and every failure told with the author's own line."""

from __future__ import annotations

import inspect
import os
import random
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fedlens.diagnosis.subject.forms import Unreadable
from fedlens.errors import ConfigurationError, RunError

Drawn = tuple[Any, Any, torch.Tensor]


class Ailing(RunError):
    """The author's code raised, hung or gave what cannot be read; `stage` names the function."""

    stage = ""


class _Hung(BaseException):
    """Raised inside code that takes too long; no Exception, so that code which catches all does not catch it."""


def seeded(*numbers: int) -> None:
    """Set all global random states from `numbers`."""
    seed = int(np.random.SeedSequence([number % 2**32 for number in numbers]).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed looks at every kind of device, for 4 ms


def drawn_so_far() -> Drawn:
    """All global random states."""
    return random.getstate(), np.random.get_state(), torch.default_generator.get_state()


def redrawn(states: Drawn) -> None:
    """Set all global random states to `states`."""
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.default_generator.set_state(states[2])


def line_of(function: Any) -> str:
    """file:line of a function's definition, relative to the current folder; "" where it cannot be told."""
    try:
        unwrapped = inspect.unwrap(getattr(function, "__func__", function))
        path, line = inspect.getsourcefile(unwrapped), inspect.getsourcelines(unwrapped)[1]
    except (OSError, TypeError):
        return ""
    return "" if path is None else f"{_short(path)}:{line}"


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


@contextmanager
def guarded(stage: str, where: str, patience: float) -> Iterator[None]:
    """Turn whatever goes wrong inside into Ailing, with the line of the author's code; stop what hangs."""
    place, learning = ", ".join(filter(None, (stage, where))), torch.is_grad_enabled()
    try:
        with _limited(patience):
            yield
    except (Ailing, ConfigurationError):
        raise
    except _Hung as error:
        do = "Look for a loop or a lock that does not end; --patience SECONDS waits longer."
        raise _ailing(stage, "the call did not come back", place, f"{patience:g} s, {_line(error)}", do) from None
    except Unreadable as error:
        do = "Return what fedlens.Job says, or convert it in the adapter."
        raise _ailing(stage, "what it gave cannot be read", place, str(error), do) from None
    except (Exception, SystemExit) as error:
        seen = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} ({_line(error)})"
        raise _ailing(stage, "the job's own code failed", place, seen, "Mend it; -v shows the traceback.") from error
    finally:
        torch.set_grad_enabled(learning)  # code that was stopped in no_grad leaves it off


def _ailing(stage: str, what: str, where: str, seen: str, do: str) -> Ailing:
    error = Ailing(what, where=where, seen=seen, do=do)
    error.stage = stage
    return error


def _line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    author = [f for f in frames if f"{os.sep}fedlens{os.sep}" not in f.filename and "site-packages" not in f.filename]
    frame = (author or list(frames))[-1]
    return f"{_short(frame.filename)}:{frame.lineno}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise _Hung inside after `seconds`; only the main thread can be interrupted, and limits do not nest."""
    nested = threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0] > 0
    if nested or not seconds > 0:
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise _Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
