"""The processes of one run: what they are given, what they answer, and what becomes of one that ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from fedlens.engine.plan import Visit
from fedlens.engine.profile import Sampler, of_a_worker
from fedlens.engine.sequential import Dispatch, Sequential
from fedlens.engine.workers.parcel import Parcel, pack
from fedlens.errors import RunError
from fedlens.local.evaluate import Tally
from fedlens.methods.method import Vectors
from fedlens.shared import Shapes, Shared
from fedlens.tree import Tree

PR_SET_PDEATHSIG = 1
HELD = 2**28  # bytes of uploads that may wait for their turn
ATTEMPTS = 2  # how often a task is given out; a task that ends two processes would end them all


class Model(NamedTuple):
    """Where the model and the server's memory lie."""

    shapes: Shapes
    integers: dict[str, np.ndarray]


class Task(NamedTuple):
    """Visits, and the slot in which the clients' `states` lie; the answer goes behind them, so that they are whole for
    another process if this one ends."""

    visits: Sequence[Visit]
    slot: int
    model: Model
    states: Shapes
    clip: float


class Exam(NamedTuple):
    """Test examples to be examined."""

    order: np.ndarray
    statistics: Literal["running", "batch"]
    model: Model


class Broke(NamedTuple):
    """Something raised where nothing should: in words, and where."""

    what: str
    trace: str


class Pool:
    """The processes of one run, each at the other end of a pipe."""

    def __init__(self, engine: Sequential, processes: int) -> None:
        trainer = engine.trainer
        size, dtype = trainer.bound.vector.numel(), trainer.bound.vector.dtype
        uploads, room = len(trainer.parts), engine.hand.room
        optimizer = {"sgd": 1, "adam": 2, "adamw": 2}[trainer.local.optimizer] if trainer.local.keep_optimizer else 0
        # What a client remembers: of the method, of the codec for each upload, of the optimiser, of its own model.
        state = len(trainer.method.client_memory) + uploads + optimizer + 1
        self.width = room * (size * (2 * state + uploads + 1) + 64)  # the state there and back, uploads, the rest
        fitting = HELD // (2 * room * size * trainer.bound.vector.element_size() + 1)
        self.slots = range(max(2 * processes + 2, min(engine.expected, fitting)))
        self.room = Shared(self.width * len(self.slots), dtype)
        self.model = Shared(size * (1 + len(trainer.method.sends)) + 64, dtype)
        self.engine = engine
        self.hands = [self._start() for _ in range(processes)]

    def share(self, tree: Tree, sends: Vectors) -> Model:
        """Lay the model where the processes see it."""
        integers = {name: value.numpy() for name, value in tree.integers.items()}
        return Model(self.model.write({"model": tree.vector, **sends}), integers)

    def slot(self, number: int) -> Shared:
        """Room for one answer, number `number` of `slots`."""
        return self.room.part(number * self.width, self.width)

    def run(
        self, order: list[int], task: Callable[[int], Task | Exam | None], name: Callable[[Task | Exam], str]
    ) -> Iterator[tuple[Task | Exam, Any]]:
        """Task and answer for 0, 1, ..., given out in `order`; `task` may have to wait (None) until answers are taken.

        A process that ends is replaced and its task given out once more. Raises RunError, with `name` of the task, when
        that ends another.
        """
        waiting, idle = list(order), list(self.hands)
        busy: dict[Connection, tuple[int, Task | Exam, int, Hand]] = {}
        done: dict[int, tuple[Task | Exam, Any]] = {}
        for turn in range(len(order)):
            while turn not in done:
                while idle and waiting and (given := task(waiting[0])) is not None:
                    self._give(idle.pop(), waiting.pop(0), given, 1, busy, name(given))
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    position, given, attempt, hand = busy.pop(ready)
                    try:
                        done[position] = given, _sound(ready.recv(), name(given))
                        idle.append(hand)
                    except (EOFError, ConnectionError):
                        fresh = self._replaced(hand, attempt, name(given))
                        self._give(fresh, position, given, attempt + 1, busy, name(given))
            yield done.pop(turn)

    def _give(
        self, hand: Hand, position: int, given: Task | Exam, attempt: int, busy: dict[Connection, Any], where: str
    ) -> None:
        try:
            hand.connection.send(given)
        except (BrokenPipeError, ConnectionError):  # it ended while it had nothing to do
            hand = self._replaced(hand, attempt, where)
            hand.connection.send(given)
        busy[hand.connection] = position, given, attempt, hand

    def _replaced(self, hand: Hand, attempt: int, where: str) -> Hand:
        hand.end()
        if attempt >= ATTEMPTS:
            do = "Look for what ended it (often too little memory), then go on with --resume."
            seen = f"{hand.how_it_ended()}, after the same work had ended another"
            raise RunError("a worker process ended unexpectedly", where=where, seen=seen, do=do)
        self.hands[self.hands.index(hand)] = fresh = self._start()
        return fresh

    def _start(self) -> Hand:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        others = [hand.connection for hand in self.__dict__.get("hands", [])] + [ours]
        child = context.Process(target=_serve, args=(self, theirs, others, of_a_worker()), daemon=True)
        child.start()
        theirs.close()
        return Hand(ours, child)

    def close(self) -> None:
        """End the processes."""
        for hand in self.hands:
            hand.connection.close()  # a child that finds its pipe closed returns
        for hand in self.hands:
            hand.end(patience=1.0)


