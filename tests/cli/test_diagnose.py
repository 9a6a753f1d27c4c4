"""`fedlens diagnose` from outside: what it answers, what it writes, what it refuses."""

import json
from pathlib import Path

import pytest
from invoke import fedlens, module, refused, sets, small

TOO_SMALL = sets("local.lr=1e-7", "rounds=12", "model.norm=group", "model.groups=1")
LOG = "".join(f"round {at} test accuracy {value}\n" for at, value in enumerate((0.252, 0.503, 0.747, 0.741, 0.755), 1))


def ran(*words):
    answer = fedlens("run", small(), "--out", "a", *words)
    assert answer.code == 0, answer.err
    return answer


def as_json(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def files(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def test_a_healthy_run_ends_without_a_word_of_causes():
    answer = ran()
    assert as_json(Path("a/findings.json").read_text())["suspects"] == []
    assert "diagnose" not in answer.out


def test_a_run_in_which_nothing_moves_says_so_at_its_end():
    answer = ran(*TOO_SMALL)
    assert "Nothing moves" in answer.out
    assert "fedlens diagnose a" in answer.out
    assert "Nothing moves" in Path("a/report.html").read_text()


def test_a_run_is_examined_and_nothing_but_its_findings_is_written():
    ran(*TOO_SMALL)
    before = files("a")
    answer = fedlens("diagnose", "a", "--json", "--report", "page.html")
    assert answer.code == 0, answer.err
    told = as_json(answer.out)
    assert as_json(Path("a/findings.json").read_text()) == told
    assert [one["cause"] for one in told["suspects"]] == ["O1"]
    assert {one["where"] for one in told["suspects"]} == {""}
    changed = {path.name for path, at in files("a").items() if before.get(path) != at}
    assert changed == {"findings.json"}
    assert "<!DOCTYPE html>" in Path("page.html").read_text()
    assert answer.err == ""


def test_a_fix_is_an_experiment_that_can_be_run():
    ran(*TOO_SMALL)
    answer = fedlens("diagnose", "a", "--fix")
    assert answer.code == 0, answer.err
    assert "local.lr: 1e-07 -> " in answer.out
    assert "3 paired seeds" in " ".join(answer.out.split())
    told = as_json(Path("a/findings.json").read_text())
    assert told["treatments"][0]["change"].startswith("local.lr")
    assert fedlens("run", "a/fixed.toml", "--out", "b", *sets("rounds=1")).code == 0


def test_a_log_alone_gives_away_what_it_is_of():
    Path("run.log").write_text(LOG)
    answer = fedlens("diagnose", "run.log", "--classes", "10", "--test-size", "1000")
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    for part in ("NO FAULT FOUND", "5, fraction", "chance 10.0 %", "1,000 examples", "share of one class"):
        assert part in text


JOB = "def make():\n    raise KeyError('no data here')\n\n\ndef nothing():\n    return 3\n"
REFUSED = [
    (("diagnose", "nowhere"), "there is nothing to examine"),
    (("diagnose", "nowhere.log"), "there is nothing to examine"),
    (("diagnose", "nowhere.py:make"), "there is no such file"),
    (("diagnose", "theirs.py:mkae"), "Did you mean 'make'?"),
    (("diagnose", "theirs.py:nothing"), "this is no job"),
    (("diagnose", "empty.log"), "no accuracies were found"),
    (("diagnose", "run.log", "--fix"), "a log cannot be mended"),
    (("diagnose", "run.log", "--report", "page.txt"), "End its name in .html"),
    (("diagnose", "run.log", "--report", "none/page.html"), "no folder none"),
    (("diagnose", "theirs.py:make", "--classes", "3"), "Leave --classes and --test-size to logs"),
]


@pytest.mark.parametrize("words, said", REFUSED)
def test_what_cannot_be_examined_is_refused_and_nothing_is_written(words, said):
    module("theirs", JOB)
    Path("empty.log").write_text("nothing to see\n")
    Path("run.log").write_text(LOG)
    refused(fedlens(*words), said)


def test_a_job_that_cannot_be_made_fails_with_its_own_line():
    module("theirs", JOB)
    answer = fedlens("diagnose", "theirs.py:make")
    assert answer.code == 1
    assert "no data here" in answer.err
    assert "theirs.py:6" in answer.err


def test_a_run_folder_that_was_written_over_is_refused():
    ran()
    text = Path("a/experiment.toml").read_text()
    Path("a/experiment.toml").write_text(text.replace('name = "fedavg"', 'name = "nothing"'))
    refused(fedlens("diagnose", "a"), "no method 'nothing'")
