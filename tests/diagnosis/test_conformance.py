"""A component alone: right ones of every form conform, and wrong ones fail with their reason."""

import json
import textwrap
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from fedlens.cli.checking import check as command
from fedlens.diagnosis.conformance import check
from fedlens.errors import ConfigurationError

HEAD = """
import copy, functools
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)


def written(text, head=HEAD):
    """The one function in `text`, or its last one, as FILE.py:FUNCTION."""
    text = textwrap.dedent(text)
    name = text.rpartition("\ndef ")[2].partition("(")[0] if "\ndef " in text else text.split("def ")[1].split("(")[0]
    Path("part.py").write_text(head + text)
    return f"part.py:{name}"


def examined(text, **told):
    return check(written(text), **told)


def failed(found):
    return {one.name for one in found.checks if one.passed is False}


RIGHT = {
    "comprehension": """
        def aggregate(states, examples):
            n = sum(examples)
            return {k: sum(s[k] * (e / n) for s, e in zip(states, examples)).to(v.dtype) for k, v in states[0].items()}
        """,
    "counters of the largest": """
        def average(w, n):
            made = copy.deepcopy(w[0])
            for k, v in made.items():
                if v.is_floating_point():
                    made[k] = torch.stack([one[k] * count for one, count in zip(w, n)]).sum(0) / sum(n)
                else:
                    made[k] = w[int(np.argmax(n))][k].clone()
            return made
        """,
    "numpy": """
        def aggregate(states, examples):
            mean = lambda k: np.average([s[k] for s in states], axis=0, weights=examples)
            return {k: mean(k).astype(v.dtype) for k, v in states[0].items()}
        """,
    "lists of arrays": """
        def aggregate(results):
            n = sum(count for _, count in results)
            weighted = [[layer * count for layer in weights] for weights, count in results]
            return [functools.reduce(np.add, layers) / n for layers in zip(*weighted)]
        """,
    "running mean in float64": """
        def aggregate(states, counts):
            seen, mean = 0, {k: torch.zeros(v.shape, dtype=torch.float64) for k, v in states[0].items()}
            for s, c in zip(states, counts):
                seen += c
                for k in mean:
                    mean[k] += (s[k].double() - mean[k]) * c / seen
            return {k: v.to(states[0][k].dtype) for k, v in mean.items()}
        """,
    "states alone": """
        def fed_avg(w):
            return {k: torch.stack([s[k].float() for s in w]).mean(0).to(v.dtype) for k, v in w[0].items()}
        """,
    "a job's": """
        def aggregate(current, uploads, round):
            n = sum(count for _, count in uploads)
            step = lambda k, v: sum((s[k] - v) * c for s, c in uploads) / n
            return {k: (v + step(k, v)).to(v.dtype) for k, v in current.items()}
        """,
    "a job's, of objects": """
        def aggregate(current, uploads, round):
            n = sum(u.examples for u in uploads)
            return {k: (sum(u.state[k] * u.examples for u in uploads) / n).to(v.dtype) for k, v in current.items()}
        """,
    "updates": """
        def apply(global_state, updates, num_samples):
            n = sum(num_samples)
            step = lambda k: sum(u[k] * c for u, c in zip(updates, num_samples)) / n
            return {k: (v + step(k)).to(v.dtype) for k, v in global_state.items()}
        """,
    "modules": """
        def merge(global_model, client_models):
            state = global_model.state_dict()
            for k in state:
                state[k] = torch.stack([m.state_dict()[k].float() for m in client_models]).mean(0)
            global_model.load_state_dict(state)
            return global_model
        """,
    "shares": """
        def aggregate(states, weights):
            return {k: sum(p * s[k] for p, s in zip(weights, states)).to(v.dtype) for k, v in states[0].items()}
        """,
    "vectors": """
        def aggregate(updates, n):
            return sum(u * c for u, c in zip(updates, n)) / sum(n)
        """,
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_aggregators_of_every_form_conform(name):
    found = examined(RIGHT[name])
    assert found.kind == "aggregator"
    assert found.conforms, found.reasons


def total(body):
    """`mean` is the right answer, which `body` then spoils."""
    head = """
        def mean_of(states, examples):
            n = sum(examples)
            return {k: sum(s[k] * (e / n) for s, e in zip(states, examples)).to(v.dtype) for k, v in states[0].items()}

        """
    return textwrap.dedent(head) + "def aggregate(states, examples):\n" + textwrap.indent(textwrap.dedent(body), "    ")


STRATEGY = """
class Strategy:
    def aggregate_fit(self, server_round, results, failures):
        if not results:
            return None, {}
        total = sum(fit_res.num_examples for _, fit_res in results)
        shares = [fit_res.num_examples / SHARE for _, fit_res in results]
        sent = [READ for _, fit_res in results]
        mean = [sum(s * x for s, x in zip(shares, layer)).astype(layer[0].dtype) for layer in zip(*sent)]
        return WRITTEN, {}
