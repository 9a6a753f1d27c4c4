"""A profile books what it sees where it belongs, misses nothing, and leaves nothing behind."""

import ctypes
import importlib
import inspect
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import types

import pytest
from small import experiment
from torch import nn

from fedlens import Clients, Data, Engine, Local, Model
from fedlens.data import Dataset
from fedlens.engine import profile
from fedlens.engine.profile import CATEGORIES, PLACES, Sampler, of_a_worker, profiled
from fedlens.engine.sequential import Outcome
from fedlens.local import Optimizer
from fedlens.methods import METHODS
from fedlens.runs import prepare
from fedlens.runs.loop import advance
from fedlens.server import Sum

ALL = [place for places in PLACES.values() for place in places]


@pytest.mark.parametrize("place", ALL)
def test_every_place_is_found_under_the_name_that_its_frames_have(place):
    name, _, function = place.partition(":")
    module = importlib.import_module(name)
    if not function:
        return
    found = module
    for part in function.split("."):
        found = getattr(found, part)
    found = inspect.unwrap(found)
    if inspect.isclass(found):
        assert (found.__module__, found.__qualname__) == (name, function)
        return
    found = getattr(found, "__func__", found)
    assert (found.__globals__["__name__"], found.__code__.co_qualname) == (name, function)


def test_no_place_has_two_categories():
    assert len(set(ALL)) == len(ALL)


def booked(monkeypatch, changes, owner, name):
    """The categories from which `owner.name` was called in a run."""
    found, original = set(), getattr(owner, name)

    def spy(*given, **named):
        found.add(Sampler().category(sys._getframe()))
        return original(*given, **named)

    monkeypatch.setattr(owner, name, spy)
    list(advance(prepare(experiment(rounds=1, **changes))))
    return found


ASKS = {"clients": Clients(count=6, cohort=3, selection="power-of-choice:5")}


