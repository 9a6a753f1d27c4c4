"""Which jobs may be copied instead of made again, and that copies share nothing that they remember."""

import types
from collections.abc import Callable
from typing import Any

import jobs_to_copy as jobs
import pytest
import torch
from toys import Toy

from fedlens.diagnosis.subject import patient as patients
from fedlens.diagnosis.subject.copies import keeps_nothing, original
from fedlens.diagnosis.subject.patient import Subject


def copied(job: Any) -> Any:
    found = original(job)
    assert found is not None
    return found.copy().copy().job  # a copy can be copied too


def test_copies_of_functions_that_remember_share_nothing_with_their_original_but_all_with_each_other() -> None:
    add, read, log = jobs.counting()
    job = jobs.Plain(add=add, read=read, log=log)
    other = copied(job)
    other.held["add"](), other.held["add"]()
    assert (read(), log) == (0, []) and (other.held["read"](), other.held["log"]) == (2, [1, 2])


def test_a_copy_remembers_what_its_original_did_before_and_no_default_is_shared() -> None:
    visit = jobs.visiting()
    visit(1)
    other = copied(jobs.Plain(visit=visit))
    assert other.held["visit"](2) == 4 and visit(3) == 4


def test_functions_of_a_copy_that_call_each_other_stay_in_it() -> None:
    even, odd, calls = jobs.mutual()
    other = copied(jobs.Plain(even=even, odd=odd, calls=calls))
    assert other.held["odd"](3) and calls == [] and other.held["calls"] == [2, 0]


@pytest.mark.parametrize("make", jobs.NOT_COPIED)
def test_what_copies_would_share_or_lose_is_not_copied(make: Callable[[], Any]) -> None:
    assert original(make()) is None


def module(text: str) -> types.ModuleType:
    made = types.ModuleType("author")
    exec(compile(text, "/somewhere/author.py", "exec"), vars(made))
    return made


TEXT = """
from __future__ import annotations
from collections import OrderedDict
from collections.abc import Callable
import torch
from torch import nn
DEVICE, LOSS, Part = torch.device("cpu"), nn.CrossEntropyLoss(), tuple[int, int]
@torch.no_grad()
def evaluate(state): return state
class Job:
    rate: float = 0.1
    @staticmethod
    def fit(state): return evaluate(state)
"""


@pytest.mark.parametrize(
    ("more", "nothing"),
    [
        ("", True),
        ("seen = []", False),
        ("net = nn.Linear(2, 2)", False),
        ("def f(x, memory=[]): return memory", False),
        ("import functools\n@functools.lru_cache\ndef f(x): return x", False),
        ("@lambda f: (lambda seen: lambda x: seen.append(f(x)))([])\ndef f(x): return x", False),
        ("def f(x): return x\nf.calls = 0", False),
        ("class Other(Job):\n    seen = {}", False),
        ("add = [].append", False),
    ],
)
def test_a_module_that_remembers_is_told_from_one_that_does_not(more: str, nothing: bool) -> None:
    author = module(TEXT + more)
    assert keeps_nothing(author) is nothing
    assert (original(author.Job()) is not None) is nothing


def test_modules_that_a_module_has_its_functions_from_are_looked_at_too() -> None:
    other, author = module(TEXT + "seen = []"), module(TEXT)
    vars(author)["helper"] = other.Job
    assert not keeps_nothing(author)


def test_a_data_class_is_copied() -> None:
    one = jobs.data_class()
    copied(one).seen.append(1)
    assert one.seen == []


class Drawn(Toy):
    """Its first model is drawn where `init` is called."""

    made = 0

    def init(self) -> dict[str, torch.Tensor]:
        """As its author's code does."""
        return {"w": torch.randn(3)}


def test_a_copied_job_draws_what_one_made_anew_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "QUICK", 60.0)
    anew = [Subject(Drawn, "anew").fresh().init["w"] for _ in range(2)]
    monkeypatch.setattr(patients, "SLOW", -1.0)
    subject = Subject(Drawn, "copied")
    again = [subject.fresh().init["w"] for _ in range(3)]
    assert subject.kept and all(bool((one == anew[0]).all()) for one in (*anew, *again))
