"""A round and an evaluation of the CUDA engine on a pretended device, for test_cuda: does anything mix devices?

Tensors know their device and shape, and hold no values; PyTorch refuses to mix a pretended one with one on the CPU as
it refuses to mix a GPU's. Where Python asks for a value it is given ones. Prints what failed, by case, as JSON. This
leans on parts of PyTorch that are not public: ends with 77 where they are not there.
"""

import copy
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from small import experiment
from torch import nn

from fedlens import Clients, Data, Engine, Local, Model
from fedlens.engine.cuda import Cuda, bank, resident, slot, stack
from fedlens.engine.cuda.device import Host, Queue
from fedlens.engine.trainer import Trainer
from fedlens.methods import METHODS
from fedlens.runs import prepare
from fedlens.server import Sum
from fedlens.tree import Bound, bind

try:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
    from torch.fx.experimental.symbolic_shapes import ShapeEnv
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend("far")
except ImportError:
    sys.exit(77)


class Pretence(FakeTensorMode):
    """A mode that never computes, not even small numbers."""

    avoid_device_init = property(lambda self: True)

    def may_turn_const(self, tensor: torch.Tensor) -> bool:
        return False


def answers() -> None:
    """Let pretended tensors answer with ones."""
    for name, ones in {
        "item": lambda tensor: 1.0 if tensor.is_floating_point() else 1,
        "tolist": lambda tensor: np.ones(tuple(tensor.shape)).tolist(),
        "numpy": lambda tensor: np.ones(tuple(tensor.shape), dtype=np.int64),
        "__bool__": lambda tensor: True,
        "__float__": lambda tensor: 1.0,
        "__int__": lambda tensor: 1,
    }.items():
        real = getattr(torch.Tensor, name)
        said = lambda tensor, ones=ones, real=real: ones(tensor) if isinstance(tensor, FakeTensor) else real(tensor)  # noqa: E731
        setattr(torch.Tensor, name, said)
    torch.bincount = lambda labels, minlength=0: labels.new_zeros(minlength)  # its shape would depend on values
    torch.random.fork_rng = lambda devices=None: nullcontext()


class FarLane(Queue):
    def __init__(self) -> None:
        pass

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def seed(self, seed: int) -> None:
        pass


class Far(Host):
    where = torch.device("far")

    def lane(self) -> FarLane:
        return FarLane()


def bound_far(module: nn.Module, where: torch.device, dtype: torch.dtype) -> Bound:
    """As slot.bound_on; a real module cannot be moved to where nothing is real."""
    with unset_fake_temporarily():
        moved = copy.deepcopy(REAL[0])
    for part in moved.modules():
        for name, one in part._parameters.items():
            part._parameters[name] = None if one is None else nn.Parameter(one.detach().to(where), one.requires_grad)
        for name, one in part._buffers.items():
            part._buffers[name] = None if one is None else one.to(where)
    moved.to = lambda *how: moved
    with where:
        return bind(moved, dtype)


def can_stack_for_real(trainer: Trainer) -> bool:
    """As stack.can_stack, which tries a model out on the CPU."""
    with unset_fake_temporarily():
        return stack.can_stack(trainer)


REAL: list[nn.Module] = []
FEW = {"clients": Clients(count=3, cohort=2), "local": Local(batch=10)}
STILL = {"model": Model("small:conv_bn_without_dropout"), **FEW}
KEPT = {**STILL, "clients": Clients(count=3, cohort=2, holdout=0.2)}
CASES = {
    "augmented": {"model": Model("small:conv_bn"), **FEW, "data": Data("small:split", augment="crop-flip-cutout")},
    "kept": {**STILL, "local": Local(optimizer="adam", clip_norm=1.0, weight_decay=0.1, keep_optimizer=True)},
    "attackers": {**STILL, "clients": Clients(count=3, cohort=2, attackers=2, attack="gaussian:2.0")},
    "median": {**STILL, "server": {"reduce": "median"}},
    "measured anew": {**STILL, "server": {"statistics": "recalibrate"}},
    "per example": {"privacy": {"per_example": {"clip": 1.0, "noise": 0.5}}, "model": Model("small-cnn"), **FEW},
} | {
    name: {**(KEPT if METHODS[name]().personal else STILL), "method": METHODS[name]()}
    for name in ("scaffold", "fedlc", "moon", "fedsam", "fedbn", "fedrep", "ditto")
}
BANK = {"model": Model("small-cnn"), "local": Local(batch=10), "clients": Clients(count=4, cohort=3)}
BANKED = {
    "a bank": {**BANK, "data": Data("small:split", augment="crop-flip-cutout"), "local": CASES["kept"]["local"]},
    "a bank, scaffold": {
        **BANK,
        "method": "scaffold",
        "clients": Clients(count=4, cohort=3, attackers=2, attack="gaussian:2.0"),
    },
    "a bank, fedper": {**BANK, "method": "fedper", "clients": Clients(count=4, cohort=3, holdout=0.2)},
}


def tried(changes: dict[str, object]) -> str:
    """What failed; nothing, where all was well."""
    engine = Engine(threads=1, kind="sequential", together=1, layout="channels-last")
    federation = prepare(experiment(**{**changes, "engine": engine}))
    REAL[:] = [federation.engine.trainer.bound.module]
    here = {"slots": 2, "device": Far(), "together": 2 if changes in BANKED.values() else 1}
    cuda, start = Cuda(**{**vars(federation.engine), **here}), federation.start
    first = cuda.trainer.method.server_memory
    server = {name: torch.full_like(start.vector[: start.layout.trained], value) for name, value in first.items()}
    try:
        # How many entries a mask has depends on values; symbols for such numbers cost time.
        shapes = ShapeEnv() if cuda.trainer.kept is not None else None
        with Pretence(allow_non_fake_inputs=True, shape_env=shapes):
            visits = federation.plan.visits(1)
            begun = cuda.round(start, server, visits, {})
            again = cuda.round(start, server, visits, begun.memory)
            cuda.evaluate(start)
            cuda.evaluate(start, statistics="batch")
            if cuda.recalibrate:
                cuda.recalibrated(start, visits)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    states = [vector for state in again.memory.values() for vector in state.values()]
    sums = [total.total for total in again.sums.values() if isinstance(total, Sum)]
    if any(one.device.type != "cpu" for one in [*states, *sums, *again.integers.values()]):
        return "a result stays on the device"
    if (cuda._here._bank is not None) != (cuda.together > 1):
        return "a bank was used for what it is not for, or not used for what it is"
    if cuda._here.trainer.bound.vector.device.type != "far":
        return "nothing was done on the device"
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    answers()
    resident.can_stack = can_stack_for_real
    slot.bound_on = resident.bound_on = bank.bound_on = bound_far
    print(json.dumps({name: tried(changes) for name, changes in (CASES | BANKED).items()}))