"""
UNPACK = "[np.load(__import__('io').BytesIO(x)) for x in fit_res.parameters.tensors]"


def strategy(share="total", read="fit_res.parameters", wrote="mean"):
    text = STRATEGY.replace("SHARE", share).replace("READ", read).replace("WRITTEN", wrote)
    Path("flower.py").write_text(HEAD + text)
    return check("flower.py:Strategy.aggregate_fit")


@pytest.mark.parametrize("read", ["fit_res.parameters", UNPACK])
@pytest.mark.parametrize("wrote", ["mean", "__import__('types').SimpleNamespace(tensors=mean)"])
def test_a_flower_strategy_is_given_results_and_failures(read, wrote):
    right = strategy(read=read, wrote=wrote)
    assert right.conforms, right.reasons
    assert "FitRes" in right.called and right.kind == "aggregator"
    wrong = strategy(share="1000", read=read, wrote=wrote)
    assert "coefficients add up" in failed(wrong)


WRONG = {
    "first client": ("return states[0]", "coefficients of the uploads", "Only the first upload"),
    "last client": ("return states[-1]", "coefficients of the uploads", "Only the last upload"),
    "first in full": (
        """
        made = copy.deepcopy(states[0])
        for k in made:
            for s, e in zip(states[1:], examples[1:]):
                made[k] = (made[k] + s[k] * (e / sum(examples))).to(made[k].dtype)
        return made
        """,
        "coefficients of the uploads",
        "first upload counts in full",
    ),
    "cut to whole numbers": (
        """
        made = copy.deepcopy(states[0])
        for k in made:
            for s, e in zip(states[1:], examples[1:]):
                made[k] += (s[k] * (e / sum(examples))).long()
        return made
        """,
        "values",
        "cast to whole numbers",
    ),
    "uniform": ("return mean_of(states, [1] * len(states))", "coefficients of the uploads", "--declared uniform"),
    "sum": ("return {k: sum(s[k] for s in states) for k in states[0]}", "coefficients add up", "It is a sum"),
    "sum by counts": (
        "return {k: sum(s[k] * e for s, e in zip(states, examples)) for k in states[0]}",
        "coefficients add up",
        "Normalise",
    ),
    "a constant": (
        "return {k: (sum(s[k] for s in states) / 10).to(v.dtype) for k, v in states[0].items()}",
        "coefficients add up",
        "a constant 10",
    ),
    "in place": (
        """
        mean = mean_of(states, examples)
        for k, v in states[0].items():
            v.copy_(mean[k])
        return states[0]
        """,
        "uploads are left alone",
        "Copy",
    ),
    "only parameters": (
        "return {k: v for k, v in mean_of(states, examples).items() if 'running' not in k and 'num_' not in k}",
        "entries keep their names",
        "return all of them",
    ),
    "buffers of the first": (
        "return {k: states[0][k] if 'running' in k else v for k, v in mean_of(states, examples).items()}",
        "running statistics",
        "averaged like weights",
    ),
    "zip in another order": (
        """
        mean = mean_of(states, examples)
        order = lambda k: (str(tuple(mean[k].shape)), str(mean[k].dtype))
        return dict(zip(sorted(mean, key=order), (mean[k] for k in sorted(reversed(list(mean)), key=order))))
        """,
        "entries keep their names",
        "by name",
    ),
    "half precision": (
        "return {k: v.half() if v.is_floating_point() else v for k, v in mean_of(states, examples).items()}",
        "types of numbers",
        "Precision",
    ),
    "it raises": ("raise ValueError('no such thing')", "it can be called", "valid input"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_aggregators_fail_with_their_reason(name):
    body, check_name, words = WRONG[name]
    found = examined(total(body))
    assert not found.conforms
    assert found.kind == "aggregator"
    assert words in next(one.why for one in found.checks if one.name == check_name and one.passed is False)


@pytest.mark.parametrize("where", ["total = {}\n\ndef aggregate(states, examples):", None])
def test_an_accumulator_that_is_not_emptied_fails(where):
    head = where or "def aggregate(states, examples, total={}):"
    body = """
        for s, e in zip(states, examples):
            for k in s:
                total[k] = total.get(k, 0) + s[k] * (e / sum(examples))
        return {k: v.to(states[0][k].dtype) for k, v in total.items()}
        """
    found = examined(head + "\n" + textwrap.indent(textwrap.dedent(body), "    "))
    assert failed(found) == {"nothing is left of a round before"}


def test_what_is_declared_is_no_fault():
    uniform = total("return mean_of(states, [1] * len(states))")
    assert examined(uniform, declared="uniform").conforms
    assert examined(total("return {k: sum(s[k] for s in states) for k in states[0]}"), declared="sum").kind
    body = "{k: torch.stack([s[k] for s in states]).median(0).values for k in states[0]}"
    median = f"def aggregate(states):\n    return {body}"
    assert not examined(median).conforms
    assert examined(median, declared="median").conforms
    assert not examined(total("return states[0]"), declared="median").conforms


def test_counters_averaged_to_floats_are_a_remark(tmp_path):
    """What most people write: the mean of every entry. Loading the state casts the counter back."""
    body = "n = sum(examples)\n    return {k: sum(s[k] * e / n for s, e in zip(states, examples)) for k in states[0]}"
    (tmp_path / "plain.py").write_text(f"def aggregate(states, examples):\n    {body}\n")
    found = check(f"{tmp_path / 'plain.py'}:aggregate")
    told = {one.name: one.passed for one in found.checks}
    assert found.conforms and told["whole numbers stay whole"] is None


def test_passing_nan_on_is_a_remark():
    found = examined(RIGHT["comprehension"])
    assert next(one.passed for one in found.checks if one.name == "an upload that is not a number") is None


TRAIN = """
def steps(model, loader, lr, epochs=1):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

