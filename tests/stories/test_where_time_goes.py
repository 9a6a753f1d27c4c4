"""One asks where a run's time goes: from the shell, from Python, of a run that is resumed."""

import json
from pathlib import Path

import pytest
from cli.invoke import fedlens, sets, small
from small import experiment

import fedlens as fl
from fedlens.engine.profile import CATEGORIES


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlens.engine.profile.INTERVAL", 0.0005)


def test_the_command_tells_it_on_stderr_and_writes_it_beside_the_run():
    answer = fedlens("run", small(), *sets("references.centralised=true"), "--out", "one", "--profile", "--json")
    assert answer.code == 0, answer.err
    assert Path(json.loads(answer.out)["path"]) == Path("one")  # stdout holds the answer alone
    written = json.loads(Path("one/profile.json").read_text())
    assert set(written["parent"]["seconds"]) <= set(CATEGORIES) and written["workers"] is None
    # No more looks than there was time, of which the references are no part.
    assert 0 < written["parent"]["looks"] <= 1 + 2 * written["seconds"] / written["interval"]
    told = answer.err.splitlines()
    [head] = [number for number, line in enumerate(told) if "this process" in line]
    assert [line.split()[0] for line in told[head + 1 :][: len(written["parent"]["seconds"])]] == list(
        written["parent"]["seconds"]
    )


def test_workers_have_a_column_of_their_own():
    engine = ["engine.kind=workers", "engine.processes=2", "rounds=12"]
    answer = fedlens("run", small(), *sets(*engine), "--profile")
    assert answer.code == 0 and "2 workers" in answer.err and "2 workers" not in answer.out
    assert json.loads(Path("runs/latest/profile.json").read_text())["workers"]["processes"] == 2


def test_without_being_asked_nothing_is_written_and_nobody_looks(monkeypatch):
    monkeypatch.setattr("fedlens.engine.profile.Sampler.start", lambda self: pytest.fail("it looks"))
    run = fl.run(experiment())
    assert run.profile is None and not (run.path / "profile.json").exists()


def test_a_resumed_run_profiles_what_it_still_does():
    def stop(title, state, rounds):
        if state.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fl.run(experiment(), out="two", progress=stop, profile=True)
    begun = fl.Run("two").profile
    assert begun and begun["seconds"] > 0
    done = fl.run(out="two", resume=True, profile=True)
    assert done.profile and done.profile != begun
    assert fl.run(out="two", resume=True).profile == done.profile  # nobody asked: it stays


def test_the_page_names_every_category():
    page = (Path(__file__).parents[2] / "docs" / "speed.md").read_text()
    _, table = page.split("| category |")
    rows = [line.split("`")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
    assert rows == list(CATEGORIES)
