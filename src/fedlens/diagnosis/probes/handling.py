"""Whether clients start from what they receive, are apart from one another, and leave alone what is not theirs.

A displacement delta of the model that was sent must come back in the answer: it is a random direction, so that nothing
else that moves the answer lies along it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Facts, Handling
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.rounds.visits import (
    Payload,
    Returned,
    after,
    exchanged,
    finite,
    payload_of,
    visit,
    written_to,
)
from fedlens.diagnosis.subject.guard import Ailing, guarded, seeded
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.diagnosis.watch import watching

CLIENTS = 4  # of the first cohort that are visited
AGAIN = 3  # of them that are visited again
SMALL = 1e-3  # of the model: the displacement of one whose clients do not move
NUMBERS = 32  # of an entry; of fewer nothing is said alone


@dataclass
class _Part:
    """What the experiments share: `sent` to all, the entries `names` that count, and what came `first`."""

    subject: Subject
    facts: Facts
    sent: State
    clients: tuple[int, ...]
    names: tuple[str, ...] = ()
    payload: Payload = "weights"
    first: dict[int, State] = field(default_factory=dict)
    delta: dict[str, Tensor] = field(default_factory=dict)

    def result(self, back: Returned, received: State) -> State:
        """The client's model, by the entries that count, in double precision."""
        whole = after(received, back.sent.upload, self.payload)
        return {name: whole[name].double() for name in self.names}

    def results(self, patient: Patient, clients: Sequence[int], displaced: Sequence[int] = ()) -> dict[int, State]:
        """The models of `clients`, visited in this order in round 1; those of `displaced` are sent w + delta."""
        found = {}
        for client in clients:
            received = _plus(self.sent, self.delta) if client in displaced else self.sent
            back = visit(patient, client, received, 1)
            if back is not None:
                found[client] = self.result(back, received)
        return found

    def apart(self, client: int, found: Mapping[int, State]) -> float | None:
        """||D - D'|| / ||D|| of a client's first update and another one."""
        if client not in found or client not in self.first:
            return None
        size = _norm(_minus(self.first[client], self.sent))
        away = _norm(_minus(found[client], self.first[client]))
        return away / size if size > 0 else float(away > 0)


def examine_handling(subject: Subject, facts: Facts) -> Handling:
    """Some twenty visits of clients of the first round, each experiment on a fresh job. What fails alone is left out;
    raises Ailing where not even the first visits succeed."""
    patient = subject.fresh()
    cohort = [client for client in dict.fromkeys(patient.sample(1)) if 0 <= client < facts.clients]
    part = _Part(subject, facts, patient.init, tuple(cohort[:CLIENTS]))
    backs, writes = _first_visits(patient, part)
    said: dict[str, Any] = {"writes": writes, "examples_wrong": _examples(patient, facts, backs), "shared": _one(backs)}
    part.clients = tuple(part.first)
    if part.clients and part.names and all(finite(one) for one in part.first.values()):
        part.delta = _displacement(part)
        with suppress(Ailing):
            said |= _again(part, patient)
        for experiment in (_apart, _order) if len(part.clients) > 1 else ():
            with suppress(Ailing):
                said |= experiment(part)
    with suppress(Ailing):
        said |= _evaluated(part)
    return Handling(**said)


def _first_visits(patient: Patient, part: _Part) -> tuple[list[Returned], bool]:
    """Visit the clients, and learn what their uploads are. The second: whether a received state was written to."""
    backs, writes = [], False
    for client in part.clients:
        back = visit(patient, client, part.sent, 1, watching(part.sent, light=True))
        if back is not None:
            writes |= written_to(patient, back.given, part.sent)
            backs.append(back)
    found = [payload_of(part.facts, part.sent, back.state) for back in backs]
    part.payload = next((kind for kind in found if kind is not None), "weights")
    part.names = exchanged(part.facts, part.sent, [back.state for back in backs])
    part.first = {back.client: part.result(back, part.sent) for back in backs}
    return backs, writes


def _displacement(part: _Part) -> dict[str, Tensor]:
    """Independent normal numbers, in all entries together as long as the mean update; entries of one tied weight, which
    are sent and come back as one, are displaced as one."""
    generator = torch.Generator().manual_seed(20)
    drawn: dict[str, Tensor] = {}
    for name in part.names:
        tied = next((other for other in drawn if _tied(part, name, other)), None)
        fresh = torch.randn(part.sent[name].shape, generator=generator, dtype=torch.float64)
        drawn[name] = fresh if tied is None else drawn[tied]
    sizes = [_norm(_minus(one, part.sent)) for one in part.first.values()]
    model = _norm({name: part.sent[name].double() for name in part.names})
    size = sum(sizes) / len(sizes) or SMALL * model or SMALL
    length = _norm(drawn)
    return {name: value * (size / length) for name, value in drawn.items()}


def _tied(part: _Part, name: str, other: str) -> bool:
    states = (part.sent, *part.first.values())
    return bool(part.first) and all(torch.equal(one[name], one[other]) for one in states)


