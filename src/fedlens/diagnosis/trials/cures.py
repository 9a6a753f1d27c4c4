"""Remedies that the doctor can make itself: each takes an author's job and replaces the one part that is at fault."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn

from fedlens.diagnosis.job import State
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.trials.case import Case, Correction, doctors_client
from fedlens.diagnosis.trials.corrections import nothing_of, of_some, relabel, rescale, sample_all, without
from fedlens.diagnosis.trials.declared import CODECS
from fedlens.diagnosis.trials.knobs import NO_BOUND
from fedlens.diagnosis.trials.own import Make, own_clients
from fedlens.diagnosis.trials.parts import Clip, Fit, Mean, Parts, authors
from fedlens.methods import Method, fedadam, fedavgm
from fedlens.server import Communication, TopK

MOMENTUM, ADAM = 0.9, 0.01  # of the server, where a treatment names no value


class Cure(NamedTuple):
    """`make` gives the treated parts, or None where evidence for it is lacking; `change`: what is done, for the page;
    "{}" is the treatment's value. `put_right`: what the reference needs too, where the fault would be in it."""

    make: Callable[[Case], Make | None]
    change: str
    put_right: Callable[[Case], Correction | None] | None = None


def _rate(case: Case) -> Correction:
    local = dataclasses.replace(case.settings.local, lr=case.number(case.settings.local.lr))
    return Correction(assumed=dataclasses.replace(case.settings, local=local))


def _cross_entropy(case: Case) -> Correction | None:
    return Correction(cross_entropy=True) if case.value in ("", "cross-entropy") else None


def _both(case: Case) -> Make:
    clients = doctors_client(case)
    return lambda patient, seed: dataclasses.replace(clients(patient, seed), aggregate=Mean.declared(case.facts))


def _bounded(case: Case, clip: Clip | None, noise: float | None) -> Make:
    """The doctor's server with another bound or noise than declared (None: as declared); the doctor's clients too,
    where the author's bound their updates by themselves."""
    said = case.facts.declared.dp
    declared, much = said.get("clip", 0.0), said.get("noise", 0.0) if noise is None else noise
    bound = declared if clip is None else clip
    if bound == 0.0 and much:  # no bound, and the same noise
        bound, much = NO_BOUND, much * declared / NO_BOUND
    make: Make = doctors_client(case) if _clients_clip(case) else lambda patient, seed: authors(patient)
    return lambda patient, seed: dataclasses.replace(
        make(patient, seed), aggregate=Mean(case.facts, clip=bound, noise=much)
    )


def _clients_clip(case: Case) -> bool:
    """Whether most uploads lie on the declared bound."""
    clip = case.facts.declared.dp.get("clip", 0.0)
    norms = [visit.norm for one in case.evidence.rounds for visit in one.visits if visit.finite]
    return bool(clip and norms) and sum(abs(norm / clip - 1) < 1e-3 for norm in norms) > len(norms) / 2


def _clip(case: Case) -> Make:
    return _bounded(case, "median" if case.value in ("", "median") else case.number(0.0), None)


def _server_step(step: Callable[[Case], Method]) -> Callable[[Case], Make]:
    def cure(case: Case) -> Make:
        said, method = case.facts.declared.dp, step(case)
        return lambda patient, seed: dataclasses.replace(
            authors(patient),
            aggregate=Mean(case.facts, clip=said.get("clip", 0.0), noise=said.get("noise", 0.0), method=method),
        )

    return cure


def _momentum(case: Case) -> Method:
    """Of a value such as "0.9,0.3": the momentum and, where it is told, the server's rate."""
    beta, _, rate = case.value.partition(",")
    return fedavgm(beta=float(beta or MOMENTUM), server_lr=float(rate or 1.0))


def _server_rate(case: Case) -> Make | None:
    """The author's change of the model, scaled to the rate that it should have."""
    totals = [one.total for one in case.evidence.rounds if one.total is not None]
    if case.evidence.aggregation is not None:
        totals = [case.evidence.aggregation.total]
    measured = statistics.median(totals) if totals else 0.0
    if not abs(measured) > 1e-6:
        return None
    factor = case.number(1.0) / measured

    def make(patient: Patient, seed: int) -> Parts:
        def aggregate(current: State, sent: object, round: int) -> State:
            new = patient.aggregate(current, sent, round)  # type: ignore[arg-type]
            floats = {n: v for n, v in new.items() if n in current and v.is_floating_point()}
            return {**new, **{n: current[n] + factor * (v - current[n]) for n, v in floats.items()}}

        return dataclasses.replace(authors(patient), aggregate=aggregate)

    return make


