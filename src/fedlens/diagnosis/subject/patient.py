"""A job under examination: every call of its author's code is guarded, timed and read into one form."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.diagnosis.evidence import Entry, Facts
from fedlens.diagnosis.evidence.facts import ONE_A_GROUP
from fedlens.diagnosis.job import OPTIONAL, Declared, State, Upload
from fedlens.diagnosis.origins.trace import Trace
from fedlens.diagnosis.subject.copies import Original, original
from fedlens.diagnosis.subject.forms import Unreadable, read_state, read_upload, write_state, write_upload
from fedlens.diagnosis.subject.guard import Ailing, Drawn, drawn_so_far, guarded, line_of, redrawn, seeded
from fedlens.errors import ConfigurationError

PATIENCE = 120.0  # seconds that one call of the author's code may take
SLOW = 0.5  # seconds; a job that takes longer to make is copied instead of made again, whatever it is
QUICK = 0.01  # seconds; a job that takes no longer is always made again
STAGES = ("init", "sample", "fit", "aggregate", "evaluate")


class Sent(NamedTuple):
    """An upload as read, as its author made it, and the seconds it took."""

    upload: Upload
    raw: Any
    seconds: float


class Subject:
    """A job that can be had anew, so that no examination sees what another left behind.

    `make` returns a fresh job, from `seed` if it takes one; `name` is how the page calls it; `patience` seconds for a
    call.
    """

    def __init__(self, make: Callable[..., Any], name: str, patience: float = PATIENCE) -> None:
        self.make, self.name, self.patience = make, name, patience
        self.kept: dict[int, tuple[Original, Drawn]] = {}
        self.trace: Trace | None = None

    def fresh(self, seed: int = 0) -> Patient:
        """A new job, made under the same random state every time; another one by `seed`."""
        with guarded("make", self.name, self.patience):
            if seed in self.kept:
                kept, drawn = self.kept[seed]
                made = kept.copy().job
                redrawn(drawn)  # as it was after making: `init` may draw from it
                return Patient(made, self.patience, seed)
            seeded(seed)
            began = time.perf_counter()
            takes_seed = "seed" in inspect.signature(self.make).parameters
            with self._heard():
                made = self.make(seed=seed) if takes_seed else self.make()
            self._keep(seed, made, time.perf_counter() - began)
            return Patient(made, self.patience, seed)

    def _keep(self, seed: int, made: Any, seconds: float) -> None:
        """Keep a copy of what took `seconds` to make, where copying is quicker and as good, or making is slow."""
        whole = original(made) if seconds > QUICK else None
        if whole is None and not seconds > SLOW:
            return
        drawn, began = drawn_so_far(), time.perf_counter()
        with suppress(Exception):  # what cannot be copied is made again
            kept = (whole or Original(made)).copy()
            if seconds > SLOW or time.perf_counter() - began < seconds / 2:
                self.kept[seed] = kept, drawn
        redrawn(drawn)

    def _heard(self) -> AbstractContextManager[None]:
        """The first making is listened to: `trace`."""
        if self.trace is not None:
            return nullcontext()
        self.trace = Trace()
        return self.trace.listening()


class Patient:
    """One fresh job. States are dicts of tensors here; the author's functions get the form that `init` returned."""

    def __init__(self, job: Any, patience: float = PATIENCE, seed: int = 0) -> None:
        missing = [stage for stage in STAGES if not callable(getattr(job, stage, None))]
        numbers = {name: _whole(getattr(job, name, None)) for name in ("clients", "cohort", "rounds", "classes")}
        missing += [name for name in ("clients", "cohort", "rounds") if numbers[name] is None]
        if missing:
            do = "See fedlens.Job: five functions, and clients, cohort and rounds as whole numbers."
            raise ConfigurationError("this is no job", where=type(job).__name__, seen=f"no {', '.join(missing)}", do=do)
        self.job, self.patience, self.seed = job, patience, seed
        self.broken: set[str] = set()  # optional parts that failed when they were first tried
        self.declared = Declared.of(getattr(job, "declared", None))
        self.clients, self.cohort, self.rounds = (numbers[name] or 0 for name in ("clients", "cohort", "rounds"))
        self.classes = numbers["classes"]

    def offers(self, name: str) -> bool:
        """Whether the job has the optional part `name`."""
        return name in OPTIONAL and name not in self.broken and getattr(self.job, name, None) is not None

    @cached_property
    def _first(self) -> Any:
        with guarded("init", "", self.patience):
            return self.job.init()

    @cached_property
    def init(self) -> dict[str, Tensor]:
        """The model before the first round, by name."""
        with guarded("init", "", self.patience):
            return read_state(self._first, self._names)

    @cached_property
    def _names(self) -> Sequence[str]:
        """What a job that speaks in lists calls its arrays: as its network does."""
        if isinstance(self._first, Mapping | nn.Module) or not self.offers("model"):
            return ()
        network = self.model()
        every, trained = list(network.state_dict()), [name for name, _ in network.named_parameters()]
        return next((names for names in (every, trained) if len(names) == len(self._first)), ())

    @property
    def names(self) -> tuple[str, ...]:
        """The entries of a state, in order."""
        return tuple(self.init)

    def sample(self, round: int) -> tuple[int, ...]:
        """The clients of `round`, from 1 on, as the author's code draws them."""
        seeded(self.seed, round)
        with guarded("sample", f"round {round}", self.patience):
            return tuple(int(client) for client in self.job.sample(round))

    def fit(self, client: int, received: State, round: int, *, seed: bool = True) -> Sent:
        """One visit. Global random state depends on (round, client) alone, unless not `seed`."""
        given = self.written(received)  # before seeding: it may be the first call of the author's init
        if seed:
            seeded(self.seed, round, client)
        with guarded("fit", f"round {round}, client {client}", self.patience):
            began = time.perf_counter()
            raw = self.job.fit(client, given, round)
            seconds = time.perf_counter() - began
            return Sent(read_upload(raw, self.names).upload, raw, seconds)

    def aggregate(self, current: State, sent: Sequence[Sent], round: int) -> dict[str, Tensor]:
        """The next model, by the author's own uploads."""
        given = self.written(current)
        seeded(self.seed, round, 2**20)
        with guarded("aggregate", f"round {round}", self.patience):
            return read_state(self.job.aggregate(given, [one.raw for one in sent], round), self.names)

    def sent(self, upload: Upload, like: Any) -> Sent:
        """A made-up upload in the form of `like`, one of the author's."""
        with guarded("fit", "", self.patience):
            return Sent(upload, write_upload(upload, like), 0.0)

    def evaluate(self, state: State, round: int) -> dict[str, float]:
        """What the author reports of `state`; a bare number is called "accuracy"."""
        given = self.written(state)
        seeded(self.seed, round, 2**20 + 1)
        with guarded("evaluate", f"round {round}", self.patience):
            told = self.job.evaluate(given, round)
            if isinstance(told, tuple | list) and told and isinstance(told[-1], Mapping):  # (loss, metrics), as Flower
                told = {"loss": told[0], **told[-1]}
            told = told if isinstance(told, Mapping) else {"accuracy": told}
            return {str(key): float(value) for key, value in told.items() if _is_number(value)}

    def model(self) -> nn.Module:
        """The author's network, untouched."""
        seeded(self.seed)
        with guarded("model", "", self.patience):
            made = self.job.model() if not isinstance(self.job.model, nn.Module) else self.job.model
            if not isinstance(made, nn.Module):
                raise Unreadable(f"a {type(made).__name__} where a torch.nn.Module should stand")
            return made

    def network(self, state: State) -> nn.Module:
        """The author's network with the entries of `state`; what the state lacks stays as it was."""
        module = self.model()
        with guarded("model", "loading a state", self.patience):
            module.load_state_dict({n: v.clone() for n, v in state.items()}, strict=False)
        return module

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The author's loss; cross-entropy where the job has none."""
        if not self.offers("loss"):
            return nn.functional.cross_entropy(outputs, labels)
        found: Tensor = self.job.loss(outputs, labels)
        return found

    def train_data(self, client: int) -> tuple[Tensor, Tensor]:
        """A client's inputs and labels as its training sees them."""
        with guarded("train_data", f"client {client}", self.patience):
            return _pair(self.job.train_data(client))

    def test_data(self) -> tuple[Tensor, Tensor]:
        """The test inputs and labels as evaluation sees them."""
        with guarded("test_data", "", self.patience):
            return _pair(self.job.test_data())

    def written(self, state: State) -> Any:
        """`state` in the form of the author's `init`, in memory of its own."""
        return write_state(state, self._first)

    def facts(self, payload: str | None = None) -> Facts:
        """What is known without running anything."""
        buffers = norms = None
        if self.offers("model"):
            try:
                module = self.model()
                buffers, norms = {name for name, _ in module.named_buffers()}, norms_of(module)
            except Ailing:
                self.broken.add("model")
        entries = {name: _entry(name, value, buffers) for name, value in self.init.items()}
        offers = frozenset(name for name in OPTIONAL if self.offers(name))
        where = {stage: line_of(getattr(self.job, stage)) for stage in (*STAGES, *({"model"} & offers))}
        said = self.declared.payload or payload
        return Facts(
            clients=self.clients,
            cohort=self.cohort,
            rounds=self.rounds,
            classes=self.classes,
            declared=self.declared,
            entries=entries,
            offers=offers,
            payload=said,  # type: ignore[arg-type]
            norms=norms,
            where=where,
        )