def _again(part: _Part, patient: Patient) -> dict[str, Any]:
    """Visit clients of `patient`, which were visited, with a displaced model."""
    heeds, errors, follows, moves = {}, {}, {}, []
    received = _plus(part.sent, part.delta)
    size, numbers = _dot(part.delta, part.delta), sum(value.numel() for value in part.delta.values())
    for client in part.clients[:AGAIN]:
        back = visit(patient, client, received, 1)
        if back is None or not finite(back.state):
            continue
        result = part.result(back, received)
        moved = _minus(result, part.first[client])
        heeds[client] = _dot(moved, part.delta) / size
        rest = max(0.0, _dot(moved, moved) - heeds[client] ** 2 * size)
        errors[client] = math.sqrt(rest / size / numbers)
        own = _norm(moved)
        follows[client] = _norm(_minus(result, received)) / own if own > 0 else math.inf
        moves.append(moved)
    told: dict[str, Any] = {"heeds": heeds, "heeds_error": errors, "follows": follows}
    return {**told, **_entry_by_entry(part, moves)}


def _entry_by_entry(part: _Part, moves: Sequence[State]) -> dict[str, Any]:
    """Which entries heed nothing, and which heed another entry of their shape: from every client alike."""
    unheeded, crossed = [], {}
    for name in part.names:
        if part.delta[name].numel() < NUMBERS or not moves:
            continue
        shape = part.delta[name].shape
        rivals = [one for one in part.names if one != name and part.delta[one].shape == shape]
        own, error = _share(moves, name, part.delta[name])
        if own + 4 * error < 0.25:
            unheeded.append(name)
        for rival in rivals:
            other, noise = _share(moves, name, part.delta[rival])
            if other - 4 * noise > 0.5 and own + 4 * error < 0.25:
                crossed[name] = rival
    heeded = tuple(name for name in unheeded if name not in crossed)
    return {"unheeded": heeded, "crossed": crossed}


def _share(moves: Sequence[State], name: str, delta: Tensor) -> tuple[float, float]:
    """How much of `delta` the moves of an entry hold, on average, and the largest standard error of one."""
    size = float(delta.square().sum())
    shares = [float((move[name] * delta).sum()) / size for move in moves]
    rests = [float((move[name] - share * delta).square().sum()) for move, share in zip(moves, shares, strict=True)]
    return sum(shares) / len(shares), math.sqrt(max(rests) / size / delta.numel())


def _apart(part: _Part) -> dict[str, Any]:
    """Two clients, three times on a fresh job: as before, the first displaced, and the second alone."""
    one, two = part.clients[:2]
    same = part.results(part.subject.fresh(), (one, two))
    known = [value for client in (one, two) if (value := part.apart(client, same)) is not None]
    told: dict[str, Any] = {"repeats": max(known) if known else None}
    moved = part.results(part.subject.fresh(), (one, two), displaced=(one,))
    if two in same and two in moved:
        share = _dot(_minus(moved[two], same[two]), part.delta) / _dot(part.delta, part.delta)
        told["leaks"] = share if math.isfinite(share) else None
    alone = part.results(part.subject.fresh(), (two,))
    told["order_noise"] = part.apart(two, alone)
    update = _minus(part.first[one], part.sent)
    if two in alone and _norm(update) > 0:
        told["carries"] = _dot(_minus(part.first[two], alone[two]), update) / _dot(update, update)
    return told


def _order(part: _Part) -> dict[str, Any]:
    """The clients in the reverse order, on a fresh job."""
    found = part.results(part.subject.fresh(), part.clients[::-1])
    both = [client for client in part.clients if client in found]
    there, back = (_mean([one[client] for client in both]) for one in (part.first, found))
    size = _norm(_minus(there, part.sent))
    uploads = {client: value for client in both if (value := part.apart(client, found)) is not None}
    return {"order": _norm(_minus(back, there)) / size if size > 0 else None, "order_uploads": uploads}


def _evaluated(part: _Part) -> dict[str, Any]:
    """Evaluate a fresh job's first model, look whether it is the same afterwards, and visit a client."""
    patient = part.subject.fresh()
    given = patient.written(part.sent)
    seeded(patient.seed, 1, 2**20 + 1)
    with guarded("evaluate", "round 1", patient.patience):
        patient.job.evaluate(given, 1)
    told: dict[str, Any] = {"evaluate_writes": written_to(patient, given, part.sent)}
    if part.clients and part.names:
        told["evaluate_moves"] = part.apart(part.clients[0], part.results(patient, part.clients[:1]))
    return told


def _examples(patient: Patient, facts: Facts, backs: Sequence[Returned]) -> dict[int, tuple[float, int]]:
    """Clients whose reported number of examples is not that of their data. Where all say 1, none says anything."""
    reported = {back.client: back.sent.upload.examples for back in backs}
    if "train_data" not in facts.offers or all(count == 1 for count in reported.values()):
        return {}
    wrong = {}
    with suppress(Ailing):
        for client, count in reported.items():
            held = len(patient.train_data(client)[1])
            if held != count:
                wrong[client] = (count, held)
    return wrong


def _one(backs: Sequence[Returned]) -> tuple[int, ...]:
    """Clients whose trained networks are one object."""

    def met(back: Returned) -> bool:
        own = set(back.watched.identities)
        return any(own & set(other.watched.identities) for other in backs if other.client != back.client)

    return tuple(back.client for back in backs if met(back))


def _plus(state: State, delta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: (v.double() + delta[name]).to(v.dtype) if name in delta else v for name, v in state.items()}


def _minus(one: State, other: State) -> dict[str, Tensor]:
    return {name: value - other[name].double() for name, value in one.items()}


def _mean(states: Sequence[State]) -> dict[str, Tensor]:
    names = states[0] if states else {}
    return {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in names}


def _dot(one: State, other: State) -> float:
    return sum(float((one[name] * other[name]).sum()) for name in one)


def _norm(state: State) -> float:
    return math.sqrt(_dot(state, state))
