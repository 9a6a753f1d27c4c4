"""The CUDA engine gives what the sequential engine gives; tried on the CPU, without a GPU.

`Host` takes the GPU's place: the same slots, tables and counters, a step in place of its graph. `Frozen` goes further:
it records a step's operations as a capture does, without anything that Python decides, and repeats the record.
"""

import dataclasses
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small import conv_bn_without_dropout, experiment
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from fedlens import Clients, ConfigurationError, Data, Engine, Local, Model, RunError, Schedule
from fedlens.data import Rows
from fedlens.engine import Sequential
from fedlens.engine.cuda import Cuda, check_cuda
from fedlens.engine.cuda.crew import Crew
from fedlens.engine.cuda.device import WARM, Gpu, Host, Queue
from fedlens.engine.cuda.exam import Exam
from fedlens.engine.cuda.slot import Shape, Slot
from fedlens.engine.cuda.update import Update
from fedlens.engine.sequential import Dispatch
from fedlens.local import Optimizer
from fedlens.methods import METHODS, Transfer
from fedlens.runs import prepare
from fedlens.runs.loop import State, advance


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """An engine that is closed collects garbage; what was there before cannot be any."""
    gc.freeze()
    yield
    gc.unfreeze()


UPDATES = [name for name, make in METHODS.items() if not isinstance(make(), Transfer)]
RAGGED = Clients(count=6, cohort=5, partition={"kind": "quantity", "sigma": 1.0})
STILL = Model("small:conv_bn_without_dropout")
# What a capture cannot hold: answers that Python waits for, shapes that depend on values, constants from the CPU.
REFUSED = {"_local_scalar_dense", "nonzero", "lift_fresh", "lift_fresh_copy"}


class Tape(Queue):
    """A lane that records what a step asks for, and then knows nothing else."""

    records = 0

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        known = [one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)]
        before = [one.detach().clone() for one in known]
        random = torch.default_generator.get_state()
        graph = make_fx(step)()  # which also runs it
        with torch.no_grad():
            for one, value in zip(known, before, strict=True):
                one.copy_(value)
        torch.default_generator.set_state(random)
        asked = {getattr(node.target, "_opname", "") for node in graph.graph.nodes}
        if asked & REFUSED:
            raise RuntimeError(f"not permitted while capturing: {', '.join(asked & REFUSED)}")
        Tape.records += 1

        def replay() -> None:
            with torch.no_grad():
                graph()

        return replay


class Frozen(Host):
    """The CPU, with records for graphs."""

    def lane(self) -> Tape:
        return Tape()


