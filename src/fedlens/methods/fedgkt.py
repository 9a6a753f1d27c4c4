"""FedGKT: clients and server teach each other what they think of each example; no weights are averaged.

Source: He, Annavaram and Avestimehr, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS
2020, section 3 and Algorithm 1. Client: CE + alpha KL(server || client). Server: CE + alpha KL(client ||
server). KL is between softmax(z / T), times T^2, so that its gradient does not fade as T grows (Hinton et al. 2015).
Differs from the paper: alpha, which its equations leave at 1, stands before KL on both sides (the authors' code has it
before KL at the client and before CE at the server). Their code keeps the other side's logits by the number of a batch
while batches are shuffled; here they are kept by example. The server answers in evaluation mode, once it has trained;
theirs answers in training mode, during its last epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from fedlens.local.settings import Local
from fedlens.methods.method import Client, Method, Vectors

# The authors' schedule (FedML, "ResNet56"): up to and with this round, so many server epochs; then LAST_EPOCHS.
SCHEDULE = ((20, 20), (30, 15), (40, 10), (100, 5), (150, 3), (201, 2))
LAST_EPOCHS = 1


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the rows of logits [B, C], in nats."""
    ours, theirs = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


@dataclass(frozen=True, kw_only=True)
class Transfer(Method):
    """A method that exchanges knowledge of examples instead of updates; its rounds are of another kind.

    `server_epochs`: passes of the server over what a cohort sent, every round; None is the authors' schedule.
    `server_batch`: its batch. `server_lr`: its rate before local.schedule; None is local.lr.
    """

    alpha: float
    temperature: float
    server_epochs: int | None
    server_batch: int
    server_lr: float | None

    def objective(self, outputs: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        """CE + alpha KL(teacher || outputs) of logits [B, C]; plain CE where there is no teacher yet."""
        plain = F.cross_entropy(outputs, labels)
        if teacher is None:
            return plain
        return plain + self.alpha * distillation(outputs, teacher, self.temperature)

    def epochs(self, round: int) -> int:
        """The server's epochs in `round` (from 1)."""
        if self.server_epochs is not None:
            return self.server_epochs
        return next((epochs for last, epochs in SCHEDULE if round <= last), LAST_EPOCHS)

    def rate(self, local: Local, round: int, rounds: int) -> float:
        """The server's learning rate in `round` of `rounds`."""
        return (self.server_lr or local.lr) * local.schedule.factor(round, rounds)


def fedgkt(
    *,
    alpha: float = 1.0,
    temperature: float = 3.0,
    server_epochs: int | None = None,
    server_batch: int = 256,
    server_lr: float | None = None,
) -> Transfer:
    """Knowledge transfer between small client models and a large one; the model is a pair of halves.

    The paper takes alpha 1, temperature 3, batch 256 and Adam at 0.001 on both sides. server_epochs: 20 falling to 2
    by the authors' schedule where it is not given; source document 003 takes 10 throughout.
    """
    if alpha < 0:
        raise ValueError(f"alpha = {alpha} is negative; set 0 (no transfer) or more, for example 1")
    if temperature <= 0:
        raise ValueError(f"temperature = {temperature} is not above 0; set for example 3")
    for name, value in (("server_epochs", server_epochs), ("server_batch", server_batch)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} = {value} is not a whole number above 0; set 1 or more")
    if server_lr is not None and server_lr <= 0:
        raise ValueError(f"server_lr = {server_lr} is not above 0; leave it out to use local.lr")
    given: dict[str, float | None] = {
        "alpha": alpha,
        "temperature": temperature,
        "server_epochs": server_epochs,
        "server_batch": server_batch,
        "server_lr": server_lr,
    }
    return Transfer(
        name="fedgkt",
        source="He et al. 2020",
        settings={name: value for name, value in given.items() if value is not None},
        finish=_sends_no_update,
        alpha=alpha,
        temperature=temperature,
        server_epochs=server_epochs,
        server_batch=server_batch,
        server_lr=server_lr,
    )


def _sends_no_update(weights: Tensor, client: Client) -> tuple[Vectors, Vectors]:
    raise TypeError("fedgkt sends what clients see in their examples, not updates; run it with engine.gkt.Exchange")
