"""report, compare, data, models, methods: what they answer, and how they refuse."""

import json
from pathlib import Path

import pytest
from cli.invoke import fedlens, module, refused, small

from fedlens.data import SOURCES
from fedlens.methods import METHODS
from fedlens.models import MODELS


@pytest.mark.parametrize("words", [["report"], ["report", "--json"], ["compare"], ["compare", "--json"]])
def test_what_is_no_run_is_told(words):
    Path("empty").mkdir()
    refused(fedlens(words[0], "empty", *words[1:]), "empty: not a run folder", "looked for experiment.toml")
    refused(fedlens(words[0], "nosuch", *words[1:]), "nosuch: not a run folder", "there is no such folder")


def test_without_a_run_there_is_no_report():
    refused(fedlens("report"), "runs/latest: not a run folder")
    refused(fedlens("compare"), "Missing argument")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], ["not a known source of data", "'nosuch'", "One of: digits, mnist, cifar10"]),
        (["cifar01"], ["Did you mean 'cifar10'?"]),
        (["folder:nosuch"], ["folder:nosuch: there is no such folder"]),
        (["digits", "--partition", "shrds:2"], ["--partition: 'shrds'", "did you mean 'shards'?"]),
        (["digits", "--partition", "dirichlet:x"], ["--partition: 'x' in 'dirichlet:x' is not a number", "alpha"]),
        (["digits", "--partition", "dirichlet:-1"], ["--partition", "greater than 0", "seen: -1"]),
        (["digits", "--partition", "shards:0"], ["--partition", "greater than or equal to 1", "seen: 0"]),
        (["digits", "--partition", "natural:writer"], ["no column 'writer'"]),
        (["digits", "--clients", "5000"], ["5000 clients cannot share 1437 samples"]),
        (["digits", "--clients", "0"], ["--clients"]),
        (["digits", "--seed", "-1"], ["--seed"]),
        (["digits", "--size", "0"], ["--size"]),
        (["digits", "--figure", "split"], ["--figure: a figure is drawn as .svg or .png", "seen: split"]),
        (["digits", "--figure", "split.docx"], ["--figure: a figure is drawn as .svg or .png"]),
    ],
)
def test_a_split_that_cannot_be_is_told(words, said):
    refused(fedlens("data", *words), *said)


def test_a_figure_that_cannot_be_written_is_told():
    refused(fedlens("data", "digits", "--figure", f"{small()}/x.png"), "small.toml/x.png: the figure cannot be written")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_split_is_drawn(ending):
    answer = fedlens("data", "digits", "--partition", "shards:2", "--figure", f"figures/a b.{ending}")
    assert answer.code == 0, answer.err
    assert f"figure: figures/a b.{ending}" in answer.out
    head = Path(f"figures/a b.{ending}").read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if ending == "png" else b"<svg" in head or b"<?xml" in head


def test_a_split_is_described_in_json():
    words = ["data", "digits", "--partition", "shards:2", "--clients", 20]
    answer = fedlens(*words, "--json")
    split = json.loads(answer.out)
    assert answer.code == 0 and answer.err == "" and answer.left == ()
    assert (split["source"], split["kind"], split["clients"], split["samples"]) == ("digits", "shards", 20, 1437)
    assert split["classes_max"] <= 4
    assert json.loads(fedlens(*words, "--json").out) == split
    assert json.loads(fedlens(*words, "--json", "--seed", 1).out) != split


def test_what_there_is_is_listed():
    listed = {name: json.loads(fedlens(name, "--json").out) for name in ("data", "models", "methods")}
    assert [row["source"] for row in listed["data"]] == list(SOURCES)
    assert {row["source"]: (row["train"], row["test"]) for row in listed["data"]}["cifar10"] == (50_000, 10_000)
    assert [row["model"] for row in listed["models"]] == list(MODELS)
    parameters = {row["model"]: row["parameters"] for row in listed["models"]}
    assert (parameters["resnet8"], parameters["resnet18"], parameters["cnn"]) == (78_042, 11_173_962, 1_663_370)
    assert [row["method"] for row in listed["methods"]] == list(METHODS)


@pytest.mark.parametrize("name", ["data", "models", "methods"])
def test_a_list_for_people_breaks_no_name(name):
    answer = fedlens(name)
    assert answer.code == 0 and answer.err == ""
    known = {"data": SOURCES, "models": MODELS, "methods": METHODS}[name]
    firsts = [line.split(" ")[0] for line in answer.out.splitlines()]
    assert set(known) <= set(firsts)


def test_what_a_users_function_prints_is_not_part_of_the_answer():
    pair = "np.zeros((30, 8, 8), 'u1'), np.arange(30) % 3"
    module("talks", f"def get():\n    print('hello')\n    pair = {pair}\n    return pair, pair")
    answer = fedlens("run", small(source='source = "talks:get"'), "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["name"] == "small"
    assert "hello" in answer.err
    for words in (["run", "small.toml", "--dry-run"], ["data", "talks:get"]):
        assert json.loads(fedlens(*words, "--json").out)
