"""Where a job's data, numbers and stages come from, of small jobs that are written into files."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedlens.diagnosis.evidence import Origins
from fedlens.diagnosis.origins.examine import examine_origins
from fedlens.diagnosis.origins.memory import arrays_in, memory_of, positions_in
from fedlens.diagnosis.origins.trace import Trace
from fedlens.diagnosis.origins.written import numbers_written
from fedlens.diagnosis.subject.target import subject_of

CLIENT = """
def fit(client, received, round):
    for _ in range(20_000):
        pass
    return received, 4
"""
SERVER = """
def init(): return {"w": [0.0]}
def sample(round): return [0, 1]
def aggregate(current, uploads, round): return uploads[0][0]
def evaluate(state, round): return {"accuracy": 0.5}
"""
JOB = """
from types import SimpleNamespace
import client, data, server

def make():
    parts, test = data.load()
    numbers = dict(clients=3, cohort=2, rounds=3)
    return SimpleNamespace(**numbers, {stages}, train_data=lambda c: parts[c], test_data=lambda: test)
"""
PLAIN = "init=server.init, sample=server.sample, fit=client.fit, aggregate=server.aggregate, evaluate=server.evaluate"
DATA = """
import torch

def prepare(x):
    return x / 255

def flipped(y):
    return 9 - y

def same(y):
    return y

def load():
    x, y = torch.rand(12, 2), torch.arange(12)
    parts = [(prepare(x[4 * c : 4 * c + 4]), (flipped if c == 1 else same)(y[4 * c : 4 * c + 4] + 0)) for c in range(3)]
    return parts, (prepare(x), y)
"""


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Paths and modules as they were; nothing is heard while something else traces."""
    if sys.gettrace() is not None:
        pytest.skip("something else traces")
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]


def told(folder: Path, **files: str) -> tuple[Origins, dict[str, str]]:
    """What is told of the job that `make` of job.py makes, places without their folder."""
    for name, text in ({"client": CLIENT, "server": SERVER, "data": DATA} | files).items():
        (folder / f"{name}.py").write_text(text)
    subject = subject_of(f"{folder / 'job.py'}:make")
    patient = subject.fresh()
    assert subject.trace is not None
    return examine_origins(patient, subject.trace, patient.facts())


def line(text: str, of: str) -> int:
    return next(number for number, row in enumerate(text.splitlines(), 1) if of in row)


def ends(places: Any) -> list[str]:
    return [place.rpartition("/")[2] for place in places]


def test_the_function_that_made_a_clients_data_is_named_and_not_the_one_that_passed_them_on(tmp_path: Path) -> None:
    origins, stages = told(tmp_path, job=JOB.format(stages=PLAIN))
    prepare, flip, load = (f"data.py:{line(DATA, f'def {name}')}" for name in ("prepare", "flipped", "load"))
    assert ends(origins.inputs.values()) == [prepare] * 3
    assert ends(origins.labels.values()) == [load, flip, load]
    assert ends([origins.test_inputs, origins.test_labels]) == [prepare, load]
    assert stages == {} and sys.gettrace() is None


def test_a_stage_that_is_only_passed_on_is_where_the_work_is_done(tmp_path: Path) -> None:
    wrapped = PLAIN.replace("fit=client.fit", "fit=lambda c, state, round: client.fit(c, state, round)")
    _, stages = told(tmp_path, job=JOB.format(stages=wrapped))
    assert ends([stages["fit"]]) == [f"client.py:{line(CLIENT, 'def fit')}"] and "evaluate" not in stages


PARTS = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 2, bias=False))

def size_of(state):
    return sum(value.norm() for value in state.values())

def load_into(net, state):
    net.load_state_dict(state)

def make_optimizer(net):
    return torch.optim.SGD(net.parameters(), lr=0.1)

def shares(counts):
    return [(1 + (place == 0)) / len(counts) for place, _ in enumerate(counts)]

def combine(states, weights):
    for _ in range(2_000):
        pass
    return {name: sum(w * one[name] for w, one in zip(weights, states)) for name in states[0]}

def hit_rate(right):
    return right / 8

def score(state):
    for _ in range(20_000):
        pass
    return 100 * hit_rate(3)
"""
WHOLE = """
import parts

def init(): return {"0.weight": parts.torch.ones(2, 3)}
def sample(round): return [0, 1]

def fit(client, received, round):
    net = parts.build()
    parts.size_of(received)
    parts.load_into(net, received)
    parts.make_optimizer(net)
    for _ in range(20_000):
        pass
    return dict(net.state_dict()), 4

def aggregate(current, uploads, round):
    return parts.combine([one for one, _ in uploads], parts.shares([n for _, n in uploads]))

def evaluate(state, round):
    return {"loss": 0.5, "accuracy": parts.score(state)}
