"""The contract of anybody's federated job: what its author wrote, and what its author says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

from torch import Tensor, nn

State = Mapping[str, Tensor]
OPTIONAL = ("model", "loss", "train_data", "test_data", "log")
OTHER_NAMES = {"momentum": "server_momentum", "local": "local_entries", "learning_rate": "lr", "batch_size": "batch"}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the author says the job does: declared behaviour is never called a fault. None: nothing is said.

    `weighting`: of clients in the mean, by their examples or uniform. `reduce`: mean, median, trimmed-mean, krum or
    another rule. `server_lr`, `server_optimizer`, `server_momentum`: the step that the server makes of the mean update.
    `payload`: whether uploads are weights or updates. `local_entries`: beginnings of the names of entries that stay at
    clients; `frozen`: of entries that nobody trains. `stateful`: clients keep more than that between rounds.

    `dp`: "clip" (L2 bound of an update) and "noise" (standard deviation of the noise on the sum of updates, in units of
    clip). `codec`: how uploads are compressed. `min_clients`: with fewer a round is void. `method`, `mu`, `optimizer`,
    `lr`, `batch`, `epochs`, `steps`: the local work. `metric`: what `evaluate` reports, on what; `test_size`: on how
    many examples. `partition`: how the data was dealt, for instance "iid" or "dirichlet:0.5".
    """

    weighting: Literal["examples", "uniform"] | None = None
    reduce: str = "mean"
    server_lr: float = 1.0
    server_optimizer: str = "sgd"
    server_momentum: float = 0.0
    payload: Literal["weights", "update"] | None = None
    local_entries: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    stateful: bool = False
    dp: Mapping[str, float] = field(default_factory=dict)
    codec: str | None = None
    min_clients: int | None = None
    method: str | None = None
    mu: float | None = None
    optimizer: str | None = None
    lr: float | None = None
    batch: int | None = None
    epochs: float | None = None
    steps: int | None = None
    metric: str | None = None
    test_size: int | None = None
    partition: str | None = None
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: Any) -> Declared:
        """`said` is a Declared, a mapping, or any object with such attributes; what is not understood is `unknown`."""
        if isinstance(said, Declared):
            return said
        given = dict(said) if isinstance(said, Mapping) else dict(getattr(said, "__dict__", {}))
        named = {OTHER_NAMES.get(key, key): value for key, value in given.items()}
        known = {one.name for one in fields(cls)} - {"unknown"}
        taken = {key: value for key, value in named.items() if key in known and value is not None}
        for key in ("local_entries", "frozen"):
            if isinstance(taken.get(key), str):
                taken[key] = (taken[key],)
            elif key in taken:
                taken[key] = tuple(taken[key])
        if not isinstance(taken.get("dp", {}), Mapping):
            taken["dp"] = {name: getattr(taken["dp"], name) for name in ("clip", "noise") if hasattr(taken["dp"], name)}
        return cls(**taken, unknown=tuple(sorted(named.keys() - known)))

    def stays(self, name: str) -> bool:
        """Whether the entry `name` is declared to stay at clients."""
        return any(name.startswith(beginning) for beginning in self.local_entries)

    @property
    def plain_server(self) -> bool:
        """Whether the new model is declared to be the old one plus server_lr times the mean update."""
        return self.reduce == "mean" and self.server_optimizer == "sgd" and not self.server_momentum


@dataclass(frozen=True)
class Upload:
    """What a client sends. `state`: weights, or the update, by name; `examples`: n_i; `metrics`: what it says of
    itself."""

    state: State
    examples: float
    metrics: Mapping[str, float] = field(default_factory=dict)


class Job(Protocol):
    """A federated job as its author wrote it, called by the doctor instead of by the author's own loop.

    A state is a mapping of names to tensors (arrays and lists of arrays in the order of `init` are read too); an upload
    is an Upload, a tuple (state, examples) or (state, examples, metrics), or any object with such attributes.
    `declared` is a Declared, a mapping with its names, or absent.

    Optional, each opens more examinations: `model() -> Module` (the network that states belong to), `loss(outputs,
    labels)`, `train_data(client) -> (inputs, labels)` as the client's training sees them, `test_data() -> (inputs,
    labels)`, and `log`: what the job printed, as text, numbers or rows.
    """

    clients: int
    cohort: int
    rounds: int
    classes: int
    declared: Declared

    def init(self) -> State:
        """The model before the first round."""

    def sample(self, round: int) -> Sequence[int]:
        """The clients of `round`, numbered from 0."""

    def fit(self, client: int, received: State, round: int) -> Upload:
        """Run the author's client code."""

    def aggregate(self, current: State, uploads: Sequence[Upload], round: int) -> State:
        """The next model."""

    def evaluate(self, state: State, round: int) -> Mapping[str, float]:
        """What the author reports of `state`."""


class WithModel(Protocol):
    """The optional part of a Job that names its network."""

    def model(self) -> nn.Module:
        """A network whose state_dict has the job's entries."""
