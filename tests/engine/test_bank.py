"""Clients of a small model in one step on the device give what the sequential engine gives; tried on the CPU.

`Host` and `Frozen` take the GPU's place, as in test_cuda. What is compared is in float64: to rounding.
"""

import dataclasses
import gc
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from small import experiment
from test_cuda import Asks, Frozen, Slow, Tape, assert_equal, assert_same, engine_of, final, needs_a_gpu, sums
from torch import nn

from fedlens import Clients, Data, Engine, Local, Model, RunError, Schedule
from fedlens.engine import Cuda, auto, suited
from fedlens.engine.cuda.bank import Bank, evenly, in_groups
from fedlens.engine.cuda.device import WARM, Gpu, Host
from fedlens.engine.cuda.examples import table
from fedlens.engine.cuda.slot import Slot
from fedlens.engine.cuda.stack import can_stack
from fedlens.engine.sequential import Dispatch
from fedlens.methods import METHODS, Transfer
from fedlens.runs import prepare

RAGGED = Clients(count=6, cohort=5, partition={"kind": "quantity", "sigma": 1.0})
BANKED = [
    name
    for name, make in METHODS.items()
    if not isinstance(make(), Transfer)
    and (make().loss, make().perturb, make().own, make().phases) == (None, None, None, ())
]


def net(shape: tuple[int, ...], classes: int, last: nn.Module | None = None) -> nn.Module:
    """Convolution, group norm, pooling, and a head, before which `last` may stand."""
    layers = OrderedDict(
        conv=nn.Conv2d(shape[0], 4, 3, padding=1),
        norm=nn.GroupNorm(2, 4),
        relu=nn.ReLU(),
        pool=nn.MaxPool2d(4),
        flatten=nn.Flatten(),
        last=last or nn.Identity(),
        head=nn.Linear(16, classes),
    )
    return nn.Sequential(layers)


def mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, classes))


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """An engine that is closed collects garbage; what was there before cannot be any."""
    gc.freeze()
    yield
    gc.unfreeze()


NET, MLP = Model(f"{__name__}:net"), Model(f"{__name__}:mlp")


def job(**changes: object) -> dict[str, object]:
    return {"model": NET, "clients": RAGGED, "local": Local(batch=4, epochs=2, lr=0.05), **changes}


@pytest.fixture
def groups(monkeypatch) -> list[int]:
    """How many clients were in a bank at once, group by group."""
    seen, start = [], Bank.start
    monkeypatch.setattr(Bank, "start", lambda self, group: seen.append(len(group.jobs)) or start(self, group))
    return seen


@pytest.fixture
def slots(monkeypatch) -> list[int]:
    """Which clients were in a slot, visit by visit."""
    seen, start = [], Slot.start
    monkeypatch.setattr(
        Slot, "start", lambda self, job, *rest: seen.append(job.visit.client) or start(self, job, *rest)
    )
    return seen


def work_of(name: str) -> dict[str, object]:
    """A method and the work it is defined for, kept for some rounds, so that what clients remember comes back."""
    whole, method = name == "fedsgd", METHODS[name]()
    clients = dataclasses.replace(RAGGED, count=5, cohort=4, holdout=0.2 if method.personal else 0.0)
    return job(
        method=method, clients=clients, local=Local(batch="all" if whole else 4, epochs=1 + (not whole), lr=0.05)
    )


@pytest.mark.parametrize("name", BANKED)
def test_every_method_that_a_bank_takes_gives_what_one_by_one_gives(name, groups, slots):
    changes = work_of(name)
    assert_equal(final(changes), final(changes, together=3), within=1e-11)
    assert groups == [2, 2] * 3 and not slots


@needs_a_gpu
@pytest.mark.parametrize("name", BANKED)
def test_on_a_gpu_every_method_that_a_bank_takes_gives_what_one_by_one_gives(name, groups):
    changes = work_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(final(changes), final(changes, together=3, device=Gpu()), within=1e-9)
    assert groups