def _mean_buffers(case: Case) -> Make:
    """The author's parameters, the doctor's running statistics and counters."""

    def make(patient: Patient, seed: int) -> Parts:
        mean, trained = Mean(case.facts), set(case.facts.of_kind("parameter"))

        def aggregate(current: State, sent: object, round: int) -> State:
            averaged = mean(current, sent, round)  # type: ignore[arg-type]
            new = patient.aggregate(current, sent, round)  # type: ignore[arg-type]
            return {**new, **{name: value for name, value in averaged.items() if name not in trained}}

        return dataclasses.replace(authors(patient), aggregate=aggregate)

    return make


def _feedback(case: Case) -> Make | None:
    """What compression loses is added to the client's next upload."""
    codec, zeros = case.facts.declared.codec, [visit.zero for one in case.evidence.rounds for visit in one.visits]
    kept = 1 - statistics.median([zero for zero in zeros if zero > 0] or [0.0])  # it is counted in watched rounds alone
    sparse = kept < 0.9 and CODECS.get((codec or "top-k").lower()) == "top-k"
    if codec is None and not sparse:
        return None
    sent = Communication(up=TopK(fraction=max(kept, 1e-4))) if sparse else None

    clients = doctors_client(case, Correction(communication=sent))
    return lambda patient, seed: dataclasses.replace(clients(patient, seed), aggregate=Mean(case.facts))


def _loading(case: Case) -> Make:
    return lambda patient, seed: dataclasses.replace(authors(patient), fit=_from_received(case, lambda: patient))


def _separate(case: Case) -> Make:
    return lambda patient, seed: dataclasses.replace(
        authors(patient), fit=_from_received(case, lambda: case.subject.fresh(seed))
    )


def _from_received(case: Case, whose: Callable[[], Patient]) -> Fit:
    """The author's client code, whose network is given what was received before its first pass."""
    stays = case.facts.declared.stays

    def fit(client: int, received: State, round: int) -> Sent:
        given = {name: value for name, value in received.items() if not stays(name)}
        patient = whose()
        with _loaded(given):
            return patient.fit(client, received, round)

    return fit


@contextmanager
def _loaded(state: State) -> Iterator[None]:
    """Every network with the entries of `state` takes them over before its first forward pass in here."""
    seen: dict[int, nn.Module] = {}

    def hook(module: nn.Module, inputs: object) -> None:
        if id(module) in seen or not module.training:
            return
        seen[id(module)] = module
        own = module.state_dict()
        if own and all(name in own and own[name].shape == value.shape for name, value in state.items()):
            module.load_state_dict({name: value.clone() for name, value in state.items()}, strict=False)

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _corrected(correction: Callable[[Case], Correction | None], change: str) -> Cure:
    """The doctor's clients where something is put right: only the faulty ones where the finding names some."""

    def make(case: Case) -> Make | None:
        put_right = correction(case)
        if put_right is None:
            return None
        return (of_some if case.finding.clients else doctors_client)(case, put_right)

    return Cure(make, change, correction)


CURES: dict[str, Cure] = {
    "reference-aggregator": Cure(lambda case: own_clients(case.facts), "the server takes the weighted mean by name"),
    "reference-client": Cure(doctors_client, "clients load what they receive, train on their data, send that"),
    "reference": Cure(_both, "clients and server as declared"),
    "load-global": Cure(_loading, "clients load what they receive before they train"),
    "separate-clients": Cure(_separate, "every visit has objects of its own, and loads what it receives"),
    "rate": _corrected(_rate, "the local rate is {}"),
    "shuffle": Cure(doctors_client, "clients shuffle their examples in every epoch"),
    "loss": _corrected(_cross_entropy, "the loss is cross-entropy of the logits"),
    "relabel": _corrected(relabel, "the named clients number their classes as all others do"),
    "rescale": _corrected(rescale, "the named clients scale their inputs as the test set is"),
    "drop-clients": Cure(without, "the named clients take no part", nothing_of),
    "sample-all": Cure(sample_all, "every round draws its clients anew, uniformly from all"),
    "server-rate": Cure(_server_rate, "the server's rate is {}"),
    "mean-buffers": Cure(_mean_buffers, "running statistics are averaged, counters copied"),
    "no-clip": Cure(lambda case: _bounded(case, 0.0, None), "updates are not clipped"),
    "clip": Cure(_clip, "updates are clipped at {}"),
    "noise": Cure(lambda case: _bounded(case, None, case.number(0.0)), "the noise multiplier is {}"),
    "feedback": Cure(_feedback, "what compression loses is added to the next upload"),
    "server-momentum": Cure(_server_step(_momentum), "the server's momentum and rate are {}"),
    "fedadam": Cure(_server_step(lambda case: fedadam(server_lr=case.number(ADAM))), "the server's optimiser is Adam"),
}
