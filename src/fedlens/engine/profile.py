"""Where a round's time goes, found by looking: every few milliseconds, at which function a process stands.

A look is booked under the innermost function on the stack that PLACES knows. Nothing is added to what is looked at, so
that a run without a profile pays nothing, and one with it only for the looks. The intervals vary, so that they do not
beat against the work; looks that come late, because one call kept Python to itself, all count where it stood.
"""

from __future__ import annotations

import mmap
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any

INTERVAL = 0.01  # seconds between looks, on average: a look takes some 0.1 ms of what it looks at

# Category -> modules, and functions and classes as "module:name"; each stands for all that is inside it, save for what
# is named more closely. tests/engine/test_profile.py fails where one of them no longer exists.
PLACES: Mapping[str, Sequence[str]] = {
    "forward": (
        "fedlens.local.step:Work",
        "fedlens.local.compute",
        "fedlens.local.statistics",
        "fedlens.engine.gkt:Exchange._show",
        "fedlens.engine.gkt:Exchange._answer",
        "fedlens.local.private:clipped_sum",
    ),
    "backward": ("torch._tensor:Tensor.backward", "torch.autograd:backward", "torch.autograd:grad"),
    "together": ("fedlens.local.chain.chain", "fedlens.local.chain.dual", "fedlens.local.chain.chunk"),
    "optimiser": ("fedlens.local.optimizer", "fedlens.local.step:_step", "fedlens.local.step:_plain_step"),
    "method": (
        "fedlens.methods",
        "fedlens.engine.trainer:_of",
        "fedlens.engine.trainer:Trainer._loss",
        "fedlens.engine.together:Together._train",
        "fedlens.local.step:_again_beside",
    ),
    "loading": (
        "fedlens.data",
        "fedlens.engine.feed",
        "fedlens.engine.plan:Passes",
        "fedlens.engine.together:Together.work",
        "fedlens.engine.gkt:Exchange._images",
        "fedlens.local.chain.chunk:Chunk.of",
    ),
    "augmentation": ("fedlens.local.augment",),
    "state": (
        "fedlens.tree",
        "fedlens.local.step:train",
        "fedlens.engine.trainer",
        "fedlens.engine.gkt",
        "fedlens.runs.states",
    ),
    "communication": (
        "fedlens.engine.sender",
        "fedlens.engine.trainer:Trainer.delivery",
        "fedlens.engine.together:Together._delivery",
        "fedlens.server.codec",
        "fedlens.server.communication",
    ),
    "privacy": ("fedlens.local.private", "fedlens.server.privacy"),
    "aggregation": (
        "fedlens.server",
        "fedlens.engine.sequential",
        "fedlens.engine.together:Together._sum",
        "fedlens.runs.loop:_next",
    ),
    "planning": ("fedlens.engine.plan", "fedlens.engine.select", "fedlens.engine.network", "fedlens.partition"),
    "evaluation": (
        "fedlens.runs.loop:_evaluated",
        "fedlens.runs.measure",
        "fedlens.local.evaluate",
        "fedlens.engine.workers.pool:_examination",
    ),
    "recording": (
        "fedlens.runs.store",
        "fedlens.runs.loop:_facts",
        "fedlens.runs.loop:_in_vain",
        "fedlens.runs.loop:_travel",
        "fedlens.cli.progress",
    ),
    "transport": ("fedlens.engine.workers", "fedlens.shared"),
    "device": ("fedlens.engine.cuda",),
    "idle": ("multiprocessing.connection:wait", "multiprocessing.connection:Connection._recv"),
}
IDLE, OTHER = "idle", "other"
CATEGORIES = (*PLACES, OTHER)
WHOLE = {"planning", "evaluation", "recording"}  # with all that happens inside, save waiting: the outermost counts