@needs_a_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_a_bank_gives_the_same_run_again_to_the_last_bit(precision):
    changes = job(local=Local(batch=4, epochs=3, momentum=0.9), rounds=4)
    one, other = (final(changes, precision=precision, together=3, device=Gpu()) for _ in range(2))
    assert_same(one, other)


WORK = {
    "momentum that is kept": {"local": Local(batch=4, momentum=0.9, keep_optimizer=True)},
    "nesterov": {"local": Local(batch=4, epochs=2, momentum=0.9, nesterov=True, clip_norm=0.5)},
    "adam that is kept": {"local": Local(batch=4, optimizer="adam", lr=0.01, keep_optimizer=True)},
    "adamw": {"local": Local(batch=4, epochs=2, optimizer="adamw", lr=0.01, weight_decay=0.1, clip_norm=0.1)},
    "weight decay": {"local": Local(batch=3, weight_decay=0.1, scale_lr_by_size=True)},
    "crop, flip and cutout": {"data": Data("small:split", augment="crop-flip-cutout"), "local": Local(batch=4)},
    "attackers who flip labels": {"clients": dataclasses.replace(RAGGED, attackers=2, attack="label-flip")},
    "a bias that nobody trains": {"model": Model(f"{__name__}:fixed")},
    "fully connected": {"model": MLP},
    "one weight under two names": {"model": Model(f"{__name__}:tied")},
}


def fixed(shape: tuple[int, ...], classes: int) -> nn.Module:
    module = net(shape, classes)
    module.head.bias.requires_grad_(False)
    return module


def tied(shape: tuple[int, ...], classes: int) -> nn.Module:
    module = net(shape, classes, nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)))
    module.last[1].weight = module.last[0].weight
    return module


@pytest.mark.parametrize("what", WORK)
def test_any_number_together_gives_the_same_run_to_rounding(what, groups, slots):
    changes = job(**WORK[what])
    two, five = (final(changes, together=many) for many in (2, 5))
    assert not slots and groups == [2, 2, 1] * 3 + [5] * 3
    one = final(changes)
    for found in (two, five):
        assert_equal(one, found, within=1e-11)


def test_the_same_number_together_gives_the_same_run_to_the_last_bit():
    one, other = (final(job(**WORK["momentum that is kept"]), together=3, precision="float32") for _ in range(2))
    assert_same(one, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"server": {"reduce": "median"}},
        {"communication": {"up": "top-k:0.1", "down": "float16"}},
        {
            "privacy": {"mechanism": {"kind": "central", "noise": 0.5, "clip": 0.2}},
            "server": {"weights": "uniform"},
        },
        {"clients": dataclasses.replace(RAGGED, attackers=2, attack="gaussian:2.0")},
    ],
    ids=["median", "codecs", "a bound", "attackers"],
)
def test_whoever_looks_at_single_uploads_sees_the_same(changes, groups):
    assert_equal(final(job(**changes)), final(job(**changes), together=3), within=1e-11)
    assert groups


def test_channels_last_gives_the_same(groups):
    changes = job(data=Data("small:split", augment="crop-flip"))
    assert_equal(final(changes), final(changes, "channels-last", together=3), within=1e-11)
    assert groups


@pytest.mark.parametrize("device", [Host(), Frozen()], ids=["steps", "records"])
def test_bfloat16_differs_by_its_own_rounding_around_float32_weights(device, groups):
    changes = job(rounds=1, clients=Clients(count=3, cohort=2))
    begin = prepare(experiment(**changes)).start.vector
    exact, one, other = (
        final(changes, precision=precision, **cuda).tree.vector - begin
        for precision, cuda in (("float32", {}), ("bfloat16", {}), ("bfloat16", {"together": 2, "device": device}))
    )
    assert groups and other.dtype == torch.float32
    assert (other - one).norm() < (one - exact).norm() < 0.1 * exact.norm()


CAPTURED = {
    **{name: WORK[name] for name in ("momentum that is kept", "adamw", "crop, flip and cutout", "fully connected")},
    "scaffold": {"method": METHODS["scaffold"]()},
}


