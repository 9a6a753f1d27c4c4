"""Settings that cannot be run are refused before anything is done, all at once, with file, line and the way out."""

import time
from pathlib import Path

import pytest
from cli.invoke import fedlens, in_a_process, module, refused, sets, small

ONE = [
    ({"lr": "lrr = 0.05"}, ["small.toml:16: local.lrr: 'lrr' is not a known key", "Did you mean 'lr'?"]),
    ({"batch": "[lokal]"}, ["small.toml:15: lokal: 'lokal' is not a known key", "Did you mean 'local'?"]),
    ({"rounds": 'rounds = "two"'}, ["small.toml:2: rounds:", "valid integer", "seen: 'two'"]),
    ({"rounds": "rounds = true"}, ["small.toml:2: rounds:", "valid integer"]),
    ({"rounds": "rounds = 0"}, ["small.toml:2: rounds:", "greater than or equal to 1", "seen: 0"]),
    ({"rounds": "seed = -1"}, ["small.toml:2: seed:", "greater than or equal to 0", "seen: -1"]),
    ({"lr": "lr = -1"}, ["small.toml:16: local.lr:", "greater than 0", "seen: -1"]),
    ({"lr": "lr = nan"}, ["small.toml:16: local.lr:", "finite"]),
    ({"lr": 'optimizer = "sdg"'}, ["small.toml:16: local.optimizer:", "Did you mean 'sgd'?", "adamw"]),
    ({"lr": "schedule = { wamup = 1 }"}, ["small.toml:16: local.schedule.wamup:", "Did you mean 'warmup'?"]),
    ({"cohort": "cohort = 7"}, ["small.toml:7: clients: cohort = 7 exceeds count = 6", "lower clients.cohort"]),
    ({"cohort": 'partition = "shrds:2"'}, ["small.toml:9: clients.partition:", "'shrds'", "did you mean 'shards'?"]),
    ({"cohort": 'partition = "dirichlet:x"'}, ["small.toml:9: clients.partition:", "'x'", "is not a number", "alpha"]),
    ({"cohort": 'partition = "dirichlet:-1"'}, ["small.toml:9: clients.partition.alpha:", "greater than 0"]),
    ({"cohort": "partition = { alpha = 1.0 }"}, ["small.toml:9: clients.partition:", "'kind' is missing"]),
    ({"cohort": 'partition = { kind = "shards", perclient = 1 }'}, ["small.toml:9:", "Did you mean 'per_client'?"]),
    ({"source": 'source = "cifar01"'}, ["data", "'cifar01'", "Did you mean 'cifar10'?"]),
    ({"rounds": 'method = "fedavgg"'}, ["small.toml:2: method: no method 'fedavgg'", "Did you mean 'fedavg'?"]),
    ({"rounds": 'method = { name = "fedavg", mu = 0.1 }'}, ["small.toml:2: method: 'mu' is not a setting of fedavg"]),
    ({"rounds": 'method = "fedsgd"'}, ["fedsgd is one plain SGD step", 'set local.batch = "all"']),
]


@pytest.mark.parametrize(("line", "said"), ONE, ids=[next(iter(line.values())) for line, _ in ONE])
def test_a_wrong_line_is_told_with_its_place(line, said):
    refused(fedlens("run", small(**line)), *said)


def test_an_unknown_model_is_told_with_the_nearest_one():
    refused(fedlens("run", small(), *sets('model.name="resnt8"')), "model", "'resnt8'", "Did you mean 'resnet8'?")


def test_all_wrong_lines_are_told_at_once():
    lines = {
        "rounds": "rounds = 0\nseed = -1",
        "lr": "lr = -1\nlrr = 1",
        "source": 'source = "cifar01"',
        "count": "count = 0",
    }
    answer = fedlens("run", small(**lines))
    refused(answer, *(f"small.toml:{at}:" for at in (2, 3, 5, 9, 17, 18)), "cifar01")
    assert answer.err.count("fedlens: ") == 1


def test_a_value_that_is_neither_of_two_kinds_is_told_once():
    answer = fedlens("run", small(batch='batch = "al"'))
    refused(answer, "small.toml:15: local.batch: ", "valid integer, or 'all'", "Did you mean 'all'?")
    assert answer.err.count("local.batch") == 1
    answer = fedlens("run", small(), *sets("engine.threads=0"))
    refused(answer, "engine.threads: ", "greater than or equal to 1, or 'auto'")
    assert "constrained" not in answer.err and "literal" not in answer.err