class Late(Queue):
    """A lane whose work takes until it has been asked for three times."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[list[int]] = []

    def mark(self) -> Callable[[], bool]:
        left = [3]
        self.under_way.append(left)

        def reached() -> bool:
            left[0] -= 1
            if not left[0]:
                self.under_way.pop(0)
            return left[0] <= 0

        return reached

    def follow(self) -> None:
        assert not self.under_way, "a slot was given a visit while it still worked on another"


class Slow(Host):
    """The CPU, where answers take their time."""

    def lane(self) -> Late:
        return Late()


def engine_of(federation, **cuda: object) -> Cuda:
    return Cuda(**{**vars(federation.engine), "device": Host(), **cuda})


def final(
    changes: dict[str, object], layout: str = "channels-first", precision: str = "float64", **cuda: object
) -> State:
    """The end of a run, by the sequential engine or, where `cuda` says how, by this one."""
    engine = Engine(threads=1, kind="sequential", together=1, layout=layout, precision=precision)
    federation = prepare(experiment(**{"rounds": 3, **changes}, engine=engine))
    if cuda:
        federation = dataclasses.replace(federation, engine=engine_of(federation, **cuda))
    return list(advance(federation))[-1]


def assert_same(one: State, other: State) -> None:
    """To the last bit."""
    assert torch.equal(one.tree.vector, other.tree.vector) and one.row == other.row
    assert one.records == other.records and one.memory.keys() == other.memory.keys()
    for mine, theirs in ((one.server, other.server), *((one.memory[c], other.memory[c]) for c in one.memory)):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert all(torch.equal(one.tree.integers[name], other.tree.integers[name]) for name in one.tree.integers)


def assert_equal(one: State, other: State, within: float = 1e-12) -> None:
    """To rounding."""
    torch.testing.assert_close(one.tree.vector, other.tree.vector, rtol=within, atol=within)
    assert one.memory.keys() == other.memory.keys() and one.tree.integers == other.tree.integers
    for client, kept in one.memory.items():
        assert kept.keys() == other.memory[client].keys()
        for name, vector in kept.items():
            torch.testing.assert_close(vector, other.memory[client][name], rtol=within, atol=within)
    assert one.row.keys() == other.row.keys()
    for name, value in one.row.items():
        exact = value == other.row[name]  # skipped clients are no numbers
        assert exact or value == pytest.approx(other.row[name], rel=1e-10), name
    for mine, theirs in zip(one.records, other.records, strict=True):
        assert dataclasses.astuple(mine) == pytest.approx(dataclasses.astuple(theirs), rel=1e-10)


@pytest.mark.parametrize("name", UPDATES)
def test_every_method_gives_what_one_by_one_gives(name):
    whole = name == "fedsgd"
    local = Local(batch="all" if whole else 4, epochs=1 if whole else 2, lr=0.05)
    held = 0.2 if METHODS[name]().personal else 0.0
    clients = Clients(count=4, cohort=3, partition={"kind": "quantity", "sigma": 1.0}, holdout=held)
    changes = {"method": METHODS[name](), "local": local, "clients": clients, "model": STILL}
    assert_equal(final(changes), final(changes, slots=2))


needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")


@needs_a_gpu
@pytest.mark.parametrize("name", UPDATES)
def test_on_a_gpu_every_method_gives_what_one_by_one_gives(name):
    local = Local(batch="all" if name == "fedsgd" else 4, epochs=1 if name == "fedsgd" else 2, lr=0.05)
    held = 0.2 if METHODS[name]().personal else 0.0
    clients = Clients(count=4, cohort=3, partition={"kind": "quantity", "sigma": 1.0}, holdout=held)
    changes = {"method": METHODS[name](), "local": local, "clients": clients, "model": STILL}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a step that is not captured is told so
        assert_equal(final(changes), final(changes, slots=2, device=Gpu()), within=1e-9)


@needs_a_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_any_number_of_slots_gives_the_same_run_to_the_last_bit(precision):
    # Not the net with adaptive pooling, whose backward pass on a GPU adds in any order.
    model = Model("small-cnn", norm="batch", dropout=0.3)
    changes = {"model": model, "clients": RAGGED, "local": Local(batch=4, epochs=3, momentum=0.9), "rounds": 4}
    ends = [final(changes, precision=precision, slots=slots, device=Gpu()) for slots in (1, 2, 4)]
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


WORK = {
    "momentum that is kept": {"local": Local(batch=4, momentum=0.9, keep_optimizer=True)},
    "nesterov": {"local": Local(batch=4, epochs=2, momentum=0.9, nesterov=True, clip_norm=0.5)},
    "adam that is kept": {"local": Local(batch=4, optimizer="adam", lr=0.01, keep_optimizer=True)},
    "adamw": {"local": Local(batch=4, epochs=2, optimizer="adamw", lr=0.01, weight_decay=0.1)},
    "weight decay": {"local": Local(batch=3, weight_decay=0.1, scale_lr_by_size=True)},
    "statistics that freeze": {"local": Local(batch=4, epochs=3, freeze_statistics_from=0.4)},
    "crop, flip and cutout": {"data": Data("small:split", augment="crop-flip-cutout"), "local": Local(batch=4)},
    "dropout": {"model": Model("small:conv_bn"), "local": Local(batch=4, epochs=2)},
    "attackers who flip labels": {
        "clients": dataclasses.replace(RAGGED, attackers=2, attack="label-flip"),
        "local": Local(batch=4),
    },
    "statistics measured anew": {"server": {"statistics": "recalibrate"}, "local": Local(batch=4)},
}


@pytest.mark.parametrize("what", WORK)
def test_any_number_of_slots_gives_the_same_run_to_the_last_bit(what):
    changes = {"clients": RAGGED, "model": STILL, **WORK[what]}
    one, two, three = (final(changes, slots=slots) for slots in (1, 2, 3))
    assert_equal(final(changes), one)
    assert_same(one, two)
    assert_same(one, three)


@pytest.mark.parametrize(
    "changes",
    [
        {"server": {"reduce": "median"}},
        {"communication": {"up": "top-k:0.1", "down": "float16"}},
        {
            "privacy": {"mechanism": {"kind": "central", "noise": 0.5, "clip": 0.2}},
            "model": Model("small-cnn"),
            "server": {"weights": "uniform"},
        },
        {"privacy": {"per_example": {"clip": 1.0, "noise": 0.5}}, "model": Model("small-cnn")},
        {"clients": dataclasses.replace(RAGGED, attackers=2, attack="gaussian:2.0")},
    ],
    ids=["median", "codecs", "a bound", "per example", "attackers"],
)
def test_whoever_looks_at_single_uploads_sees_the_same(changes):
    changes = {"clients": RAGGED, "model": STILL, "local": Local(batch=4), **changes}
    assert_equal(final(changes), final(changes, slots=2))


def test_channels_last_gives_the_same():
    changes = {"clients": RAGGED, "model": STILL, "data": Data("small:split", augment="crop-flip")}
    assert_equal(final(changes), final(changes, "channels-last", slots=2))


@pytest.mark.parametrize("device", [Host(), Frozen()], ids=["steps", "records"])
def test_bfloat16_gives_the_same_around_float32_weights(device):
    changes = {"clients": Clients(count=3, cohort=2), "model": STILL, "local": Local(batch=4, epochs=2), "rounds": 2}
    one, other = final(changes, precision="bfloat16"), final(changes, precision="bfloat16", slots=2, device=device)
    torch.testing.assert_close(one.tree.vector, other.tree.vector, rtol=1e-6, atol=1e-6)
    assert other.tree.vector.dtype == torch.float32


@pytest.mark.parametrize("what", ["momentum that is kept", "adamw", "crop, flip and cutout", "dropout"])
def test_a_captured_step_leaves_nothing_to_python(what, monkeypatch):
    steps = []
    step = Slot._step
    monkeypatch.setattr(Slot, "_step", lambda self, *key: steps.append(self) or step(self, *key))
    monkeypatch.setattr(Tape, "records", 0)
    clients = Clients(count=3, cohort=2)  # 20 examples each: whole batches, and enough steps to capture one
    rates = Schedule(kind="cosine")  # a number that changes from round to round, after the capture
    local = dataclasses.replace(WORK[what].get("local", Local(batch=4)), batch=4, epochs=2, schedule=rates)
    changes = {"model": STILL, **WORK[what], "clients": clients, "local": local}
    assert_equal(final(changes), final(changes, slots=2, device=Frozen()))
    slots = len(set(steps))
    # Asked of Python: a few steps of each slot before the capture, and the capture; all others came from the record.
    assert slots == 2 and len(steps) == slots * (WARM + 1) and Tape.records >= slots


@pytest.mark.parametrize("name", ["scaffold", "feddyn", "fedlc", "fedbn", "fednova"])
def test_a_method_is_captured_with_its_corrections_and_its_loss(name, monkeypatch):
    monkeypatch.setattr(Tape, "records", 0)
    held = 0.2 if METHODS[name]().personal else 0.0
    changes = {"method": METHODS[name](), "model": STILL, "local": Local(batch=4, epochs=2, lr=0.05)}
    changes["clients"] = Clients(count=3, cohort=2, holdout=held)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(final(changes), final(changes, slots=2, device=Frozen()))
    assert Tape.records >= 2


def hooked(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Its head learns three times as fast."""
    module = conv_bn_without_dropout(shape, classes)
    module.head.weight.register_hook(lambda slope: 3 * slope)
    return module