@pytest.mark.parametrize("what", CAPTURED)
def test_a_captured_step_leaves_nothing_to_python(what, monkeypatch, groups):
    asked, step = [], Bank._step
    monkeypatch.setattr(Bank, "_step", lambda self, *key: asked.append(key) or step(self, *key))
    monkeypatch.setattr(Tape, "records", 0)
    clients = Clients(count=3, cohort=2)  # 20 examples each: the last of six batches is short
    rates = Schedule(kind="cosine")  # a number that changes from round to round, after the capture
    changes = job(**CAPTURED[what], clients=clients)
    changes["local"] = dataclasses.replace(changes["local"], batch=4, schedule=rates)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(final(changes), final(changes, together=2, device=Frozen()), within=1e-11)
    # Asked of Python: a few steps before the capture, and the capture; all others came from the record.
    assert groups == [2] * 3 and len(asked) == WARM + 1 and Tape.records >= 1


def test_clients_who_still_train_are_the_first_and_the_others_cost_nothing(monkeypatch, groups):
    rows, step = [], Bank._step
    monkeypatch.setattr(Bank, "_step", lambda self, *key: rows.append(key[0]) or step(self, *key))
    federation = prepare(experiment(**job(engine=Engine(kind="sequential", together=1, threads=1))))
    visits = federation.plan.visits(1)
    sums(engine_of(federation, together=5), federation, visits)
    lengths = np.array([len(visit.batches) for visit in visits])
    active = [(lengths > number).sum() for number in range(lengths.max())]
    assert len(set(active)) > 2 and groups == [5]
    assert rows == [min(5, 2 ** int(np.ceil(np.log2(many)))) for many in active]


def test_groups_are_as_few_as_the_places_allow_and_about_equal():
    assert [evenly(count, 40) for count in (1, 39, 40, 41, 100, 120)] == [1, 39, 40, 21, 34, 40]


def test_a_batch_is_filled_up_by_its_own_first_example():
    federation = prepare(experiment(**job(data=Data("small:split", augment="crop-flip"))))
    trainer, visit = federation.engine.trainer, federation.plan.visits(1)[0]
    visit = dataclasses.replace(visit, batches=[np.array([5, 3, 8]), np.array([7])])
    wide = table(trainer, visit, 4)
    assert wide[:, 0].tolist() == [[5, 3, 8, 5], [7] * 4] and len(wide[0]) == 5
    assert (wide[0, :, 3] == wide[0, :, 0]).all() and (wide[1] == wide[1, :, :1]).all()


def test_a_client_that_diverges_is_told_or_left_out_as_by_the_oracle(groups):
    changes = job(local=Local(batch=4, lr=1e30), clients=Clients(count=6, cohort=3))
    told = []
    for cuda in ({}, {"together": 3}):
        with pytest.raises(RunError, match="step") as caught:
            final(changes, **cuda)
        told.append(str(caught.value))
    assert told[0] == told[1]
    some = job(clients=dataclasses.replace(RAGGED, on_failure="skip"), model=Model(f"{__name__}:fragile"))
    one, other = final(some), final(some, together=5)
    assert one.row["skipped"] and len(one.row["clients"]) > 1 and groups[-3:] == [5] * 3
    assert_equal(one, other, within=1e-11)


class Rare(nn.Module):
    """Leaves the finite numbers on some examples."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs.detach().amax(1, keepdim=True) > 3.1, torch.nan, inputs)


def fragile(shape: tuple[int, ...], classes: int) -> nn.Module:
    return net(shape, classes, Rare())


class Breaks(nn.Module):
    """Takes no batch of four."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) == 4:
            raise ValueError("four are too many")
        return inputs


def breaking(shape: tuple[int, ...], classes: int) -> nn.Module:
    return net(shape, classes, Breaks())


def test_a_model_that_raises_is_told_with_client_and_step(groups):
    changes = job(model=Model(f"{__name__}:breaking"), clients=Clients(count=6, cohort=3))
    with pytest.raises(RunError, match="four are too many") as alone:
        final(changes)
    with pytest.warns(RuntimeWarning, match="four are too many"), pytest.raises(RunError) as together:
        final(changes, together=3)
    assert str(alone.value) == str(together.value) and len(groups) == 1


