"""A job's declaration as an experiment of fedlens: method, server, privacy and codec, where fedlens has them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fedlens.diagnosis.job import Declared
from fedlens.engine import Engine
from fedlens.errors import FedlensError
from fedlens.local import Local
from fedlens.local.statistics import has_batch_norm
from fedlens.methods import METHODS, Method, Transfer, fedadagrad, fedadam, fedavg, fedavgm, fedyogi
from fedlens.methods.method import add_update
from fedlens.runs.experiment import Clients, Experiment, Privacy
from fedlens.runs.federation import Lent
from fedlens.server import Central, Communication, Server

ADAPTIVE = {"adam": fedadam, "yogi": fedyogi, "adagrad": fedadagrad}
CODECS = {"topk": "top-k", "top-k": "top-k", "fp16": "float16", "float16": "float16", "half": "float16"}
CODECS |= {"bf16": "bfloat16", "bfloat16": "bfloat16", "qsgd": "qsgd", "sign": "sign", "signsgd": "sign"}
SUMMED, HELD = 50, 5  # clients in one pass, as the engine for several suits them

Made = TypeVar("Made")


@dataclass(frozen=True)
class Understood:
    """What fedlens makes of a declaration, and in `notes` what it has no form for."""

    method: Method
    server: Server
    privacy: Privacy
    communication: Communication
    notes: tuple[str, ...]


def understood(said: Declared, local: Local, *, buffers: bool) -> Understood:
    """`said` as fedlens has it; `buffers`: the network has running statistics, which no private mechanism covers."""
    notes: list[str] = []
    method = server_step(said, _clients_method(said, local, notes), notes)
    weights = said.weighting or "examples"
    plain, server = Server(weights=weights), None
    if said.reduce != "mean":
        server = _tried(lambda: Server(weights=weights, reduce=said.reduce), f"rule {said.reduce}", notes)  # type: ignore[arg-type]
    communication = _communication(said, notes)
    privacy = _privacy(said, notes, buffers=buffers)
    if privacy.mechanism is not None:
        plain, server = Server(weights="uniform"), None
    if said.local_entries:
        notes.append("entries declared to stay at clients are averaged in the reference")
    return Understood(method, server or plain, privacy, communication, tuple(notes))


def server_step(said: Declared, method: Method, notes: list[str]) -> Method:
    """`method` with the step that the server is declared to make of the mean update."""
    name = said.server_optimizer.lower().removeprefix("fed")
    if name in ("sgd", "avg", "avgm", "momentum", "none", ""):
        if said.server_lr == 1 and not said.server_momentum:
            return method
        step = fedavgm(beta=said.server_momentum, server_lr=said.server_lr)
    elif name in ADAPTIVE:
        step = ADAPTIVE[name](server_lr=said.server_lr)
    else:
        notes.append(f"server optimiser {said.server_optimizer}: a plain step was taken")
        return method
    if method.aggregate is not add_update:
        notes.append(f"{method.name} has a server step of its own: the declared one was left out")
        return method
    return dataclasses.replace(method, aggregate=step.aggregate, server_memory=step.server_memory)


def experiment(
    take: Understood, local: Local, lent: Lent, *, cohort: int, rounds: int, seed: int, simple: bool = False
) -> Experiment:
    """The doctor's reference of a job; nothing in it is ever looked up by name."""
    count = len(lent.deal)
    cohort = max(1, min(cohort, count))
    together = SUMMED if local.optimizer == "sgd" and not (local.momentum or local.weight_decay) else HELD
    engine = Engine(kind="sequential" if simple else "auto", threads=1, layout="channels-first", together=together)
    return Experiment(
        seed=seed,
        rounds=rounds,
        evaluate_every=rounds,
        clients=Clients(count=count, cohort=cohort),
        local=local,
        method=take.method,
        server=take.server,
        communication=take.communication,
        privacy=take.privacy,
        engine=engine,
    )


def buffers_of(lent: Lent) -> bool:
    """Whether the network has state that nobody trains."""
    return has_batch_norm(lent.module) or any(True for _ in lent.module.buffers())


def _clients_method(said: Declared, local: Local, notes: list[str]) -> Method:
    name = (said.method or "fedavg").lower().replace("_", "-").replace(" ", "")
    name = "fedprox" if name == "fedavg" and said.mu else name
    make = METHODS.get(name)
    if make is None or name in ("fedavgm", "fedadam", "fedyogi", "fedadagrad"):
        if make is None:
            notes.append(f"method {said.method}: FedAvg was taken")
        return fedavg()
    given = {"mu": said.mu} if said.mu is not None and "mu" in inspect.signature(make).parameters else {}
    method = _tried(lambda: make(**given), f"method {said.method}", notes) or fedavg()
    try:
        method.check(local)
    except ValueError as error:
        notes.append(f"{method.name}: {error}: FedAvg was taken")
        return fedavg()
    if isinstance(method, Transfer) or method.personal or not method.one_model:
        notes.append(f"{method.name} has no model for all clients: FedAvg was taken")
        return fedavg()
    return method


def _privacy(said: Declared, notes: list[str], *, buffers: bool) -> Privacy:
    clip, noise = said.dp.get("clip"), said.dp.get("noise", 0.0)
    if not said.dp:
        return Privacy()
    if not clip or buffers:
        why = "running statistics are outside its bound" if clip else "no bound is declared"
        notes.append(f"privacy was left out of the reference: {why}")
        return Privacy()
    made = _tried(lambda: Central(noise=float(noise), clip=float(clip)), "privacy", notes)
    return Privacy() if made is None else Privacy(mechanism=made)


def _communication(said: Declared, notes: list[str]) -> Communication:
    if not said.codec or said.codec.lower() in ("none", "plain", "float32", "fp32"):
        return Communication()
    kind, colon, number = said.codec.lower().replace(" ", "").partition(":")
    name = CODECS.get(kind, kind) + colon + number
    made = _tried(lambda: Communication(up=name), f"codec {said.codec}", notes)  # type: ignore[arg-type]
    made = made or _tried(lambda: Communication(up=name, error_feedback=False), f"codec {said.codec}", [])  # type: ignore[arg-type]
    return made or Communication()


def _tried(make: Callable[[], Made], what: str, notes: list[str]) -> Made | None:
    try:
        return make()
    except (ValueError, TypeError, FedlensError):
        notes.append(f"{what} was left out of the reference: fedlens has no such form")
        return None