def test_what_hooks_on_parameters_make_of_a_gradient_is_taken():
    changes = {"model": Model(f"{__name__}:hooked"), "clients": RAGGED, "local": Local(batch=4), "rounds": 1}
    found = final(changes)
    assert not torch.allclose(found.tree.vector, final({**changes, "model": STILL}).tree.vector)
    assert_equal(found, final(changes, slots=2))


class Asks(nn.Module):
    """Lets Python decide by a value."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 2 if inputs.sum().item() > 0 else inputs


def asking(shape: tuple[int, ...], classes: int) -> nn.Module:
    module = conv_bn_without_dropout(shape, classes)
    module.dropout = Asks()
    return module


def test_a_model_that_cannot_be_captured_is_trained_kernel_by_kernel_and_that_is_told():
    changes = {"model": Model(f"{__name__}:asking"), "clients": RAGGED, "local": Local(batch=4, epochs=2)}
    with pytest.warns(RuntimeWarning, match="cannot be captured"):
        found = final(changes, slots=2, device=Frozen())
    assert_equal(final(changes), found)


def test_what_is_taken_kernel_by_kernel_for_a_known_reason_is_not_warned_of():
    clients = Clients(count=4, cohort=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("fedntd", "fedsam", "moon"):
            final({"method": METHODS[name](), "clients": clients, "model": STILL}, slots=2, device=Frozen())


@pytest.mark.parametrize(
    "local",
    [
        Local(lr=0.1),
        Local(momentum=0.9, weight_decay=0.1),
        Local(momentum=0.9, nesterov=True, clip_norm=0.1),
        Local(optimizer="adam", lr=0.01),
        Local(optimizer="adamw", lr=0.01, weight_decay=0.1, clip_norm=0.1, betas=(0.5, 0.9)),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adamw"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_update_with_numbers_on_the_device_is_the_optimisers_step(local, dtype):
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(50, generator=draw, dtype=dtype)
    gradients = [torch.randn(50, generator=draw, dtype=dtype) for _ in range(6)]
    correct = lambda gradient, weights: gradient + 0.1 * weights  # noqa: E731
    ends = []
    for optimizer in (Optimizer(local), Update(local)):
        weights, state = start.clone(), optimizer.start(start)
        rate = torch.tensor(local.lr, dtype=torch.float64)
        for gradient in gradients:
            if isinstance(optimizer, Update):
                optimizer.take(weights, gradient.clone(), state, rate, correct)
            else:
                optimizer.step(weights, gradient.clone(), state, local.lr, correct)
        ends.append((weights, *state.values()))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


def test_a_client_that_diverges_is_told_or_left_out_as_by_the_oracle():
    changes = {"local": Local(batch=4, lr=1e30), "clients": Clients(count=6, cohort=3), "model": STILL}
    told = []
    for cuda in ({}, {"slots": 2}):
        with pytest.raises(RunError, match="step") as caught:
            final(changes, **cuda)
        told.append(str(caught.value))
    assert told[0] == told[1]
    some = {"clients": Clients(count=6, cohort=5, on_failure="skip"), "model": Model(f"{__name__}:fragile")}
    one, other = final(some), final(some, slots=2)
    assert one.row["skipped"] and len(one.row["clients"]) > 1
    assert_equal(one, other)


def fragile(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Leaves the finite numbers on some batches."""
    module = conv_bn_without_dropout(shape, classes)
    module.dropout = Rare()
    return module


