"""Personal models: by one mask over names, whose entries stay with each client; or by a second model (Ditto).

Sources: FedBN: Li et al., ICLR 2021. FedPer: Arivazhagan et al. 2019. FedRep: Collins et al., ICML 2021, Algorithm 1.
FedBABU: Oh, Kim and Yun, ICLR 2022. LG-FedAvg: Liang et al. 2020. Ditto: Li, Hu, Beirami and Smith, "Ditto: Fair and
Robust Federated Learning Through Personalization", ICML 2021, Algorithm 1.
With FedBN, FedPer, FedRep and LG-FedAvg there is no single global model: what is measured is each client's own model on
its own hold-out. A client that was never visited has the initial values where the others have their own.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fedlens.local.settings import Local
from fedlens.methods.method import Client, Method, Phase
from fedlens.tree import Slot


def fedbn() -> Method:
    """Normalisation layers stay local: scale, shift and running statistics.

    Differs from the paper: layers of other kinds than batch norm keep their scale and shift at the client, too.
    """
    return Method(name="fedbn", source="Li et al. 2021", keeps=lambda slot: slot.group in ("norm", "buffers"))


def fedper(*, head: str = "head") -> Method:
    """The layers whose names begin with `head` stay local, trained together with the rest."""
    return Method(name="fedper", source="Arivazhagan et al. 2019", settings={"head": head}, keeps=_under(head))


def fedrep(*, head: str = "head", head_share: float = 0.5) -> Method:
    """As fedper, but first the head alone is trained, for `head_share` of a visit's steps, then the rest alone.

    Differs from the paper: its ten epochs for the head and one or more for the rest are here a share of local.epochs,
    so that methods are compared at equal steps; the body takes as many steps as remain.
    """
    _check_share("head_share", head_share)
    settings: dict[str, float | str] = {"head": head, "head_share": head_share}
    phases = (Phase(head_share, "kept"), Phase(1 - head_share, "sent"))
    return Method(
        name="fedrep",
        source="Collins et al. 2021",
        settings=settings,
        keeps=_under(head),
        phases=phases,
        check=_fresh_optimizer,
    )


def fedbabu(*, head: str = "head", tune_epochs: int = 5) -> Method:
    """The head keeps its random initial values while the rest is trained; clients then tune all of it to themselves.

    Personal accuracy is measured once, after the last round and `tune_epochs` epochs at every client. The server's
    model is whole, with the random head.
    """
    if tune_epochs < 1 or tune_epochs != int(tune_epochs):
        raise ValueError(f"tune_epochs = {tune_epochs} is no number of epochs; set for example 5")
    return Method(
        name="fedbabu",
        source="Oh et al. 2022",
        settings={"head": head, "tune_epochs": tune_epochs},
        keeps=_under(head),
        phases=(Phase(1.0, "sent"),),
        tune=int(tune_epochs),
        check=_fresh_optimizer,
    )


def lgfedavg(*, head: str = "head") -> Method:
    """The other way round: the head is averaged, and each client keeps the layers below it.

    Differs from the paper: clients start from one common model, not from their own or a pre-trained one.
    """
    under = _under(head)
    return Method(
        name="lg-fedavg", source="Liang et al. 2020", settings={"head": head}, keeps=lambda slot: not under(slot)
    )


def ditto(*, lam: float = 0.1) -> Method:
    """FedAvg, and a second model at every client: v_i -= eta (grad F_i(v_i) + lam (v_i - w)), `lam` >= 0.

    w is the model as it was received, not the one that the client just trained. Differs from the paper: v_i takes as
    many steps as w does, on the same batches. A visit costs two trainings: at equal samples it is twice the work of
    FedAvg, and the run's record counts both.
    """

    def own(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        return gradient + lam * (weights - client.start)

    return Method(name="ditto", source="Li et al. 2021", settings={"lam": lam}, own=own)


def _under(head: str) -> Callable[[Slot], bool]:
    if not head:
        raise ValueError("head is empty; name the layer, for example 'head'")
    return lambda slot: slot.name == head or slot.name.startswith(f"{head}.")


def _fresh_optimizer(local: Local) -> None:
    if local.keep_optimizer:
        raise ValueError("the phases of a visit each begin with a fresh optimiser; set local.keep_optimizer = false")


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"{name} = {share} is not between 0 and 1; set for example 0.5")
