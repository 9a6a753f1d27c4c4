"""The engine that a run takes by itself: the fastest of what was timed, said, and remembered."""

import json
from pathlib import Path

import pytest
from small import experiment

from fedlens import Engine
from fedlens.engine import auto
from fedlens.runs import prepare


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path))
    return tmp_path / "engines.json"


@pytest.fixture
def timed(monkeypatch) -> list[str]:
    """Makes every run worth a trial, whose outcome is made up: workers in channels-last are the fastest."""
    calls = []

    def seconds(candidate, trial, visits, repeats):
        calls.append(auto._name(candidate))
        return {"workers": 1.0, "sequential": 2.0}[candidate.kind] * (0.5 if "last" in candidate.layout else 1.0)

    monkeypatch.setattr(auto, "_seconds", seconds)
    monkeypatch.setattr(auto, "WORTH", 0.0)
    return calls


def settled(**engine: object):
    return prepare(experiment(engine=Engine(**{"processes": 2, **engine}))).settled


def test_a_short_run_is_not_worth_a_trial(cache):
    assert settled().engine.kind == "sequential" and "too short" in settled().why
    assert not cache.exists()


def test_the_fastest_is_taken_and_what_the_others_did_is_said(timed):
    found = settled()
    assert (found.engine.kind, found.engine.layout, found.engine.processes) == ("workers", "channels-last", 2)
    assert (
        found.why.startswith("workers with 2 processes, channels-last: ")
        and "sequential, channels-first: " in found.why
    )
    assert len(set(timed)) == 4


def test_a_choice_is_remembered_for_this_job_and_for_no_other(timed, cache):
    settled()
    assert len(json.loads(cache.read_text())) == 1
    timed.clear()
    assert settled().engine.layout == "channels-last" and "as found on this machine before" in settled().why
    assert not timed
    settled(precision="bfloat16")
    assert timed and len(json.loads(cache.read_text())) == 2


def test_what_was_asked_for_is_not_tried(timed):
    assert settled(kind="sequential", layout="channels-first").why == "as set" and not timed
    assert settled(kind="sequential").engine.layout == "channels-last"
    assert all(name.startswith("sequential") for name in timed)


def test_a_small_lead_does_not_count(timed, monkeypatch):
    monkeypatch.setattr(auto, "_seconds", lambda candidate, *_: 0.98 if candidate.kind == "workers" else 1.0)
    assert settled().engine.kind == "sequential"


@pytest.mark.parametrize("content", ["", "[1, 2]", "{"])
def test_a_damaged_memory_is_as_none(timed, cache, content):
    cache.write_text(content)
    assert settled().engine.kind == "workers"
    assert len(json.loads(cache.read_text())) == 1


def test_a_memory_that_cannot_be_written_costs_nothing_but_the_trial(timed, monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("FEDLENS_CACHE", str(tmp_path / "taken"))
    assert settled().engine.kind == "workers"


def test_real_trials_end_and_leave_no_process(monkeypatch):
    import multiprocessing

    monkeypatch.setattr(auto, "WORTH", 0.0)
    found = settled()
    assert "examples/s" in found.why and not multiprocessing.active_children()