def asking(shape: tuple[int, ...], classes: int) -> nn.Module:
    return net(shape, classes, Asks())


class Centred(nn.Module):
    """Looks at its batch as a whole, without a layer that says so."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs - inputs.mean(0) if self.training else inputs


def centred(shape: tuple[int, ...], classes: int) -> nn.Module:
    return net(shape, classes, Centred())


class Leaning(nn.Module):
    """Passes its inputs on as they are; only their slope looks at the batch as a whole."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        mean = inputs.mean(0)
        return inputs + (mean - mean.detach())


def leaning(shape: tuple[int, ...], classes: int) -> nn.Module:
    return net(shape, classes, Leaning())


def hooked(shape: tuple[int, ...], classes: int) -> nn.Module:
    module = net(shape, classes)
    module.head.weight.register_hook(lambda slope: 3 * slope)
    return module


REFUSED = {
    "a hook on a parameter": {"model": Model(f"{__name__}:hooked")},
    "a value that is asked for": {"model": Model(f"{__name__}:asking")},
    "a batch looked at as a whole": {"model": Model(f"{__name__}:centred")},
    "a batch whose slope is looked at so": {"model": Model(f"{__name__}:leaning")},
    "batch norm": {"model": Model("small:conv_bn_without_dropout")},
    "dropout": {"model": Model("small-cnn", dropout=0.2)},
    "a loss of the method's own": {"method": METHODS["fedlc"]()},
    "a second gradient": {"method": METHODS["fedsam"]()},
    "gradients of single examples": {"privacy": {"per_example": {"clip": 1.0, "noise": 0.5}}},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_bank_cannot_do_is_done_without_a_word_as_before(what, groups):
    changes = job(**REFUSED[what], rounds=2)
    random = torch.default_generator.get_state()
    assert suited(prepare(experiment(**changes)).engine.trainer, 5) == 1
    assert torch.equal(random, torch.default_generator.get_state())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(final(changes, slots=2), final(changes, slots=2, together=3))
    assert not groups


def test_a_model_that_fails_in_a_bank_all_the_same_is_trained_in_slots_and_that_is_told(monkeypatch, groups, slots):
    monkeypatch.setattr("fedlens.engine.cuda.resident.can_stack", lambda trainer: True)
    changes = job(model=Model(f"{__name__}:asking"))
    with pytest.warns(RuntimeWarning, match="clients are trained beside each other"):
        found = final(changes, together=3)
    assert groups == [3] and len(slots) == 15
    assert_equal(final(changes), found, within=1e-11)


def test_a_bank_that_finds_no_room_is_told_and_done_without(monkeypatch, slots):
    def full(self, *what: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate more than there is")

    monkeypatch.setattr(Bank, "__init__", full)
    with pytest.warns(RuntimeWarning, match="more than there is"):
        found = final(job(), together=3)
    assert len(slots) == 15
    assert_equal(final(job()), found, within=1e-11)


@pytest.fixture
def federation():
    return prepare(experiment(**job(engine=Engine(threads=1, kind="sequential", together=1, precision="float64"))))


def test_one_visit_needs_no_bank(federation, groups, slots):
    visits = federation.plan.visits(1)[:1]
    found = sums(engine_of(federation, together=3), federation, visits)
    assert slots == [visits[0].client] and not groups
    torch.testing.assert_close(found, sums(federation.engine, federation, visits), rtol=1e-12, atol=1e-12)


def test_groups_are_of_the_longest_of_so_many_visits_as_may_wait():
    lengths = [(3, 9), (1, 2), (4, 9), (1, 5), (5, 9), (9, 9), (2, 9), (6, 9)]
    assert in_groups(lengths, 3, 100) == [[5, 7, 4], [2, 0, 6], [3, 1]]
    assert in_groups(lengths, 3, 4) == [[2, 0], [3, 1], [5, 7], [4, 6]]
    assert in_groups(lengths, 3, 0) == [[2, 0, 1], [5, 4, 3], [7, 6]]


def test_results_that_do_not_fit_into_memory_come_in_the_order_of_the_visits(federation, monkeypatch):
    visits, together = federation.plan.visits(1), []
    start = Bank.start
    monkeypatch.setattr(
        Bank,
        "start",
        lambda self, group: together.append({job.visit.client for job in group.jobs}) or start(self, group),
    )
    sorted_ = sums(engine_of(federation, together=3), federation, visits)
    longest = sorted(visits, key=lambda visit: (-len(visit.batches), -visit.examples))
    monkeypatch.setattr("fedlens.engine.cuda.cohort.WAITING", 0)
    found = sums(engine_of(federation, together=3), federation, visits)
    clients = [[visit.client for visit in some] for some in (longest, visits)]
    assert together == [set(some[at : at + 3]) for some in clients for at in (0, 3)] and clients[0] != clients[1]
    torch.testing.assert_close(found, sorted_, rtol=1e-12, atol=1e-12)


def test_a_bank_is_asked_for_results_and_given_visits_when_all_steps_are_done(federation, monkeypatch):
    visits, finish = federation.plan.visits(1), Bank.finish
    expected = sums(engine_of(federation, together=2), federation, visits)

    def when_done(bank: Bank):
        found = finish(bank)
        assert not bank.lane.under_way
        return found

    monkeypatch.setattr(Bank, "finish", when_done)
    engine = engine_of(federation, together=2, device=Slow())
    assert torch.equal(sums(engine, federation, visits), expected)
    begun = engine.work(Dispatch(federation.start, {}, {}, float("inf")), engine.hand.groups(visits))
    next(begun)
    begun.close()  # a round that is given up leaves the next one whole
    assert torch.equal(sums(engine, federation, visits), expected)


def test_longer_visits_than_those_before_them_find_room(federation, monkeypatch):
    made, init = [], Bank.__init__
    monkeypatch.setattr(Bank, "__init__", lambda self, *how: made.append(how[3]) or init(self, *how))
    engine = engine_of(federation, together=2)
    visits = sorted(federation.plan.visits(1), key=lambda one: len(one.batches))
    short = [dataclasses.replace(visit, batches=visit.batches[:1]) for visit in visits[:2]]
    for some in (short, visits, short):
        found, expected = sums(engine, federation, some), sums(federation.engine, federation, some)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert len(made) == 2
    engine.close()
    assert len(sums(engine, federation, visits)) and len(made) == 3


def test_a_bank_is_for_models_of_some_size_unless_it_is_asked_for(federation, monkeypatch):
    trainer = federation.engine.trainer
    trained = trainer.bound.layout.trained
    assert suited(trainer, 5) == 5 and suited(trainer, 1) == 1 and suited(trainer, 200) == 100
    monkeypatch.setattr("fedlens.engine.cuda.resident.ENTRIES", 3 * trained + 1)
    assert suited(trainer, 5) == 3
    monkeypatch.setattr("fedlens.engine.cuda.resident.SMALL", trained - 1)
    assert suited(trainer, 5) == 1 and can_stack(trainer)


def test_the_settings_say_how_many_and_auto_tries_both(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    wanted = Engine(kind="cuda", together=4, layout="channels-first")
    assert prepare(experiment(**job(engine=wanted))).engine.together == 4
    tried = []
    monkeypatch.setattr(auto, "WORTH", 0.0)
    monkeypatch.setattr(auto, "_seconds", lambda one, *_: tried.append(one.together) or 1 / one.together)
    wanted = dataclasses.replace(wanted, together="auto")
    assert prepare(experiment(**job(engine=wanted))).engine.together == 5 and set(tried) == {1, 5}
    still = job(engine=wanted, model=Model("small:conv_bn"))
    assert prepare(experiment(**still)).engine.together == 1


def test_a_real_trial_times_slots_and_bank(monkeypatch, tmp_path, groups, slots):
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    monkeypatch.setattr(sys.modules["fedlens.runs.prepare"], "Cuda", partial(Cuda, device=Host()))
    found = prepare(experiment(**job(engine=Engine(kind="cuda", layout="channels-first")))).settled
    assert "cuda, channels-first: " in found.why and "cuda, 5 clients together, channels-first: " in found.why
    assert set(groups) == {5} and len(slots) > len(groups)