"""


def test_who_loads_weighs_measures_and_makes_the_optimiser_is_known_by_what_is_handed_on(tmp_path: Path) -> None:
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)  # the first one loads more than a trace listens to
    stages = ", ".join(f"{name}=whole.{name}" for name in ("init", "sample"))
    stages += ", fit=lambda c, state, round: whole.fit(c, state, round)"
    stages += ", aggregate=lambda now, sent, round: whole.aggregate(now, sent, round)"
    stages += ", evaluate=lambda state, round: whole.evaluate(state, round)"
    job = JOB.format(stages=stages).replace("import client, data, server", "import data, whole")
    _, found = told(tmp_path, job=job, whole=WHOLE, parts=PARTS)
    names = {"load": "load_into", "optimizer": "make_optimizer", "aggregate": "shares", "evaluate": "score"}
    places = {stage: f"parts.py:{line(PARTS, f'def {name}')}" for stage, name in names.items()}
    assert {stage: ends([found[stage]])[0] for stage in names} == places
    assert ends([found["fit"]]) == [f"whole.py:{line(WHOLE, 'def fit')}"]
    fair = PARTS.replace("(1 + (place == 0)) / len(counts)", "1 / len(counts)")
    _, found = told(tmp_path, job=job, whole=WHOLE, parts=fair)
    assert ends([found["aggregate"]]) == [f"parts.py:{line(fair, 'def combine')}"]


def test_rows_that_the_job_cuts_out_of_a_table_are_of_those_who_made_the_table(tmp_path: Path) -> None:
    table = DATA.replace("parts = [", "return x, y\n    parts = [")
    job = JOB.format(stages=PLAIN).replace("parts, test = data.load()", "x, y = data.load()")
    job = job.replace("lambda c: parts[c]", "lambda c: (x[c : c + 4] + 0, y[c : c + 4] + 0)").replace(
        "test\n", "(x, y)\n"
    )
    job = job.replace("lambda: test", "lambda: (x, y)")
    origins, _ = told(tmp_path, job=job, data=table)
    assert set(ends(origins.inputs.values())) == {f"data.py:{line(table, 'def load')}"}


def test_data_sets_that_read_row_by_row_are_made_by_what_reads_a_row(tmp_path: Path) -> None:
    text = (
        DATA
        + """

class Rows:
    def __init__(self, x, y): self.x, self.y = x, y
    def __len__(self): return len(self.y)
    def __getitem__(self, row): return self.x[row], 9 - self.y[row]
"""
    )
    job = JOB.format(stages=PLAIN).replace("lambda c: parts[c]", "lambda c: data.Rows(*parts[c])")
    origins, _ = told(tmp_path, job=job, data=text)
    assert set(ends(origins.labels.values())) == {f"data.py:{line(text, '__getitem__')}"}


def test_who_deals_out_the_rows_is_known_by_their_numbers(tmp_path: Path) -> None:
    deal = "def deal():\n    return [[0, 1, 2], [3, 4, 5, 6, 7], [8, 9]]\n\ndef other():\n    return [[1], [2], [3]]\n"
    text = (
        "import torch\nimport dealing\n\ndef load():\n    x, y = torch.rand(10, 2), torch.arange(10)\n"
        "    dealing.other()\n"
        "    return [(x[rows], y[rows]) for rows in dealing.deal()], (x, y)\n"
    )
    origins, _ = told(tmp_path, job=JOB.format(stages=PLAIN), data=text, dealing=deal)
    assert ends([origins.dealt]) == ["dealing.py:1"]


def test_a_data_function_that_fails_is_left_out(tmp_path: Path) -> None:
    job = JOB.format(stages=PLAIN).replace("lambda c: parts[c]", "lambda c: parts[c] if c else 1 / 0")
    origins, _ = told(tmp_path, job=job)
    assert sorted(origins.labels) == [1, 2]


def test_numbers_are_found_in_settings_first_and_then_in_the_code(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('rounds = 3\n[local]\nlr = 1e-05  # small\nname = "lr"\n')
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "dp.yaml").write_text("dp:\n  noise_multiplier: 4.0\n  clip: 0.01\n")
    code = (
        "LR = 0.5\nsettings = dict(local_lr=2 / 4)\ndef train(lr=-0.1, *, clip_norm=3): ...\nadd('--mu', default=0.2)\n"
    )
    (tmp_path / "job.py").write_text(code)
    (tmp_path / "broken.py").write_text("def (")
    seen = [(one.name, one.value, Path(one.where).name) for one in numbers_written([str(tmp_path)])]
    assert seen.index(("lr", 1e-05, "job.toml:3")) < seen.index(("lr", 0.5, "job.py:1"))
    assert {("rounds", 3.0, "job.toml:1"), ("noise", 4.0, "dp.yaml:2"), ("clip", 0.01, "dp.yaml:3")} <= set(seen)
    assert {
        ("lr", 0.5, "job.py:2"),
        ("lr", -0.1, "job.py:3"),
        ("clip", 3.0, "job.py:3"),
        ("mu", 0.2, "job.py:4"),
    } <= set(seen)
    assert len(seen) == 9


def slow() -> None:
    time.sleep(0.03)


def caller() -> torch.Tensor:
    slow()
    return torch.ones(3)


def passing(values: torch.Tensor) -> torch.Tensor:
    return values


def test_a_trace_tells_own_time_from_that_of_what_is_called() -> None:
    trace = Trace()
    with trace.listening():
        passing(made := caller())
    spent = {code.co_name: seconds for code, seconds in trace.seconds.items()}
    assert spent["slow"] >= 0.03 > spent["caller"] and list(spent) == ["slow", "caller", "passing"]
    assert [code.co_name for code in trace.makers(made)] == ["caller", "passing"]
    assert trace.makers(torch.ones(3)) == [] and sys.gettrace() is None


def test_a_trace_stays_out_of_the_way_of_another_one() -> None:
    trace = Trace()
    sys.settrace(lambda *_: None)
    try:
        with trace.listening():
            caller()
        assert not trace.seconds
    finally:
        sys.settrace(None)


def test_arrays_are_found_in_whatever_holds_them() -> None:
    x, y = torch.rand(3), torch.rand(4).numpy()
    held = {"a": [x, 5, "b"], "f": lambda: y, "again": x}
    assert [tuple(array.shape) for array in arrays_in(held)] == [(3,), (4,)]
    assert memory_of(x[1:]) == memory_of(x) and memory_of(y[1:]) == memory_of(y) != memory_of(x)
    assert positions_in({0: range(3), 1: torch.arange(2)}) == (3, 2)
    assert positions_in([torch.rand(3), torch.rand(2)]) == () and positions_in([[1, 2]]) == () == positions_in(7)