class Sampler:
    """Looks at the thread that starts it, and counts looks by category.

    The counts lie in memory that a forked process shares with its parent, who reads them even where it was killed.
    """

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 8 * len(CATEGORIES))).cast("q")
        self._found: dict[int, tuple[CodeType, str]] = {}  # a code object is kept, so that its id is not given again
        self._base: FrameType | None = None
        self._over = False
        self._looker: threading.Thread | None = None

    @property
    def looks(self) -> dict[str, int]:
        """How often the thread stood in each category."""
        return dict(zip(CATEGORIES, self._counts, strict=True))

    def start(self) -> None:
        """Begin to look at the calling thread, down to the function that calls this: in a forked process there follows
        what its parent was doing then."""
        self._base = sys._getframe(1)
        self._looker = threading.Thread(target=self._look, args=(threading.get_ident(),), daemon=True)
        self._looker.start()

    def stop(self) -> None:
        """Look no more."""
        self._over = True
        if self._looker is not None:
            self._looker.join()

    def category(self, frame: FrameType | None) -> str:
        """What the stack that ends with `frame` is booked under."""
        found = ""
        while frame is not None:
            here = self._place(frame)
            found = here if not found or here in WHOLE else found
            if found == IDLE or frame is self._base:
                break
            frame = frame.f_back
        return found or OTHER

    def _place(self, frame: FrameType) -> str:
        """The category of the function of `frame` itself; empty where it has none."""
        code = frame.f_code
        if id(code) not in self._found:
            self._found[id(code)] = code, _category(frame.f_globals.get("__name__", ""), code.co_qualname)
        return self._found[id(code)][1]

    def _look(self, thread: int) -> None:
        rng, due = random.Random(0), time.perf_counter() + INTERVAL
        while True:
            time.sleep(max(0.0, due - time.perf_counter()))
            if self._over:
                return
            frame, looks = sys._current_frames().get(thread), 0
            while due <= time.perf_counter():
                due += INTERVAL * rng.uniform(0.5, 1.5)
                looks += 1
            self._counts[CATEGORIES.index(self.category(frame))] += looks
            del frame  # it holds the tensors of its function


class Profile:
    """What was seen of this process, and of those that it started. `seconds`: how long it lasted, once it is over."""

    def __init__(self) -> None:
        self.parent = Sampler()
        self.workers: list[Sampler] = []
        self.seconds = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Seconds by category, most first: of the parent, and of all workers together (None: there were none)."""
        workers = _together(self.workers) if self.workers else None
        return {"seconds": self.seconds, "interval": INTERVAL, "parent": _together([self.parent]), "workers": workers}


@contextmanager
def profiled() -> Iterator[Profile]:
    """A profile of what the calling thread does inside, and the processes that a Pool forks there."""
    profile, began = Profile(), time.perf_counter()
    token = _RUNNING.set(profile)
    profile.parent.start()
    try:
        yield profile
    finally:
        profile.parent.stop()
        _RUNNING.reset(token)
        profile.seconds = time.perf_counter() - began


def of_a_worker() -> Sampler | None:
    """What a process that is about to be forked is to start; None where nothing is profiled."""
    profile = _RUNNING.get()
    if profile is None:
        return None
    profile.workers.append(Sampler())
    return profile.workers[-1]


_RUNNING: ContextVar[Profile | None] = ContextVar("profile", default=None)


def _together(samplers: Sequence[Sampler]) -> dict[str, Any]:
    looks = {category: sum(one.looks[category] for one in samplers) for category in CATEGORIES}
    most_first = sorted((name for name in looks if looks[name]), key=lambda name: -looks[name])
    seconds = {name: looks[name] * INTERVAL for name in most_first}
    return {"processes": len(samplers), "looks": sum(looks.values()), "seconds": seconds}


def _category(module: str, name: str) -> str:
    """The category of the closest of PLACES around function `name` of `module`; empty where there is none."""
    while name:
        if f"{module}:{name}" in _OF:
            return _OF[f"{module}:{name}"]
        name = name.rpartition(".")[0]
    while module:
        if module in _OF:
            return _OF[module]
        module = module.rpartition(".")[0]
    return ""


_OF = {place: category for category, places in PLACES.items() for place in places}