def _whole(value: Any) -> int | None:
    """`value` as a whole number, whatever its type; None: it is none."""
    try:
        return int(value) if not isinstance(value, str | bool) and int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or (
        isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1
    )


def _pair(given: Any) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a pair, a data set or a loader."""
    if isinstance(given, tuple | list) and len(given) == 2:
        return _array(given[0]), _array(given[1])
    if isinstance(given, Mapping) and len(given) >= 2:
        first, second = list(given.values())[:2]
        return _array(first), _array(second)
    if isinstance(given, torch.utils.data.DataLoader):
        given = given.dataset
    if hasattr(given, "__len__") and hasattr(given, "__getitem__"):
        rows = [given[position] for position in range(len(given))]
        return torch.stack([_array(row[0]) for row in rows]), torch.stack([_array(row[1]) for row in rows])
    raise Unreadable(f"a {type(given).__name__} where (inputs, labels) should stand")


def _array(value: Any) -> Tensor:
    return value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.asarray(value))


def _entry(name: str, value: Tensor, buffers: set[str] | None) -> Entry:
    shape, dtype = tuple(value.shape), str(value.dtype).removeprefix("torch.")
    if not value.is_floating_point():
        return Entry(shape, dtype, "counter")
    told = name.endswith(("running_mean", "running_var")) if buffers is None else name in buffers
    return Entry(shape, dtype, "statistic" if told else "parameter")


def norms_of(module: nn.Module) -> dict[str, int]:
    """How many norm layers of each kind a network has."""
    kinds = [ONE_A_GROUP if _channel_by_channel(part) else type(part).__name__ for part in module.modules()]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds) if "Norm" in kind}


def _channel_by_channel(part: nn.Module) -> bool:
    return isinstance(part, nn.GroupNorm) and part.num_groups == part.num_channels > 1