@pytest.mark.parametrize(
    ("owner", "name", "changes", "expected"),
    [
        (Dataset, "normalise", {}, {"loading", "evaluation"}),
        (Dataset, "normalise", ASKS, {"loading", "evaluation", "planning"}),
        (Optimizer, "_sgd", {"local": Local(batch=4, momentum=0.9)}, {"optimiser"}),
        (Outcome, "add", {}, {"aggregation"}),
        (Sum, "mean", {"server": {"statistics": "recalibrate"}}, {"aggregation", "recording"}),
        (importlib.import_module("fedlens.engine.sender"), "_masked", {}, {"communication"}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_function_is_booked_where_it_is_called_from(monkeypatch, owner, name, changes, expected):
    assert booked(monkeypatch, changes, owner, name) == expected


def test_forward_backward_and_a_method_of_ones_own_are_told_apart():
    found = {"forward": set(), "backward": set(), "method": set()}
    note = lambda what: found[what].add(Sampler().category(sys._getframe(1)))  # noqa: E731
    federation = prepare(experiment(rounds=1))

    def seen(module, given, outputs):
        note("forward")
        if outputs.requires_grad:
            outputs.register_hook(lambda gradient: note("backward"))

    def correct(gradient, weights, client):
        note("method")
        return gradient

    federation.module.head.register_forward_hook(seen)
    object.__setattr__(federation.engine.trainer.method, "correct", correct)
    list(advance(federation))
    assert found == {"forward": {"forward", "evaluation"}, "backward": {"backward"}, "method": {"method"}}


def flat(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A model that clients can be trained on together."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, classes))


PASSING_ON = {  # next to nothing happens in these themselves
    "fedlens.engine.settings:Engine.thread_count",
    "fedlens.local.settings:Local.rate",
    "fedlens.local.settings:Schedule.factor",
    "fedlens.runs.federation:Federation.threads",
    "fedlens.runs.loop:_Asked.__init__",
    "fedlens.runs.loop:__create_fn__.<locals>.__init__",
    "fedlens.runs.loop:_if_due",
    "fedlens.runs.loop:_round",
    "fedlens.runs.loop:_transferred",
    "fedlens.runs.loop:advance",
    "fedlens.runs.loop:untrained",
    "fedlens.runs.loop:untrained.<locals>.<dictcomp>",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"local": Local(batch=4, momentum=0.9), "data": Data("small:split", augment="crop-flip")},
        {"method": METHODS["ditto"](), "clients": Clients(count=6, cohort=3, holdout=0.2)},
        {"engine": Engine(kind="workers", processes=2)},
        {"engine": Engine(together=3), "model": Model(f"{__name__}:flat")},
        {"engine": Engine(together=3), "model": Model(f"{__name__}:flat"), "method": METHODS["scaffold"]()},
        {"communication": {"up": "top-k:0.1", "down": "float16"}, "server": {"reduce": "median", "average_from": 0.0}},
        {"network": {"up_mbit": 10.0}, "clients": Clients(count=6, cohort=3, attackers=1, attack="gaussian:1.0")},
        {
            "privacy": {"mechanism": {"kind": "central", "clip": 1.0, "noise": 1.0}},
            "server": {"weights": "uniform"},
            "model": Model(f"{__name__}:flat"),
        },
        {"privacy": {"per_example": {"clip": 1.0, "noise": 1.0}}, "model": Model(f"{__name__}:flat")},
        {"method": METHODS["fedgkt"](), "model": Model("resnet4/resnet7")},
    ],
)
def test_whatever_a_round_calls_has_a_place(changes):
    sampler, federation, nowhere = Sampler(), prepare(experiment(rounds=1, **changes)), set()

    def watch(frame, event, argument):
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("fedlens.") and sampler.category(frame) == "other":
            nowhere.add(f"{module}:{frame.f_code.co_qualname}")

    sys.setprofile(watch)
    try:
        list(advance(federation))
    finally:
        sys.setprofile(None)
    assert nowhere <= PASSING_ON


@pytest.mark.parametrize("blocks", ["recv", "wait"])
def test_a_process_that_waits_for_another_is_idle(blocks):
    ours, theirs = multiprocessing.Pipe()
    act = {"recv": theirs.recv, "wait": lambda: multiprocessing.connection.wait([theirs])}[blocks]
    waiting = threading.Thread(target=act, daemon=True)
    waiting.start()
    for _ in range(1000):
        if Sampler().category(sys._current_frames()[waiting.ident]) == "idle":
            break
        time.sleep(0.01)
    else:
        pytest.fail("never idle")
    ours.send(None)
    waiting.join()


def kept(seconds):
    """Sleep in one call that keeps Python to itself all the while."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def test_a_call_that_keeps_python_to_itself_counts_for_as_long_as_it_took(monkeypatch):
    monkeypatch.setitem(profile._OF, f"{__name__}:kept", "loading")
    with profiled() as found:
        kept(0.2)
    assert found.parent.looks["loading"] >= 0.2 / (1.5 * profile.INTERVAL) - 1


def test_a_place_that_is_named_more_closely_counts_before_what_is_around_it(monkeypatch):
    monkeypatch.setattr(profile, "_OF", {"a": "room", "a.b": "file", "a.b:One": "class", "a.b:One.f": "function"})
    names = [("a.c", "f"), ("a.b", "f"), ("a.b", "One.g.<locals>.h"), ("a.b", "One.f"), ("b", "f")]
    assert [profile._category(*name) for name in names] == ["room", "file", "class", "function", ""]


def test_in_a_forked_process_what_its_parent_did_does_not_count(monkeypatch):
    ours, theirs = multiprocessing.Pipe()

    def serve(sampler):
        if sampler is not None:
            sampler.start()
        theirs.send(Sampler.category(sampler or Sampler(), sys._getframe()))

    def evaluates(sampler):  # a place of evaluation, in which a process is forked
        child = multiprocessing.get_context("fork").Process(target=serve, args=(sampler,))
        child.start()
        child.join()
        return ours.recv()

    monkeypatch.setitem(profile._OF, f"{__name__}:{evaluates.__qualname__}", "evaluation")
    assert [evaluates(None), evaluates(Sampler())] == ["evaluation", "other"]


def test_seconds_are_looks_times_the_interval_most_first(monkeypatch):
    with profiled() as found:
        workers = [of_a_worker(), of_a_worker()]
    for sampler, looks in zip([found.parent, *workers], [(5, 0), (1, 2), (0, 9)], strict=True):
        sampler._counts[0], sampler._counts[1] = looks
        sampler._counts[len(CATEGORIES) - 1] = 0
    said = found.as_dict()
    one, other = CATEGORIES[:2]
    assert said["parent"] == {"processes": 1, "looks": 5, "seconds": {one: 5 * profile.INTERVAL}}
    assert said["workers"]["processes"] == 2 and said["workers"]["looks"] == 12
    assert list(said["workers"]["seconds"].items()) == [(other, 11 * profile.INTERVAL), (one, profile.INTERVAL)]


def test_workers_are_seen_and_those_that_are_killed_not_forgotten(monkeypatch):
    monkeypatch.setattr(profile, "INTERVAL", 0.0005)
    federation = prepare(experiment(engine=Engine(threads=1, kind="workers", processes=2)))
    with profiled() as found:
        states = advance(federation)
        next(states)
        next(states)
        first = list(found.workers)
        while not all(sum(one.looks.values()) for one in first):  # they are looked at as they wait
            time.sleep(0.01)
        for hand in federation.engine._pool.hands:
            os.kill(hand.process.pid, signal.SIGKILL)
        list(states)
    assert len(first) == 2 and len(found.workers) == 4
    assert found.as_dict()["workers"]["looks"] >= sum(sum(one.looks.values()) for one in first) > 0
    assert found.parent.looks["idle"]


def test_a_profile_changes_nothing_and_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(profile, "INTERVAL", 0.0005)
    before = threading.active_count()
    plain = [state.row for state in advance(prepare(experiment()))]
    with profiled() as found:
        looked_at = [state.row for state in advance(prepare(experiment()))]
    assert plain == looked_at and threading.active_count() == before
    assert sum(found.parent.looks.values()) and found.as_dict()["workers"] is None


def test_what_another_thread_forks_is_not_counted():
    found = []
    with profiled() as mine:
        other = threading.Thread(target=lambda: found.append(of_a_worker()))
        other.start()
        other.join()
        assert of_a_worker() is mine.workers[0]
    assert found == [None] and of_a_worker() is None


def test_every_method_hook_lies_in_a_place_of_methods():
    hooks = ("loss", "correct", "perturb", "finish", "aggregate", "own", "objective")
    made = [make() for make in METHODS.values()]
    for method, hook in itertools.product(made, hooks):
        function = getattr(method, hook, None)
        if isinstance(function, types.FunctionType):
            assert profile._category(function.__module__, function.__code__.co_qualname) == "method"
