"""What is to be run, as a person writes it: one frozen value, the same names in Python and in TOML."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fedlens.data import Data, check_source
from fedlens.engine import AnySelection, Engine, Network, Uniform
from fedlens.errors import ConfigurationError, nearest
from fedlens.local import AnyAttack, Local
from fedlens.local.attack import SignFlip
from fedlens.local.private import PerExample
from fedlens.methods import METHODS, Method, Transfer, fedavg
from fedlens.models import MODELS, Model
from fedlens.models.halves import HALVES
from fedlens.partition import IID, AnyPartition
from fedlens.server import AnyMechanism, Communication, Mean, Server
from fedlens.settings import Count, Fraction, settings


@settings
class Clients:
    """Who takes part: `count` clients (K), `cohort` of them a round (m), and how the examples are dealt to them.

    `holdout`: this part of every client's examples is kept for a local test, stratified and shuffled.
    `on_failure`: what a client whose training diverges does to the run; "skip" leaves it out of that round and says so.
    `attackers` clients, drawn once from the seed, `attack` in every round that they take part in. `selection`: which of
    the clients that can be reached make up a cohort.
    """

    count: Count = 100
    cohort: Count = 10
    partition: AnyPartition = IID()
    holdout: Fraction = 0.0
    on_failure: Literal["stop", "skip"] = "stop"
    attackers: Annotated[int, Field(ge=0, strict=True)] = 0
    attack: AnyAttack = SignFlip()
    selection: AnySelection = Uniform()

    @model_validator(mode="after")
    def _attackers_are_some(self) -> Clients:
        if self.attackers >= self.count:
            raise ValueError(f"attackers = {self.attackers} leaves no honest client; lower clients.attackers")
        return self

    @model_validator(mode="after")
    def _cohort_fits(self) -> Clients:
        if self.cohort > self.count:
            raise ValueError(
                f"cohort = {self.cohort} exceeds count = {self.count}; lower clients.cohort, or raise clients.count"
            )
        return self


@settings
class References:
    """What the run is measured against, each at a stated budget.

    centralised: the same model on the pooled examples, as many samples in the same batches. centralised_depth: as many
    sequential steps as one client chain makes (1/m of the samples). iid: the same examples dealt again, same sizes, but
    IID. local_only: this many clients each training alone, as many epochs as they take part in on average.
    """

    centralised: bool = True
    centralised_depth: bool = False
    iid: bool = False
    local_only: Annotated[int, Field(ge=0, strict=True)] = 0


@settings
class Privacy:
    """What is done so that a model says little of any one client, or example. It costs accuracy; what it buys, an
    accountant has to say.

    `mechanism`: bounds each client's upload, and adds noise to the sum of them or, without trust in a server, at the
    client. `per_example`: bounds each example's gradient at the clients and adds noise to every step (DP-SGD).
    """

    mechanism: AnyMechanism | None = None
    per_example: PerExample | None = None


def _method(value: Any) -> Any:
    if isinstance(value, Method):
        return value
    value = {"name": value} if isinstance(value, str) else value
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError('a method is a name or a table with a name; write for example name = "fedavg"')
    name, given = value["name"], {key: item for key, item in value.items() if key != "name"}
    if name not in METHODS:
        guess = nearest(name, METHODS)
        raise ValueError(f"no method '{name}'; " + (f"Did you mean '{guess}'?" if guess else _one_of(METHODS)))
    known = inspect.signature(METHODS[name]).parameters
    for key in given:
        if key not in known:
            guess = nearest(key, known)
            takes = _one_of(known) if known else f"{name} takes no settings."
            raise ValueError(f"'{key}' is not a setting of {name}; " + (f"Did you mean '{guess}'?" if guess else takes))
        wants_text = isinstance(known[key].default, str)
        if wants_text and not isinstance(given[key], str):
            raise ValueError(f"{key} = {given[key]!r} is not a text; set for example {key} = '{known[key].default}'")
        if not wants_text and (isinstance(given[key], bool) or not isinstance(given[key], int | float)):
            raise ValueError(f"{key} = {given[key]!r} is not a number; set for example {key} = 0.1")
    return METHODS[name](**given)


def _one_of(names: Any) -> str:
    return "One of: " + ", ".join(names) + "."


def _known_source(data: Data) -> Data:
    try:
        check_source(data.source)
    except ConfigurationError as error:
        raise ValueError(f"{error.problems[0].what}: {data.source!r}; {error.problems[0].do}") from None
    return data


def _known_model(model: Model) -> Model:
    if model.name not in (*MODELS, *HALVES) and ":" not in model.name:
        guess = nearest(model.name, MODELS)
        do = f"Did you mean '{guess}'?" if guess else _one_of(MODELS)
        raise ValueError(f"there is no model '{model.name}'; {do}")
    return model


@settings
class Experiment:
    """One federated training run and what it is compared with. `rounds` are communication rounds (T)."""

    name: str = "experiment"
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    rounds: Count = 100
    evaluate_every: Count = 1
    data: Annotated[Data, AfterValidator(_known_source)] = Data()
    clients: Clients = Clients()
    model: Annotated[Model, AfterValidator(_known_model)] = Model()
    local: Local = Local()
    method: Annotated[Method, BeforeValidator(_method)] = fedavg()
    server: Server = Server()
    communication: Communication = Communication()
    network: Network = Network()
    privacy: Privacy = Privacy()
    references: References = References()
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _method_accepts_the_local_work(self) -> Experiment:
        self.method.check(self.local)
        return self

    @model_validator(mode="after")
    def _personal_models_can_be_measured(self) -> Experiment:
        if self.method.personal and not self.clients.holdout:
            raise ValueError(
                f"{self.method.name} gives each client a model of its own, which is measured on the client's own "
                "hold-out; set clients.holdout, for example 0.2"
            )
        return self

    @model_validator(mode="after")
    def _reducer_suits_cohort_and_method(self) -> Experiment:
        rule = self.server.reduce
        rule.check(self.clients.cohort)
        if isinstance(rule, Mean):
            return self
        if isinstance(self.method, Transfer) or self.method.uploads != {"update"}:
            raise ValueError(
                f"{self.method.name} sends more than its update, which {rule.kind} would not protect; "
                'set server.reduce = "mean", or a method such as fedavg or fedprox'
            )
        return self

    @model_validator(mode="after")
    def _a_mean_of_models_is_a_model(self) -> Experiment:
        if self.server.average_from is not None and not self.method.one_model:
            raise ValueError(
                f"with {self.method.name} the server has no whole model to average; leave server.average_from out"
            )
        return self

    @model_validator(mode="after")
    def _knowledge_transfer_has_two_halves(self) -> Experiment:
        name, halves = self.method.name, ", ".join(HALVES)
        if not isinstance(self.method, Transfer):
            if self.model.name in HALVES:
                raise ValueError(f"'{self.model.name}' is two networks; set method.name = \"fedgkt\", or another model")
            return self
        if self.model.name not in HALVES:
            raise ValueError(f"{name} needs a client's and a server's half; set model.name to one of: {halves}")
        for_updates = {
            "model.start": self.model.start is None,
            "model.freeze": not self.model.freeze,
            "clients.attackers": self.clients.attackers == 0,
            "clients.holdout": self.clients.holdout == 0,
            "clients.selection": self.clients.selection == Uniform(),
            "server.average_from": self.server.average_from is None,
            "server.statistics": self.server.statistics == "average",
            "communication": self.communication == Communication(),
            "engine.kind": self.engine.kind in ("auto", "sequential"),
            "network": self.network == Network(),
            "privacy": self.privacy == Privacy(),
        }
        if given := [key for key, absent in for_updates.items() if not absent]:
            raise ValueError(f"{name} sends no updates, which {given[0]} is made for; leave {' and '.join(given)} out")
        return self

    @model_validator(mode="after")
    def _selection_suits_the_cohort(self) -> Experiment:
        self.clients.selection.check(self.network.invited(self.clients.cohort))
        return self

    @model_validator(mode="after")
    def _sensitivity_is_bounded(self) -> Experiment:
        mechanism, single = self.privacy.mechanism, self.privacy.per_example
        if mechanism is not None:
            mechanism.check(self.clients.cohort)
            if self.server.weights != "uniform" or not isinstance(self.server.reduce, Mean):
                raise ValueError(
                    f"{mechanism.kind} bounds what one client adds to a plain sum; "
                    'set server.weights = "uniform" and server.reduce = "mean"'
                )
            if self.method.name in ("fednova", "fedexp"):
                raise ValueError(
                    f"{self.method.name} also sends a number of another size, which would take up the bound of "
                    f"{mechanism.kind}; choose another method, such as fedavg or scaffold"
                )
        if single is not None and self.method.loss is not None:
            raise ValueError(
                f"{self.method.name} looks at the client's other examples in its loss, so that no single example's "
                "part is bounded; choose a method with the plain loss, such as fedavg"
            )
        return self

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a TOML file; what is None is left out."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["method"] = {"name": self.method.name, **self.method.settings}
        return {key: _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: _plain(item) for name, item in pairs if item is not None}
    return list(value) if isinstance(value, tuple) else value