"""
CLIENTS = {
    "model and loader": (
        "def fit(model, loader, lr):\n    steps(model, loader, lr)\n    return model.state_dict()",
        None,
    ),
    "state and data": (
        "def fit(state, data, lr=0.1):\n    model = nn.Linear(12, 4)\n    model.load_state_dict(state)\n"
        "    steps(model, [data[:]], lr)\n    return model.state_dict(), len(data)",
        None,
    ),
    "a job's": (
        "X, Y = torch.randn(20, 12), torch.arange(20) % 4\n"
        "def init():\n    torch.manual_seed(0)\n    return nn.Linear(12, 4).state_dict()\n"
        "def fit(client, received, round):\n    model = nn.Linear(12, 4)\n    model.load_state_dict(received)\n"
        "    steps(model, [(X, Y)], 0.1)\n    return model.state_dict(), 20",
        None,
    ),
    "nothing loaded": (
        "def fit(state, data, lr):\n    model = nn.Linear(12, 4)\n    steps(model, [data[:]], lr)\n"
        "    return model.state_dict()",
        "it starts from what it received",
    ),
    "another model trained": (
        "def fit(model, loader, lr):\n    steps(copy.deepcopy(model), loader, lr)\n    return model.state_dict()",
        "it returns what it trained",
    ),
    "rate ignored": (
        "def fit(model, loader, lr):\n    steps(model, loader, 0.1)\n    return model.state_dict()",
        "it uses its rate",
    ),
    "labels ignored": (
        "def fit(model, loader, lr):\n    steps(model, [(x, 0 * y) for x, y in loader], lr)\n"
        "    return model.state_dict()",
        "it uses its data",
    ),
    "input written": (
        "def fit(state, inputs, labels, lr):\n    w = state['weight'].clone().requires_grad_()\n"
        "    F.cross_entropy(inputs @ w.T + state['bias'], labels).backward()\n"
        "    state['weight'] -= lr * w.grad\n    return state",
        "what it received is left alone",
    ),
    "buffers forgotten": (
        "def fit(model, loader, lr):\n    steps(model, loader, lr)\n    return dict(model.named_parameters())",
        "entries come back as they went",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_client_updates_are_examined(name):
    text, wrong = CLIENTS[name]
    Path("part.py").write_text(HEAD + TRAIN + text)
    found = check("part.py:fit")
    assert found.kind == "client"
    assert found.conforms if wrong is None else wrong in failed(found), found.reasons


PROX = """
def fit(model, global_model, loader, epochs, lr, mu):
    start = [p.detach().clone() for p in global_model.parameters()]
    optimizer = torch.optim.SGD(model.train().parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            distance = [p - q for p, q in zip(model.parameters(), start)]
            (F.cross_entropy(model(x), y) + TERM).backward()
            optimizer.step()
    return model.state_dict()
"""


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("mu / 2 * sum((d ** 2).sum() for d in distance)", None),
        ("mu / 2 * sum((d ** 2).sum().add(1e-12).sqrt() for d in distance)", "squared"),
        ("mu / 2 * sum((d.detach() ** 2).sum() for d in distance)", "no effect"),
        ("-mu / 2 * sum((d ** 2).sum() for d in distance)", "sign"),
    ],
)
def test_the_proximal_term_is_measured_by_differences(term, words):
    found = examined(PROX.replace("TERM", term))
    told = next(one for one in found.checks if one.name == "proximal term")
    assert told.passed is (words is None)
    assert (words or "") in told.why


@pytest.mark.parametrize("sign", [1, -1])
def test_the_control_terms_are_measured_by_differences(sign):
    found = examined(f"""
        def fit(model, loader, lr, c_global, c_local):
            for x, y in loader:
                model.zero_grad()
                F.cross_entropy(model(x), y).backward()
                with torch.no_grad():
                    for n, p in model.named_parameters():
                        p -= lr * (p.grad + {sign} * (c_global[n] - c_local[n]))
            return model.state_dict()
        """)
    assert failed(found) == (set() if sign == 1 else {"the server's control", "the client's control"})


PARTITIONERS = {
    "np.array_split(np.random.default_rng(seed).permutation(len(labels)), clients)": None,
    "np.random.default_rng(seed).integers(0, clients, len(labels))": None,
    "dict(enumerate(np.random.default_rng(seed).permutation(len(labels))[:980].reshape(7, -1)))": "no sample is lost",
    "[np.random.default_rng(seed + k).choice(len(labels), 140) for k in range(clients)]": "no sample is held twice",
    "np.array_split(np.random.default_rng(3).permutation(len(labels)), clients)": "other seed, other split",
    "np.array_split(np.random.default_rng().permutation(len(labels)), clients)": "same seed, same split",
    "[*np.array_split(np.random.default_rng(seed).permutation(len(labels)), clients - 1), []]": "no client is empty",
    "np.array_split(np.random.default_rng(seed).permutation(len(labels)), 10)": "number of clients",
}


@pytest.mark.parametrize("body", PARTITIONERS)
def test_partitioners_are_examined(body):
    found = examined(f"def deal(labels, clients, seed=0):\n    return {body}")
    wrong = PARTITIONERS[body]
    assert found.kind == "partitioner"
    assert found.conforms if wrong is None else wrong in failed(found), found.reasons


def test_a_dirichlet_deal_must_heed_its_alpha():
    body = """
        def deal(labels, clients, alpha, rng):
            y, held = np.asarray(labels), [[] for _ in range(clients)]
            for c in np.unique(y):
                rows = rng.permutation(np.flatnonzero(y == c))
                p = rng.dirichlet([ALPHA] * clients)
                for k, part in enumerate(np.split(rows, (np.cumsum(p)[:-1] * len(rows)).astype(int))):
                    held[k] += part.tolist()
            return held
        """
    assert examined(body.replace("ALPHA", "alpha")).conforms
    assert failed(examined(body.replace("ALPHA", "0.5"))) == {"skew falls as alpha grows"}


def test_a_deal_declared_iid_must_be_no_more_skewed_than_chance():
    head = "def deal(labels, clients, seed):\n    return np.array_split("
    iid = head + "np.random.default_rng(seed).permutation(len(labels)), clients)"
    by_class = head + "np.argsort(labels), clients)"
    assert examined(iid, declared="iid").conforms
    assert "skew of labels" in failed(examined(by_class, declared="iid"))


LOOP = "def score(model, loader):\n    {start}\n    for x, y in loader:\n        {each}\n    return {end}"
RIGHTS = "(model(x).argmax(1) == y).float()"
METRICS = {
    "def score(outputs, labels):\n    return (outputs.argmax(1) == labels).float().mean().item()": None,
    "def score(preds, labels):\n    return float((preds == labels).sum()) / len(labels)": None,
    "def score(y_true, y_pred):\n    return np.mean(y_true == y_pred)": None,
    "def score(outputs, labels):\n    return F.cross_entropy(outputs, labels)": None,
    "def score(outputs, labels):\n    return 100 * (outputs.argmax(1) == labels).float().mean()": None,
    "def score(outputs, labels):\n    return (outputs.argmax(1) == labels).sum().item()": "a perfect model",
    "def score(outputs, labels):\n    return (outputs.argmax(1) == labels).sum().item() / 1e4": "a perfect model",
    "def score(outputs, labels):\n    return F.cross_entropy(outputs, labels, reduction='sum')": "all examples twice",
    LOOP.format(start="c = n = 0", each=f"c += {RIGHTS}.sum().item(); n += len(y)", end="c / n"): None,
    LOOP.format(start="a = []", each=f"a.append({RIGHTS}.mean().item())", end="sum(a) / len(a)"): (
        "every example counts the same"
    ),
    LOOP.format(start="pass", each=f"a = {RIGHTS}.mean().item()", end="a"): "every example counts the same",
}


@pytest.mark.parametrize("text", METRICS)
def test_metrics_are_examined(text):
    found = examined(text)
    wrong = METRICS[text]
    assert found.kind == "metric"
    assert found.conforms if wrong is None else wrong in failed(found), found.reasons


def test_a_kind_can_be_said_and_must_be_said_where_nothing_shows_it():
    with pytest.raises(ConfigurationError, match="--kind"):
        examined("def odd(apples, pears, plums, figs, nuts):\n    raise ValueError(apples)")
    found = check("part.py:odd", kind="metric")
    assert (found.kind, found.conforms) == ("metric", False)
    with pytest.raises(ConfigurationError, match="no such kind"):
        check("part.py:odd", kind="server")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("absent.py:mean", "there is no such file"),
        ("part.py:meen", "Did you mean 'mean'"),
        ("part.py", "does not name a function"),
        ("broken.py:mean", "ZeroDivisionError"),
        ("no.such.module:mean", "ModuleNotFoundError"),
        ("part.py:NUMBER", "not a function"),
    ],
)
def test_what_is_not_there_is_told(path, words):
    Path("part.py").write_text("NUMBER = 3\ndef mean(states): return states[0]\n")
    Path("broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigurationError, match=words) as told:
        check(path)
    assert told.value.exit_code == 2


JOB = """
class Job:
    clients = cohort = rounds = 1
    def init(self): ...
    def sample(self, round): ...
    def fit(self, client, received, round): ...
    def aggregate(self, current, uploads, round): ...
    def evaluate(self, state, round): ...
def make_job(seed=0): return Job()
"""


@pytest.mark.parametrize("name", ["make_job", "Job"])
def test_a_job_is_sent_to_the_other_command(name):
    Path("part.py").write_text(JOB)
    with pytest.raises(ConfigurationError, match=f"fedlens diagnose part.py:{name}"):
        check(f"part.py:{name}")


def test_nothing_is_written_beside_the_file():
    examined(RIGHT["comprehension"])
    assert [one.name for one in Path().iterdir()] == ["part.py"]


def called(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_one_page_and_ends_with_the_verdict():
    good = called(written(RIGHT["comprehension"]))
    assert (good.exit_code, good.output.strip().splitlines()[-1]) == (0, "CONFORMS")
    bad = called(written(total("return states[0]")))
    assert bad.exit_code == 1
    assert "DOES NOT CONFORM: coefficients of the uploads: Only the first upload counts" in bad.output
    as_json = called(written(total("return states[0]")), "--json")
    assert as_json.exit_code == 1
    told = json.loads(as_json.stdout)
    assert (told["kind"], told["conforms"]) == ("aggregator", False)
    assert any(one["passed"] is False and one["why"] for one in told["checks"])
