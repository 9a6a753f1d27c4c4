"""Client updates alone: they start from what they receive, train it on their data at their rate, and return it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedlens.diagnosis.conformance.calling import Binding, bindings, called, first_that_works, short, words
from fedlens.diagnosis.conformance.load import Component
from fedlens.diagnosis.conformance.result import Check
from fedlens.diagnosis.conformance.terms import terms
from fedlens.diagnosis.subject.forms import Unreadable, read_state
from fedlens.diagnosis.subject.guard import Ailing, guarded, seeded

SAMPLES, FEATURES, CLASSES, RATE = 32, 12, 4, 0.1
ROLES = {
    "model": words("model net network local_model client_model module"),
    "state": words("state weights params parameters received global_state global_weights w w_global state_dict"
                   " initial start global_params"),
    "global": words("global_model server_model"),
    "loader": words("loader dataloader train_loader trainloader data_loader train_dataloader"),
    "data": words("data dataset train_data trainset train_set ds examples local_data shard"),
    "inputs": words("x xs inputs features images x_train"),
    "labels": words("y ys labels targets y_train"),
    "client": words("client client_id cid idx user i k"),
    "round": words("round rnd server_round t r"),
    "rate": words("lr learning_rate eta step_size local_lr"),
    "epochs": words("epochs local_epochs e n_epochs num_epochs local_ep steps local_steps"),
    "batch": words("batch batch_size bs b local_bs"),
    "mu": words("mu prox_mu proximal_mu lam lambda"),
    "ours": words("c_local c_i client_control local_control ci c_client"),
    "theirs": words("c_global c server_control global_control control c_server"),
    "device": words("device dev"),
    "loss": words("criterion loss_fn loss loss_func loss_function"),
    "optimizer": words("optimizer opt optim"),
    "seed": words("seed"),
}  # fmt: skip
WORDS = frozenset().union(*(ROLES[one] for one in ROLES if one not in ("batch", "device", "seed")))
TEMPLATES = (
    ("client", "state", "round"), ("model", "loader"), ("model", "data"), ("state", "data"), ("state", "inputs",
    "labels"), ("model", "inputs", "labels"), ("model", "loader", "rate"), ("model", "loader", "epochs", "rate"),
    ("state", "loader"), ("model", "state", "loader"), ("model", "state", "data"),
)  # fmt: skip
FORMS = ("tensors", "pair", "arrays")
NETWORKS = ("perceptron", "linear")


@dataclass(frozen=True)
class Setting:
    """What one call is given; the rest of it is always the same."""

    state: Mapping[str, Tensor]
    data: tuple[Tensor, Tensor]
    rate: float = RATE
    epochs: int = 1
    mu: float = 0.0
    ours: float = 0.0
    theirs: float = 0.0


class Visit(NamedTuple):
    """What came back, by name, and whether the received state was written to."""

    state: Mapping[str, Tensor]
    wrote: bool


class _Way(NamedTuple):
    binding: Binding
    form: str
    network: str

    @property
    def words(self) -> str:
        return f"f({', '.join(self.binding.values())}), states as {self.form}, a {self.network}"


def examine(component: Component, declared: str | None) -> tuple[str, tuple[Check, ...]]:
    """How it was called and what it does; Ailing where it returns no state."""
    attempts: list[Callable[[], tuple[_Way, Visit]]] = []
    for _, binding in bindings(component.names, ROLES, TEMPLATES):
        if not {"model", "state"} & set(binding.values()):
            continue
        for form in FORMS:
            for network in NETWORKS if component.beside("init") is None else ("model of its file's init()",):
                way = _Way(binding, form, network)
                attempts.append(partial(_first_visit, component, way))
    way, first = first_that_works(attempts)
    base = _setting(component, way)
    roles = set(way.binding.values())

    def run(setting: Setting) -> Visit:
        return _visit(component, way, setting)

    moved = _apart(first.state, base.state)
    checks = [
        _starts(run, base, first),
        Check("it returns what it trained", moved > 0 and _finite(first.state), f"moved by {short(moved)}", "a change",
              "" if moved > 0 else "What comes back is what it received: another model was trained, or nothing."),
        _entries(first, base),
        Check("what it received is left alone", None if first.wrote and "state" not in roles else not first.wrote,
              "written to" if first.wrote else "untouched", "untouched",
              "Load a copy: the server and other clients hold the same tensors." if first.wrote else ""),
        _repeats(run, base, first),
    ]  # fmt: skip
    if roles & {"data", "loader", "inputs"}:
        checks += [_uses_data(run, base, first), _learns(way, base, first)]
    if "rate" in roles:
        checks += _rates(run, base, first)
    return way.words, (*checks, *terms(run, base, roles))


def _first_visit(component: Component, way: _Way) -> tuple[_Way, Visit]:
    return way, _visit(component, way, _setting(component, way))


def _network(kind: str) -> nn.Module:
    seeded(4)
    if kind == "linear":
        return nn.Linear(FEATURES, CLASSES)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


def _setting(component: Component, way: _Way) -> Setting:
    draw = torch.Generator().manual_seed(9)
    labels = torch.arange(SAMPLES) % CLASSES
    inputs = torch.randn(SAMPLES, FEATURES, generator=draw) + 2 * nn.functional.one_hot(labels, FEATURES)
    if way.network in NETWORKS:
        state = _network(way.network).state_dict()
    else:
        with guarded("init", "", 30.0):
            state = read_state(component.beside("init")())  # type: ignore[assignment]
    return Setting({name: value.clone() for name, value in state.items()}, (inputs, labels))


def _visit(component: Component, way: _Way, setting: Setting) -> Visit:
    function = component.fresh(0)
    names = tuple(setting.state)
    given = _given(way, setting)
    values = {name: given[role] for name, role in way.binding.items()}
    seeded(1)
    raw = called(function, component.names, values, "fit")
    with guarded("fit", "", 0):
        state = _returned(raw, given, names)
        if not any(name in state and state[name].shape == setting.state[name].shape for name in names):
            raise Unreadable("no entry of the model is in what it returned")
        held = given["state"] if "state" in way.binding.values() else given["global"]
        kept = read_state(held, names)
    return Visit(state, any(not torch.equal(kept[name], setting.state[name]) for name in names))


def _given(way: _Way, setting: Setting) -> dict[str, Any]:
    state = {name: value.clone() for name, value in setting.state.items()}
    inputs, labels = (one.clone() for one in setting.data)
    written: Any = [value.numpy() for value in state.values()] if way.form == "arrays" else state
    given: dict[str, Any] = {
        "state": written, "inputs": inputs, "labels": labels, "client": 0, "round": 1, "rate": setting.rate,
        "data": (inputs, labels) if way.form == "pair" else TensorDataset(inputs, labels), "epochs": setting.epochs,
        "loader": DataLoader(TensorDataset(inputs, labels), batch_size=SAMPLES), "batch": SAMPLES, "mu": setting.mu,
        "device": "cpu", "loss": nn.CrossEntropyLoss(), "seed": 0, "model": None, "global": state, "optimizer": None,
    }  # fmt: skip
    if way.network in NETWORKS:
        given["model"], given["global"] = _network(way.network), _network(way.network)
        given["model"].load_state_dict(state)
        given["global"].load_state_dict(state)
        given["optimizer"] = torch.optim.SGD(given["model"].parameters(), lr=setting.rate)
        trained = {name for name, _ in given["model"].named_parameters()}
        for role, height in (("ours", setting.ours), ("theirs", setting.theirs)):
            controls = {n: torch.full_like(v, height) for n, v in state.items() if n in trained}
            given[role] = list(controls.values()) if way.form == "arrays" else controls
    return given


def _returned(raw: Any, given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Tensor]:
    """The state in what came back; where nothing did, that of the model that was given."""
    if raw is None or isinstance(raw, int | float) or (isinstance(raw, Tensor) and raw.dim() == 0):
        trained = {} if given["model"] is None else read_state(given["model"])
        still = {} if given["model"] is None else dict(given["global"].named_parameters())
        if not trained or (raw is not None and all(torch.equal(trained[name], still[name]) for name in still)):
            raise Unreadable(f"a {type(raw).__name__} where a state should stand")
        return trained
    if isinstance(raw, tuple) and raw and isinstance(raw[0], Mapping | nn.Module | list):
        raw = raw[0]
    if isinstance(raw, Mapping) and not set(names) & set(raw):
        raw = next((one for one in raw.values() if isinstance(one, Mapping | list | nn.Module)), raw)
    if isinstance(raw, tuple) or (isinstance(raw, list) and len(raw) != len(names)):
        raise Unreadable(f"a {type(raw).__name__} where a state should stand")
    return read_state(raw, names)


def _starts(run: Callable[[Setting], Visit], base: Setting, first: Visit) -> Check:
    """Whether the result follows what was sent: ||f(w') - f(w)|| / ||w' - w|| is about 1 if it does, else 0."""
    draw = torch.Generator().manual_seed(2)
    floats = [n for n, v in base.state.items() if v.is_floating_point() and "running" not in n]
    near = {
        n: v + 0.01 * torch.randn(v.shape, generator=draw) if n in floats else v.clone() for n, v in base.state.items()
    }
    followed = _apart(run(replace(base, state=near)).state, first.state) / max(_apart(near, base.state), 1e-30)
    told = f"its result follows by {followed:.2f} of a change"
    why = "" if followed > 0.3 else "The received weights are not loaded before training."
    return Check("it starts from what it received", followed > 0.3, told, "about 1", why)


def _entries(first: Visit, base: Setting) -> Check:
    odd = [f"{name} is missing" for name in base.state if name not in first.state]
    odd += [f"{name} is new" for name in first.state if name not in base.state]
    shared = [name for name in base.state if name in first.state]
    odd += [f"{n}: another shape" for n in shared if first.state[n].shape != base.state[n].shape]
    odd += [f"{n}: {first.state[n].dtype}" for n in shared if first.state[n].dtype != base.state[n].dtype]
    why = "" if not odd else "Return the whole state_dict: buffers too."
    return Check("entries come back as they went", not odd, ", ".join(odd[:3]) or "all", "all", why)


def _repeats(run: Callable[[Setting], Visit], base: Setting, first: Visit) -> Check:
    again = _apart(run(base).state, first.state)
    return Check("the same twice, random states set", True if again == 0 else None, f"differs by {short(again)}", "0")


def _uses_data(run: Callable[[Setting], Visit], base: Setting, first: Visit) -> Check:
    inputs, labels = base.data
    apart = [
        _apart(run(replace(base, data=(inputs, labels.roll(1)))).state, first.state),
        _apart(run(replace(base, data=(inputs.flip(1), labels))).state, first.state),
    ]
    told = f"other labels change it by {short(apart[0])}, other inputs by {short(apart[1])}"
    right = min(apart) > 0
    return Check("it uses its data", right, told, "both change it", "" if right else "It trains on something else.")


def _learns(way: _Way, base: Setting, first: Visit) -> Check:
    name, wanted = "it lowers the loss on its data", "less"
    if way.network not in NETWORKS:
        return Check(name, None, "untried with a model of its own", wanted)
    before, after = (_loss(way.network, state, base.data) for state in (base.state, first.state))
    why = "" if after < before else "It goes uphill, or its rate is far too large."
    return Check(name, after < before, f"{before:.3f} before, {after:.3f} after", wanted, why)


def _loss(kind: str, state: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> float:
    network = copy.deepcopy(_network(kind))
    network.load_state_dict({n: v for n, v in state.items() if n in network.state_dict()}, strict=False)
    with torch.no_grad():
        return float(nn.functional.cross_entropy(network.train()(data[0]), data[1]))


def _rates(run: Callable[[Setting], Visit], base: Setting, first: Visit) -> list[Check]:
    try:
        still = _apart(run(replace(base, rate=0.0)).state, base.state)
    except Ailing:  # some optimisers refuse a rate of 0
        still = 0.0
    double = _apart(run(replace(base, rate=2 * RATE)).state, base.state) / max(_apart(first.state, base.state), 1e-30)
    right = double > 1.2 and still < 1e-6
    why = "" if right else "The rate that it is given is not the one that it steps with."
    told = f"twice the rate moves it {double:.2f} times as far, none {short(still)}"
    return [Check("it uses its rate", right, told, "about 2 times; 0", why)]


def _finite(state: Mapping[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point())


def _apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """||one - other|| over the parameters that both hold, as their names show."""
    names = [n for n, v in other.items() if n in one and v.is_floating_point() and "running" not in n]
    squares = (
        float((one[n].double() - other[n].double()).square().sum()) for n in names if one[n].shape == other[n].shape
    )
    return float(sum(squares) ** 0.5)