class Hand:
    """One process and our end of its pipe."""

    def __init__(self, connection: Connection, process: Any) -> None:
        self.connection, self.process = connection, process

    def end(self, patience: float = 0.0) -> None:
        """Close the pipe and end the process."""
        self.connection.close()
        self.process.join(timeout=patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def how_it_ended(self) -> str:
        """The signal or exit code of a process that has ended."""
        code = self.process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _sound(answer: Any, where: str) -> Any:
    """`answer`, unless it says that something raised."""
    if not isinstance(answer, Broke):
        return answer
    do = "If it wants memory, lower engine.processes; -v shows where it raised."
    error = RunError("a worker process failed", where=where, seen=answer.what, do=do)
    error.add_note(answer.trace)
    raise error


def client_of(task: Task | Exam) -> str:
    """Whose work `task` is, in words."""
    assert isinstance(task, Task)
    clients = ", ".join(str(visit.client) for visit in task.visits[:3])
    more = f" and {len(task.visits) - 3} more" if len(task.visits) > 3 else ""
    return f"client {clients}{more}, round {task.visits[0].round}"


def examined(exam: Task | Exam) -> str:
    """What `exam` is, in words."""
    return "the evaluation on the test set"


def _serve(pool: Pool, mine: Connection, others: list[Connection], sampler: Sampler | None) -> None:
    """Answer tasks until the other end is closed, looked at by `sampler` where there is one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who lets the round finish
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent()
    for connection in others:
        connection.close()
    torch.set_num_threads(1)
    if sampler is not None:
        sampler.start()
    while True:
        try:
            task = mine.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer: Any = _done(pool, task) if isinstance(task, Task) else _examination(pool, task)
        except Exception as error:
            answer = Broke(f"{type(error).__name__}: {error}", traceback.format_exc())
        mine.send(answer)


def _die_with_parent() -> None:
    """End at once with the parent, on Linux: work that nobody waits for would hold the run's lock."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)


def _tree(pool: Pool, model: Model) -> tuple[Tree, Vectors]:
    received = pool.model.read(model.shapes)
    integers = {name: torch.from_numpy(value) for name, value in model.integers.items()}
    return Tree(pool.engine.trainer.bound.layout, received.pop("model"), integers), received


def _done(pool: Pool, task: Task) -> Parcel:
    tree, sends = _tree(pool, task.model)
    slot = pool.slot(task.slot)
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for key, vector in slot.read(task.states).items():
        client, _, name = key.partition("/")
        memory.setdefault(int(client), {})[name] = vector.clone()
    given = pool.engine.hand.work(Dispatch(tree, sends, memory, task.clip), task.visits)
    return pack(given, slot.after(task.states))


def _examination(pool: Pool, exam: Exam) -> Tally:
    tree, _ = _tree(pool, exam.model)
    pool.engine.trainer.bound.load(tree)
    (found,) = Sequential.tallies(pool.engine, tree, exam.order, exam.statistics)
    return found
