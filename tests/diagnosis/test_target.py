"""What a person names: a file and a function, a module, a run folder; loaded anew where it remembers."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlens.diagnosis.subject.target import is_log, subject_of
from fedlens.errors import ConfigurationError

JOB = """
class Job:
    clients, cohort, rounds = 2, 1, 3
    def init(self): return {"w": [0.0]}
    def sample(self, round): return [0]
    def fit(self, client, received, round): return received, 1
    def aggregate(self, current, uploads, round): return uploads[0][0]
    def evaluate(self, state, round): return {"accuracy": 0.5}
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Paths and modules as they were."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


def written(folder: Path, **files: str) -> Path:
    """Files by name in `folder` (a package's behind two lines), and the path of job.py."""
    for name, text in files.items():
        place = folder.joinpath(*name.split("__"))
        place.parent.mkdir(exist_ok=True, parents=True)
        place.with_suffix(".py").write_text(text)
    return folder / "job.py"


def test_a_function_in_a_file_makes_the_job(tmp_path: Path) -> None:
    target = f"{written(tmp_path, job=JOB + 'def make(): return Job()')}:make"
    subject = subject_of(target)
    assert subject.name == target and subject.fresh().clients == 2
    assert subject_of(f"{tmp_path / 'job.py'}:Job").fresh().rounds == 3  # a class is a function too


def test_a_function_that_takes_a_seed_is_given_it(tmp_path: Path) -> None:
    path = written(
        tmp_path, job=JOB + "def make(seed=0):\n    job = Job()\n    job.clients = 10 + seed\n    return job"
    )
    assert subject_of(f"{path}:make").fresh(5).clients == 15


def test_jobs_whose_files_have_the_same_names_do_not_get_each_others(tmp_path: Path) -> None:
    text = JOB + "import data\ndef make():\n    job = Job()\n    job.clients = data.CLIENTS\n    return job"
    for name, clients in (("one", 3), ("two", 4)):
        path = written(tmp_path / name, job=text, data=f"CLIENTS = {clients}")
        assert subject_of(f"{path}:make").fresh().clients == clients
    assert sys.modules["data"].__file__ == str(tmp_path / "two" / "data.py")


def test_a_file_named_like_a_module_of_python_does_not_take_its_place(tmp_path: Path) -> None:
    import json

    path = written(tmp_path, job=JOB + "def make(): return Job()", json="", torch="")
    assert subject_of(f"{path}:make").fresh().clients == 2
    assert sys.modules["json"] is json and hasattr(sys.modules["torch"], "Tensor")


def test_a_function_in_a_module_makes_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, of_a_module=JOB + "def make(): return Job()")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert subject_of("of_a_module:make").fresh().clients == 2


@pytest.mark.parametrize(
    "target, says",
    [
        ("nothing.py:make", "no such file"),
        ("nowhere", "nothing to examine"),
        ("job.py:mak", "Did you mean 'make'"),
        ("job.py:CONSTANT", "no function 'CONSTANT'"),
        ("job.py", "nothing to examine"),
        ("no_such_module_at_all:make", "no_such_module_at_all"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, says: str) -> None:
    written(tmp_path, job=JOB + "CONSTANT = 3\ndef make(): return Job()")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=says):
        subject_of(target)


@pytest.mark.parametrize("text", ["import no_such_thing", "def make(:", "raise SystemExit(1)", "1 / 0"])
def test_a_file_that_cannot_be_loaded_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        subject_of(f"{written(tmp_path, job=text)}:make")


COUNTING = JOB + "import loads\nloads.COUNT.append(1)\ndef make(): return Job()\n"


def times(tmp_path: Path, **files: str) -> int:
    """How often job.py is run to make three jobs, by what a module elsewhere counts."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "loads.py").write_text("COUNT = []")
    sys.path.insert(0, str(elsewhere))
    subject = subject_of(f"{written(tmp_path, **files)}:make")
    for _ in range(3):
        subject.fresh()
    return len(sys.modules["loads"].COUNT)


@pytest.mark.parametrize(
    "state",
    [
        "MEMORY = {}",
        "SEEN = [1]",
        "import numpy\nRNG = numpy.random.default_rng(0)",
        "import torch\nNET = torch.nn.Linear(2, 2)",
        "class Counter:\n    seen = []",
        "def grow(x, kept=[]): kept.append(x)",
        "def grow(): grow.calls = 1\ngrow.calls = 0",
        "import functools\n@functools.lru_cache\ndef data(): return []",
        "def outer():\n    kept = []\n    def inner(x): kept.append(x)\n    return inner\ngrow = outer()",
    ],
)
def test_a_file_that_remembers_is_run_anew_for_every_job(tmp_path: Path, state: str) -> None:
    assert times(tmp_path, job=COUNTING + state) == 4  # once to look, and for three jobs


@pytest.mark.parametrize(
    "state",
    [
        "RATE, NAMES = 0.1, ('a', 'b')",
        "import torch\nLOSS = torch.nn.CrossEntropyLoss()\nKIND = torch.float32",
        "from pathlib import Path\nHERE = Path('.')",
        "def scaled(x, by=2.0): return by * x",
        "def outer(by):\n    def inner(x): return by * x\n    return inner\ntwice = outer(2)",
        "class Fixed:\n    rate = 0.1\n    @property\n    def double(self): return 2 * self.rate",
    ],
)
def test_a_file_that_keeps_nothing_is_run_once(tmp_path: Path, state: str) -> None:
    assert times(tmp_path, job=COUNTING + state) == 1


@pytest.mark.parametrize("beside", ["settings", "parts__settings"], ids=["a module", "a module of a package"])
def test_modules_beside_the_file_start_anew_too(tmp_path: Path, beside: str) -> None:
    """A client writes its rate back into shared settings; the next job must not see it."""
    files = {"parts____init__": ""} if "__" in beside else {}
    name = beside.replace("__", ".")
    making = f"from {name} import RATES\n{JOB}\ndef make():\n    job = Job()\n    job.rates = RATES\n    return job"
    subject = subject_of(f"{written(tmp_path, job=making, **{beside: 'RATES = {}'}, **files)}:make")
    subject.fresh().job.rates["lr"] = 5.0
    assert subject.fresh().job.rates == {}


def test_modules_of_other_folders_stay_as_they_are(tmp_path: Path) -> None:
    import fedlens.diagnosis.subject.target as this

    times(tmp_path, job=COUNTING + "MEMORY = {}")
    assert sys.modules["fedlens.diagnosis.subject.target"] is this and sys.modules["pytest"] is pytest


def test_logs_are_told_by_their_ending_and_must_exist(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("0.5")
    (tmp_path / "run.bin").write_text("0.5")
    assert is_log(str(tmp_path / "run.log"))
    assert not is_log(str(tmp_path / "run.bin")) and not is_log(str(tmp_path / "other.log"))


def test_functions_and_classes_that_refer_to_themselves_are_looked_at_once(tmp_path: Path) -> None:
    code = """
def outer():
    def again(depth=0):
        return again(depth - 1) if depth else 0
    return again

again = outer()

class Node:
    pass

Node.parent = Node

def make_job(seed=0):
    return None
"""
    (tmp_path / "loops.py").write_text(code)
    subject_of(f"{tmp_path / 'loops.py'}:make_job")