class Rare(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs.detach().max() > 1.3, torch.nan, inputs) if self.training else inputs


class Breaks(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) == 2:
            raise ValueError("two are too few")
        return inputs


def breaking(shape: tuple[int, ...], classes: int) -> nn.Module:
    module = conv_bn_without_dropout(shape, classes)
    module.dropout = Breaks()
    return module


def test_a_model_that_raises_is_told_with_client_and_step():
    changes = {"model": Model(f"{__name__}:breaking"), "local": Local(batch=4), "clients": Clients(count=6, cohort=3)}
    told = []
    for cuda in ({}, {"slots": 2}):
        with pytest.raises(RunError, match="two are too few") as caught:
            final(changes, **cuda)
        told.append(str(caught.value))
    assert told[0] == told[1]


@pytest.fixture
def federation():
    return prepare(experiment(clients=RAGGED, engine=Engine(threads=1, kind="sequential", together=1)))


@pytest.mark.parametrize("device", [Host(), Frozen()], ids=["steps", "records"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_an_evaluation_is_the_same_evaluation(federation, statistics, device, monkeypatch):
    for name in ("exam.LARGE", "exam.BATCH"):
        monkeypatch.setattr(f"fedlens.engine.cuda.{name}", 4)
    monkeypatch.setattr(sys.modules["fedlens.local.evaluate"], "BATCH", 4)
    engine, order = engine_of(federation, device=device), np.random.default_rng(1).permutation(30)
    tree = federation.start
    for vector in (tree.vector, tree.vector * 1.5):
        for some in (order, order[:7]):
            one = federation.engine.evaluate(tree.with_(vector), some, statistics)
            other = engine.evaluate(tree.with_(vector), some, statistics)
            assert (one.confusion == other.confusion).all() and one.loss == pytest.approx(other.loss, rel=1e-6)
    engine.close()


def test_an_evaluation_that_cannot_be_captured_is_done_on_the_cpu(federation, monkeypatch):
    monkeypatch.setattr("fedlens.engine.cuda.exam.LARGE", 4)
    monkeypatch.setattr(Exam, "_pass", lambda self, size: (self.loss + 1).item())
    with pytest.warns(RuntimeWarning, match="evaluation runs on the CPU"):
        found = engine_of(federation, device=Frozen()).evaluate(federation.start)
    assert found.loss == federation.engine.evaluate(federation.start).loss


def sums(engine: Sequential, federation, visits) -> torch.Tensor:
    return engine.round(federation.start, {}, visits, {}).reduced()["update"]


def test_results_that_do_not_fit_into_memory_wait_in_order(federation, monkeypatch):
    monkeypatch.setattr(Host, "room", lambda self: 0)
    begun, start = [], Slot.start
    monkeypatch.setattr(Slot, "start", lambda self, job, *rest: begun.append(job.visit) or start(self, job, *rest))
    visits = federation.plan.visits(1)
    waiting = sums(engine_of(federation, slots=3), federation, visits)
    assert begun == visits
    assert torch.equal(waiting, sums(engine_of(federation, slots=1), federation, visits))


def test_a_slot_is_asked_for_results_and_given_a_visit_when_all_steps_are_done(federation, monkeypatch):
    finish = Slot.finish

    def when_done(slot: Slot):
        assert not slot.lane.under_way
        return finish(slot)

    visits = federation.plan.visits(1)
    expected = sums(engine_of(federation, slots=2), federation, visits)
    monkeypatch.setattr(Slot, "finish", when_done)
    assert torch.equal(sums(engine_of(federation, slots=2, device=Slow()), federation, visits), expected)


def test_a_longer_visit_than_those_before_it_finds_room(federation):
    engine, visits = engine_of(federation, slots=2), sorted(federation.plan.visits(1), key=lambda one: one.examples)
    small, large = visits[:1], visits[-1:]
    assert not Shape.of(small).twice().holds(Shape.of(large))
    for some in (small, large, small):
        assert torch.allclose(sums(engine, federation, some), sums(federation.engine, federation, some), atol=1e-6)
    engine.close()


def test_a_round_that_is_given_up_leaves_the_next_one_whole(federation, monkeypatch):
    monkeypatch.setattr("fedlens.engine.cuda.slot.AT_ONCE", 1)
    engine = engine_of(federation, slots=2, device=Slow())
    short, *_, long = sorted(federation.plan.visits(1), key=lambda visit: len(visit.batches))
    visits = [short, long]  # the first is through while the other is under way
    begun = engine.work(Dispatch(federation.start, {}, {}, float("inf")), engine.hand.groups(visits))
    next(begun)
    begun.close()
    fresh = engine_of(federation, slots=2)
    assert torch.equal(sums(engine, federation, visits), sums(fresh, federation, visits))


class Pretended:
    """A slot whose visit takes a turn for each of its steps."""

    def __init__(self, begun: list[int]) -> None:
        self.begun = begun

    def go(self) -> bool:
        self.left -= 1
        return self.left == 0


def test_whoever_is_free_takes_the_longest_visit_and_results_keep_their_order(federation):
    begun: list[int] = []
    visits = federation.plan.visits(1)

    def begin(slot, visit):
        slot.visit, slot.left = visit, len(visit.batches)
        begun.append(len(visit.batches))

    crew = Crew(Shape(1, 1), lambda shape: Pretended(begun), most=2)
    given = list(crew.run(visits, begin, lambda slot: slot.visit.client, held=len(visits)))
    assert given == [visit.client for visit in visits] and len(crew.slots) == 2
    assert begun == sorted(begun, reverse=True) and len(set(begun)) > 2
    begun.clear()
    assert list(crew.run(visits, begin, lambda slot: slot.visit.client, held=2)) == given
    assert begun == [len(visit.batches) for visit in visits]


def test_an_engine_that_is_closed_can_be_used_again(federation):
    engine, visits = engine_of(federation, slots=2), federation.plan.visits(1)
    first = sums(engine, federation, visits)
    engine.close()
    engine.close()
    assert torch.equal(first, sums(engine, federation, visits))


def test_nothing_mixes_what_lies_on_the_device_and_what_does_not():
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("pretended.py"))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("this PyTorch cannot pretend a device")
    assert done.returncode == 0, done.stderr
    failed = {case: what for case, what in json.loads(done.stdout.splitlines()[-1]).items() if what}
    assert not failed


def test_on_a_gpu_float32_is_float32_and_what_was_set_before_is_set_again():
    cudnn = torch.backends.cudnn
    before = cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    with Gpu().exact():
        assert (cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark) == ("ieee", True, False)
    assert (cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == before


def test_without_a_gpu_the_engine_is_refused_in_four_parts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError) as caught:
        check_cuda()
    (problem,) = caught.value.problems
    assert problem.where == "engine.kind" and torch.__version__ in problem.seen and all(dataclasses.astuple(problem))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_cuda()


def test_examples_that_are_not_in_memory_are_refused(federation):
    data = federation.split.train
    made = Rows(lambda at: data.images[at], tuple(data.images.shape), torch.uint8)
    with pytest.raises(ConfigurationError, match="must fit into memory"):
        check_cuda(dataclasses.replace(data, images=made))
