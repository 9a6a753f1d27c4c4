"""The contract of a method: a value of pure functions over flat vectors.

Every vector holds the T parameters that clients train, [..., T]: one client [T], or a cohort of them [C, T]. A method
never meets running statistics, frozen parameters or integer buffers; the engine averages or copies those alike for
all methods. Functions use arithmetic, and reductions over the last dimension that keep it ([..., 1]); they never branch
on a tensor's value. The same function then serves one client, a batched cohort and a worker on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedlens.local.settings import Local
from fedlens.tree import Slot

Vectors = Mapping[str, Tensor]
Weighting = Literal["server", "uniform"]
First = float | Literal["model"]


@dataclass(frozen=True)
class Client:
    """What a client knows while it trains.

    `start` [..., T]: the weights it set out from. `received`: the server's memory, as it was sent along. `memory`: what
    the client kept from its last visit. `rate`: its learning rate. `reach`: by how much its steps would have moved the
    weights at rate 1 under a gradient of ones, ||a_i||_1 of Wang et al. 2020: the number of steps K_i for plain SGD.
    """

    start: Tensor
    received: Vectors
    memory: Vectors
    rate: float | Tensor
    reach: float | Tensor


class Answers(NamedTuple):
    """What a model says of a batch: `outputs` [B, C] and the `features` [B, F] that its head was given."""

    outputs: Tensor
    features: Tensor


@dataclass(frozen=True)
class Lesson:
    """What a loss may look at beside a batch's outputs and labels.

    `counts` i64 [C]: the client's examples of each class. `features` [B, F]: what the model's last layer, `head`, was
    given, with gradient; None where the model has no layer of that name. `answers` (parameters [T]): what that other
    model says of the same inputs, in evaluation mode, with the received running statistics, without gradient.
    """

    counts: Tensor
    client: Client
    features: Tensor | None
    answers: Callable[[Tensor], Answers]


class Phase(NamedTuple):
    """This `share` of a visit's steps moves only the parameters that a client keeps, or only those that it sends."""

    share: float
    moves: Literal["kept", "sent"]


@dataclass(frozen=True)
class Server:
    """The server between rounds: the model's parameters `weights` [T] and what the method remembers beside them."""

    weights: Tensor
    memory: Vectors = field(default_factory=dict)

    def next(self, weights: Tensor, **memory: Tensor) -> Server:
        """The server after a round."""
        return replace(self, weights=weights, memory={**self.memory, **memory})


@dataclass(frozen=True)
class Reduced:
    """The cohort's uploads, each reduced to its weighted mean. `fraction`: clients that answered over all clients."""

    mean: Vectors
    fraction: float


def send_update(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
    """Upload Delta_i = w_i - w; remember nothing."""
    return {"update": weights - client.start}, {}


def add_update(server: Server, reduced: Reduced) -> Server:
    """w + mean of Delta_i."""
    return server.next(server.weights + reduced.mean["update"])


def any_local(local: Local) -> None:
    """Accept every local work."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One federated algorithm.

    `loss` (outputs [B, C], labels [B], lesson) -> scalar; None is cross-entropy. The one function that sees the model.
    `correct` (gradient, weights, client) -> gradient, at every local step, after clipping; None leaves it as it is.
    `perturb` (gradient, weights, client) -> offset: the step follows the gradient taken at weights + offset, on the
    same batch, a second pass that leaves running statistics alone; None takes one pass.
    `finish` (weights w_i, client) -> upload and new client memory, after the last step; one upload is called "update".
    `aggregate` (server, reduced) -> next server. `server_memory` and `client_memory` name what is remembered, with the
    number it starts from in every entry, or "model": the parameters as first received. `sends` are the names of server
    memory that travel to the clients. `weights`: how each upload is averaged, "server" (as the experiment's
    server.weights says, the default) or "uniform". `check` raises ValueError ("what; what to do") for local work that
    the method's definition excludes.

    What makes models personal: `keeps` (slot) says which tensors stay with each client and never travel (parameters,
    running statistics); the functions above then see no difference, and what they send is zero there. `phases` of a
    visit, in order; () is one in which all moves. `own` (gradient, weights v_i, client) -> gradient: each client also
    trains a second model v_i of its own, from the received one on, on the same batches after the first. `tune`: epochs
    that a client trains what it received before its personal accuracy is measured, at the end of the run.

    `settings` are the method's hyperparameters, as they stand in the TOML file; two methods of
    one name and settings are equal.
    """

    name: str
    source: str
    settings: Mapping[str, float | str] = field(default_factory=dict)
    loss: Callable[[Tensor, Tensor, Lesson], Tensor] | None = field(default=None, compare=False)
    correct: Callable[[Tensor, Tensor, Client], Tensor] | None = field(default=None, compare=False)
    perturb: Callable[[Tensor, Tensor, Client], Tensor] | None = field(default=None, compare=False)
    finish: Callable[[Tensor, Client], tuple[Vectors, Vectors]] = field(default=send_update, compare=False)
    aggregate: Callable[[Server, Reduced], Server] = field(default=add_update, compare=False)
    server_memory: Mapping[str, float] = field(default_factory=dict)
    client_memory: Mapping[str, First] = field(default_factory=dict)
    sends: tuple[str, ...] = ()
    weights: Mapping[str, Weighting] = field(default_factory=dict)
    check: Callable[[Local], None] = field(default=any_local, compare=False)
    keeps: Callable[[Slot], bool] | None = field(default=None, compare=False)
    phases: tuple[Phase, ...] = field(default=(), compare=False)
    own: Callable[[Tensor, Tensor, Client], Tensor] | None = field(default=None, compare=False)
    tune: int = field(default=0, compare=False)

    @property
    def uploads(self) -> frozenset[str]:
        """The names of what a client sends."""
        one = torch.zeros(1)
        client = Client(one, dict.fromkeys(self.sends, one), dict.fromkeys(self.client_memory, one), 1.0, 1.0)
        return frozenset(self.finish(one, client)[0])

    @property
    def uniform(self) -> frozenset[str]:
        """The uploads of which each client counts once."""
        return frozenset(name for name, how in self.weights.items() if how == "uniform")

    @property
    def personal(self) -> bool:
        """Whether clients end up with models of their own."""
        return self.keeps is not None or self.own is not None

    @property
    def one_model(self) -> bool:
        """Whether the server holds a whole model. It does not where clients keep what they train."""
        return self.keeps is None or bool(self.phases and all(phase.moves == "sent" for phase in self.phases))