def test_what_is_not_toml_is_told_with_its_line():
    refused(fedlens("run", small(rounds="rounds = = 2")), "small.toml", "not valid TOML", "line 2")


def test_a_missing_file_is_told_with_the_nearest_one():
    small()
    refused(fedlens("run", "smal.toml"), "smal.toml: cannot read the experiment", "Did you mean 'small.toml'?")
    refused(fedlens("run", "nowhere/x.toml"), "No such file", "a recipe: digits")
    refused(fedlens("run", "."), "Is a directory")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lr", ["--set: not KEY=VALUE", "seen: lr", "--set local.lr=0.1"]),
        ("=3", ["--set: not KEY=VALUE"]),
        ("local.lrr=1", ["--set local.lrr: 'lrr' is not a known key", "Did you mean 'lr'?"]),
        ("rounds.x=1", ["--set: 'rounds' is not a section"]),
        ("local.lr=[1", ["--set local.lr:", "seen: '[1'"]),
        ("nosuch=1", ["--set nosuch:", "One of: name, seed, rounds"]),
    ],
)
def test_a_wrong_set_is_told(change, said):
    refused(fedlens("run", small(), "--set", change), *said)


def test_what_the_command_line_itself_refuses_is_told():
    for words in (["--seed", "x"], ["--rounds", "3"], ["--out"]):
        refused(fedlens("run", small(), *words), words[0])
    refused(fedlens("rn"), "No such command 'rn'", "run")


def test_verbose_adds_a_traceback_and_keeps_the_exit_code():
    answer = fedlens("run", small(lr="lr = -1"), "-v")
    assert answer.code == 2
    assert "Traceback" in answer.err and "local.lr" in answer.err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["clients.count=61"], ["iid: 61 clients cannot share 60 samples", "Set fewer clients"]),
        (["clients.count=40", 'clients.partition="shards:2"'], ["60 samples cannot be cut into 80 shards", "to 1 or"]),
        (["clients.count=40", 'clients.partition="classes:2"'], ["class 0 has 20 samples", "smaller per_client"]),
        (['clients.partition="classes:4"'], ["classes.per_client: a client cannot hold 4 classes of 3"]),
        (['clients.partition={kind="dirichlet",min_size=11}'], ["6 clients with at least 11 samples each"]),
        (['clients.partition="natural:writer"'], ["clients.partition: the data has no column 'writer'", "none"]),
        (['model.name="resnet8"', 'model.norm="group"', "model.groups=7"], ["model.groups: 7 groups", "layer 'norm'"]),
        (
            ['model.norm="group"', "model.groups=3"],
            ["3 groups do not divide the 4 channels", "'norm'", "1, 2, 4"],
        ),
        (['model.name="lenet"', "data.size=4"], ["model 'lenet' cannot take images", "4 x 4", "or choose one of"]),
        (["data.size=0"], ["data.size", "greater than or equal to 1"]),
    ],
)
def test_settings_that_do_not_fit_the_data_are_told(changes, said):
    refused(fedlens("run", small(), *sets(*changes)), *said)


def test_a_known_set_that_is_absent_is_told_at_once_and_with_the_places():
    Path("empty").mkdir()
    began = time.monotonic()
    answer = fedlens("run", small(), *sets('data.source="cifar10"'), "--data-dir", "empty")
    assert time.monotonic() - began < 5
    said = ["uoft-cs/cifar10", "no train-*.parquet in", str(Path("empty").absolute()), "test-*.parquet", "--data-dir"]
    refused(answer, *said)
    refused(fedlens("run", small(), *sets('data.source="cifar10"'), "--data-dir", "nodir"), "no such data directory")


