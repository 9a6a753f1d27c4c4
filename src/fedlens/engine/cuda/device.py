"""What the engine asks of a device, and who answers: a GPU, or the CPU in its place where the engine itself is tried.

A lane is a queue of work. Each has a stream of its own, because what is captured on one stream shares cuBLAS's
workspace, and a memory pool and a generator of its own, because their graphs run at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

Step = Callable[[], None]
WARM = 3  # times that a step is run as it is before it is captured
HELD = 2**28  # bytes of results that may wait for their turn on the CPU
SHARE = 4  # on a GPU: of the free memory, one part in so many


class Lane(Protocol):
    """Work that is done in the order in which it is asked for, at the same time as that of other lanes."""

    def active(self) -> AbstractContextManager[None]:
        """Inside, what is asked for goes to this lane, and PyTorch draws from this lane's generator."""

    def follow(self) -> None:
        """What comes next waits for all that was asked for outside of lanes."""

    def seed(self, seed: int) -> None:
        """Start the lane's generator anew."""

    def capture(self, step: Step) -> Step:
        """What `step` asks of the device, as one piece that can be repeated; it is not run. Call it while active."""

    def mark(self) -> Callable[[], bool]:
        """A question: is all done that this lane has been asked for up to now?"""


class Device(Protocol):
    """Where the work is done."""

    @property
    def where(self) -> torch.device:
        """The device, for tensors."""

    def lane(self) -> Lane:
        """A new queue of work."""

    def exact(self) -> AbstractContextManager[None]:
        """Inside, float32 means float32, and equal work gives equal numbers."""

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Inside and outside of lanes, PyTorch draws on the device from `seed` on."""

    def finish(self) -> None:
        """Wait until all is done."""

    def room(self) -> int:
        """Bytes that results may take while they wait for their turn."""


class Uncaptured(Exception):
    """A step cannot be captured; where something raised, that is the cause."""


class Repeated:
    """A step that is asked for often. It is run as it is at first, because libraries choose and set up their kernels
    when they are first used, and then captured. Raises Uncaptured where that fails."""

    def __init__(self, lane: Lane, step: Step) -> None:
        self.lane, self.step, self.runs = lane, step, 0
        self.graph: Step | None = None

    def __call__(self) -> None:
        """Ask for the step once; the lane is active."""
        self.runs += 1
        if self.runs <= WARM:
            self.step()
            return
        if self.graph is None:
            try:
                self.graph = self.lane.capture(self.step)
            except Exception as error:
                raise Uncaptured(str(error)) from error
        self.graph()


class Stream:
    """A lane of a GPU."""

    def __init__(self) -> None:
        cuda: Any = torch.cuda
        self.stream, self.pool = cuda.Stream(), cuda.graph_pool_handle()
        self.generator = torch.Generator("cuda")

    @contextmanager
    def active(self) -> Iterator[None]:
        # Layers draw from the default generator, whose state graphs share: two that replay at the same time would
        # overwrite each other's offset. So its state is exchanged for this lane's; a capture registers what it finds.
        default: Any = torch.cuda.default_generators[torch.cuda.current_device()]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self.generator)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            default.graphsafe_set_state(before)

    def follow(self) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def capture(self, step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        # One pool for the graphs of a lane: they never run at the same time, and leave nothing in it for later.
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            step()
        replay: Step = graph.replay
        return replay

    def mark(self) -> Callable[[], bool]:
        query: Callable[[], bool] = self.stream.record_event().query
        return query


class Gpu:
    """The current CUDA device. Nothing is set up before it is used."""

    where = torch.device("cuda")

    def lane(self) -> Stream:
        return Stream()

    @contextmanager
    def exact(self) -> Iterator[None]:
        # By default PyTorch rounds the inputs of float32 convolutions to TF32's 11 bits.
        cudnn: Any = torch.backends.cudnn
        place, name, exact = (
            (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
        )
        wanted = [(place, name, exact), (cudnn, "deterministic", True), (cudnn, "benchmark", False)]
        before = [(place, name, getattr(place, name)) for place, name, _ in wanted]
        _set(wanted)
        try:
            yield
        finally:
            _set(before)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
            torch.cuda.manual_seed(seed)
            yield

    def finish(self) -> None:
        torch.cuda.synchronize()

    def room(self) -> int:
        return int(torch.cuda.mem_get_info()[0]) // SHARE


class Queue:
    """A lane of the CPU: all is done at once, and a captured step is the step itself."""

    def __init__(self) -> None:
        self.state = torch.default_generator.get_state()

    @contextmanager
    def active(self) -> Iterator[None]:
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.state)
        try:
            yield
        finally:
            self.state = torch.default_generator.get_state()
            torch.default_generator.set_state(before)

    def follow(self) -> None:
        pass

    def seed(self, seed: int) -> None:
        self.state = torch.Generator().manual_seed(seed).get_state()

    def capture(self, step: Step) -> Step:
        return step

    def mark(self) -> Callable[[], bool]:
        return lambda: True


class Host:
    """The CPU in a GPU's place: the same engine without graphs, to compare with."""

    where = torch.device("cpu")

    def lane(self) -> Queue:
        return Queue()

    def exact(self) -> AbstractContextManager[None]:
        return nullcontext()

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        return nullcontext()  # training seeds the CPU's generator itself

    def finish(self) -> None:
        pass

    def room(self) -> int:
        return HELD


def _set(flags: list[tuple[Any, str, Any]]) -> None:
    for place, name, value in flags:
        setattr(place, name, value)