OWN = [
    ("def get(): raise ValueError('boo')", ["data.source", "failed", "ValueError: boo", "own0.py"]),
    (
        "def get(): return pair(labels=[0, 1, 2] * 3), pair(labels=[0, 1, -1] * 3)",
        ["row 2 is outside 0..2", "seen: -1"],
    ),
    (
        "from fedlens import Dataset\n"
        "def one(*labels): return Dataset(torch.zeros(3, 3, 8, 8), torch.tensor(labels), ('a', 'b', 'c'))\n"
        "def get(): return one(0, 1, 2), one(0, 1, 3)",
        ["own2:get, test: the label of row 2 is outside 0..2", "seen: 3"],
    ),
    ("def get(): return pair(), pair(side=9)", ["train and test are not alike", "[1, 8, 8] and [1, 9, 9]"]),
    ("def get(): return pair(), pair(kind='f4'), 3", ["did not return two data sets", "tuple of 3"]),
    ("def get(): pass", ["did not return two data sets", "NoneType"]),
    ("def get(): return (np.zeros((0, 8, 8), 'u1'), []), pair()", ["own6:get, train"]),
    ("def got(): pass", ["module 'own7' has no 'get'", "got'?"]),
    ("import nosuchthing\ndef get(): pass", ["nosuchthing"]),
    ("def get(:", ["importing 'own9' failed", "SyntaxError"]),
]
PAIR = """
def pair(labels=(0, 1, 2) * 3, side=8, kind="u1"):
    return np.zeros((len(labels), side, side), kind), np.array(labels)
"""


@pytest.mark.parametrize("number", range(len(OWN)))
def test_data_of_a_function_of_ones_own_is_checked(number):
    text, said = OWN[number]
    module(f"own{number}", PAIR + text)
    refused(fedlens("run", small(), *sets(f'data.source="own{number}:get"')), *said)


def test_float_data_is_not_augmented():
    module("floats", PAIR + "def get(): return pair(kind='f4'), pair(kind='f4')")
    changes = sets('data.source="floats:get"', 'data.augment="crop-flip"')
    refused(fedlens("run", small(), *changes), "data.augment: augmentation needs uint8", "float32")


MODELS = [
    ("def net(): raise OSError('boo')", ["'net0:net' failed", "OSError: boo", "net0.py:"]),
    ("def net(): return 3", ["did not return a torch.nn.Module", "int: 3"]),
    ("def net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 4))", ["does not give one logit a class", "[2, 4]"]),
    ("def net(): return nn.Sequential(nn.Flatten(), nn.Linear(191, 3))", ["cannot take images of shape (3, 8, 8)"]),
    ("def net(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())", ["the model has no parameters"]),
    ("def nett(): pass", ["module 'net5' has no 'net'", "nett"]),
    ("def net(size): pass", ["needs arguments that it is not given", "seen: size"]),
]


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_a_model_of_ones_own_is_checked(number):
    text, said = MODELS[number]
    module(f"net{number}", text)
    refused(fedlens("run", small(), *sets(f'model.name="net{number}:net"')), *said)


def test_a_value_that_was_set_is_told_as_set():
    refused(fedlens("run", small(), *sets("clients.cohort=7")), "--set clients.cohort", "cohort = 7 exceeds count = 6")
    refused(fedlens("run", small(), *sets('clients.partition.kind="dirichlt"')), "--set clients.partition.kind")


def test_a_byte_order_mark_is_no_mistake_and_other_encodings_are_told():
    small()
    text = Path("small.toml").read_text()
    Path("marked.toml").write_text(text, encoding="utf-8-sig")
    assert fedlens("run", "marked.toml", "--dry-run").code == 0
    Path("small.toml").write_text(text.replace('"small"', '"é"'), encoding="latin-1")
    answer = fedlens("run", "small.toml")
    refused(answer, "small.toml: cannot read the experiment", "utf-8")
    assert "Did you mean" not in answer.err


def test_labels_that_are_no_class_numbers_are_told():
    module("hashed", PAIR + "def get(): return pair(labels=[0, 1, 10**6] * 3), pair()")
    refused(fedlens("data", "hashed:get", "--clients", 3, "--json"), "hashed:get", "1000001 classes")


def test_more_threads_than_any_machine_has_are_refused():
    process = in_a_process("run", small(), "--dry-run", *sets("engine.threads=100000"))  # PyTorch would crash
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert "engine.threads" in err and "less than or equal" in err


def test_a_function_that_exits_is_no_success():
    module("leaves", "import sys\ndef net(): sys.exit(0)\ndef get(): sys.exit(3)")
    refused(fedlens("run", small(), *sets('model.name="leaves:net"')), "model.name", "SystemExit")
    refused(fedlens("run", small(), *sets('data.source="leaves:get"')), "data.source", "SystemExit")
