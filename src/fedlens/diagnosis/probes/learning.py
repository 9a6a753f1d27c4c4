"""Whether the author's network and loss can learn one small batch by heart, away from any federation (M13, M14)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.diagnosis.evidence import Facts, Learning
from fedlens.diagnosis.probes.anatomy import features, resting, same_weights, unchanging
from fedlens.diagnosis.probes.answers import answers, class_numbers, in_mode, readable, right
from fedlens.diagnosis.subject.guard import guarded, seeded
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.errors import ConfigurationError

EXAMPLES, STEPS, SECONDS = 32, 150, 5.0
LEARNED = 0.95  # accuracy from which the batch counts as learned
ROUNDING = 1e-6  # of the largest gradient, up to which one is 0 but for rounding
EARLY = 5  # steps in which a parameter must get a gradient
LOOK = 10  # steps between looks at the accuracy
FEWER = ((0.02, 32), (0.06, 16), (math.inf, 8))  # seconds of a pass, and how many examples are then learned
PLAIN = (("adam", 2e-3), ("sgd", 0.1), ("sgd", 0.01), ("sgd", 1.0), ("adam", 2e-4), ("sgd", 1e-3))


@dataclass
class Batch:
    """Inputs, class numbers, and the labels in the form that the author's loss takes."""

    inputs: Tensor
    truth: Tensor
    labels: Tensor


@dataclass
class Fitted:
    """How one training by heart went. `ended`: not for want of time; `moved`: parameters with a gradient early on."""

    accuracy: float
    steps: int
    ended: bool
    lowest: float
    moved: frozenset[str]
    outputs: Tensor
    network: nn.Module


def examine_learning(subject: Subject, facts: Facts, rate: float | None, optimizer: str | None = None) -> Learning:
    """The author's network and loss on 32 training examples of many classes, by the local `rate` and by others.

    About 2 s for a small network; trainings begin no more after 5 s. Raises ConfigurationError without a network and
    training data, Ailing where the author's code fails on its own data: of a loss that refuses labels for which the
    head has no output, the width of that head is still told.
    """
    if not {"model", "train_data"} <= facts.offers:
        do = "Give the job model() and train_data(client)."
        raise ConfigurationError(
            "the local step cannot be examined", where=subject.name, seen="no network or data", do=do
        )
    patient = subject.fresh()
    inputs, labels = _pooled(patient, facts)
    with guarded("loss", "one batch of training data", patient.patience):
        network = _network(patient)
        inputs = readable(network, inputs)
        inputs, labels, outputs = _affordable(network, inputs, labels, facts.classes)
        try:
            batch = _batch(patient, inputs, labels, outputs)
        except Exception:
            if not _beyond(labels, outputs):
                raise
            parameters = sum(one.numel() for one in network.parameters())
            return Learning(outputs=answers(outputs).shape[1], dead={}, parameters=parameters)
        return _examined(patient, facts, network, batch, outputs, (_kind(optimizer), rate))


def _examined(
    patient: Patient, facts: Facts, network: nn.Module, batch: Batch, outputs: Any, own: tuple[str, float | None]
) -> Learning:
    """What there is to tell of a network whose loss takes the batch; `own`: the local optimiser and rate."""
    loss = float(patient.loss(outputs, batch.labels).detach().double().mean())
    seen = answers(outputs)
    found = _fitted(patient, batch, own)
    half_way, smallest = features(network, batch.inputs)
    begun = [fit for fit in found.values() if fit.steps]
    moved = {name for fit in begun for name in fit.moved}
    named = dict(network.named_parameters())
    last = [answers(fit.outputs) for fit in begun if bool(torch.isfinite(answers(fit.outputs)).all())]
    told = {at: fit for at, fit in found.items() if fit.ended or fit.accuracy >= LEARNED}
    mine = next((fit for at, fit in told.items() if at == own), None)
    best = _best(told)
    return Learning(
        first_loss=loss,
        uniform=math.log(facts.classes or max(2, seen.shape[1])),
        **_shape_of_answers(seen, last),
        negative=min([loss, *(fit.lowest for fit in begun)]) < -1e-6,
        grows=_grows(patient, outputs, batch.labels),
        zero_gradients=tuple(sorted(n for n in named if named[n].requires_grad and n not in moved and begun)),
        frozen=tuple(name for name, one in named.items() if not one.requires_grad),
        dead=resting(network, batch.inputs),
        constant_init=same_weights(network, [fit.network for fit in begun]),
        identical=unchanging(seen) and all(map(unchanging, last)),
        half_way=half_way,
        smallest=smallest,
        overfit=mine.accuracy if mine else None,
        overfit_best=told[best].accuracy if best else None,
        best_rate=best[1] if best else None,
        overfit_n=len(batch.truth),
        overfit_steps=max((fit.steps for fit in told.values()), default=0),
        parameters=sum(one.numel() for one in named.values()),
    )


def _beyond(labels: Tensor, outputs: Any) -> bool:
    """Whether some labels are numbers of classes that the head has no output for."""
    width, truth = answers(outputs).shape[1], class_numbers(labels)
    return width > 1 and bool(((truth < 0) | (truth >= width)).any())


def _network(patient: Patient) -> nn.Module:
    """A network of its own in the first state, whether or not the author's model() makes a new one each time."""
    return copy.deepcopy(patient.network(patient.init)).cpu()


def _pooled(patient: Patient, facts: Facts) -> tuple[Tensor, Tensor]:
    """Up to 32 different examples, from as many classes as some clients hold, in turns."""
    seeded(0)
    began, some = time.perf_counter(), []
    for client in torch.randperm(facts.clients).tolist():
        some.append(patient.train_data(client))
        classes = {int(c) for _, labels in some for c in class_numbers(labels)}
        enough = len(classes) >= (facts.classes or 10) and len(some) >= 4
        if (enough and sum(len(labels) for _, labels in some) >= 500) or time.perf_counter() - began > 1.0:
            break
    with guarded("train_data", "some clients together", patient.patience):
        inputs, labels = (torch.cat([pair[at][:2000] for pair in some if len(pair[1])]) for at in (0, 1))
        truth = class_numbers(labels)
        top = facts.classes or int(truth.max()) + 1
        fine = (truth >= 0) & (truth < top)
        if inputs.is_floating_point():
            fine &= torch.isfinite(inputs.flatten(1)).all(dim=1)
        places = fine.nonzero().flatten()
        places = places if len(places) else torch.arange(len(truth))
        places = places[torch.randperm(len(places))]
        turn = {
            place: int((truth[places[:at]] == truth[place]).sum()) for at, place in enumerate(places.tolist()[:2000])
        }
        chosen: dict[bytes, int] = {}
        for place in sorted(turn, key=lambda place: turn[place]):
            chosen.setdefault(inputs[place].contiguous().numpy().tobytes(), place)
            if len(chosen) == EXAMPLES:
                break
        return inputs[list(chosen.values())], labels[list(chosen.values())]


def _affordable(network: nn.Module, inputs: Tensor, labels: Tensor, classes: int | None) -> tuple[Tensor, Tensor, Any]:
    """As many of the examples as the network is quick for, with its answers; never as many as there are classes."""
    with in_mode(network, training=True), torch.no_grad():
        network(inputs[:2])
        began = time.perf_counter()
        outputs = network(inputs)
        took = time.perf_counter() - began
        most = next(n for seconds, n in FEWER if took < seconds)
        most -= most == classes
        if len(inputs) > most:
            inputs, labels = inputs[:most], labels[:most]
            outputs = network(inputs)
    return inputs, labels, outputs


def _batch(patient: Patient, inputs: Tensor, labels: Tensor, outputs: Any) -> Batch:
    """The batch with labels as the author's loss takes them: as given, class numbers, one-hot, a column of floats."""
    truth, width = class_numbers(labels), answers(outputs).shape[1]
    forms = [labels, truth]
    if width > 1 and int(truth.min()) >= 0 and int(truth.max()) < width:
        forms.append(nn.functional.one_hot(truth, width).float())
    forms += [truth.float().unsqueeze(1), truth.float()] if width == 1 else []
    first: Exception | None = None
    for form in forms:
        try:
            with torch.no_grad():
                patient.loss(outputs, form).double()
            return Batch(inputs, truth, form)
        except Exception as error:  # whatever an author's loss raises of labels in a form that it does not take
            first = first or error
    assert first is not None
    raise first


def _grows(patient: Patient, outputs: Any, labels: Tensor) -> float | None:
    """The loss of the batch with every example twice, by that of the batch, minus 1."""
    if not isinstance(outputs, Tensor):
        return None
    once = float(patient.loss(outputs, labels).double().mean())
    twice = float(patient.loss(torch.cat([outputs, outputs]), torch.cat([labels, labels])).double().mean())
    return twice / once - 1 if math.isfinite(twice) and abs(once) > 1e-9 else None


def _shape_of_answers(first: Tensor, last: list[Tensor]) -> dict[str, Any]:
    """What kind of numbers the answers are, before and after training."""
    every = [one.double() for one in (first, *last)]
    several = first.shape[1] > 1
    below, logs = all(bool((one >= 0).all()) for one in every), all(bool((one <= 1e-6).all()) for one in every)
    sums = all(bool(((one.sum(dim=1) - 1).abs() < 1e-3).all()) for one in every)
    exponents = all(bool((one.logsumexp(dim=1).abs() < 1e-3).all()) for one in every)
    return {
        "outputs": first.shape[1],
        "sums_to_one": several and below and sums,
        "log_probabilities": several and logs and exponents,
        "nonnegative": below and any(bool((one == 0).any()) for one in every),
    }


def _best(told: Mapping[tuple[str, float], Fitted]) -> tuple[str, float] | None:
    """The best rate; None where the time was over before one succeeded or all were tried."""
    best = max(told, key=lambda at: told[at].accuracy, default=None)
    return best if best and (told[best].accuracy >= LEARNED or len(told) >= len(PLAIN)) else None


def _kind(optimizer: str | None) -> str:
    said = (optimizer or "sgd").lower()
    return "adam" if any(name in said for name in ("adam", "yogi", "lamb", "rms")) else "sgd"


def _fitted(patient: Patient, batch: Batch, own: tuple[str, float | None]) -> dict[tuple[str, float], Fitted]:
    """Trainings by the job's own rate, then by usual ones until one succeeds or the time is over."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).zero_grad()  # the first one loads for seconds
    ends = time.perf_counter() + SECONDS
    found: dict[tuple[str, float], Fitted] = {}
    rate = own[1]
    first = [(own[0], rate)] if rate is not None and math.isfinite(rate) and rate > 0 else []
    for kind, one in dict.fromkeys([*first, *PLAIN]):
        if found and (max(fit.accuracy for fit in found.values()) >= 0.999 or time.perf_counter() > ends):
            break
        share = SECONDS / 3 if not found else SECONDS
        found[kind, one] = _by_heart(patient, batch, kind, one, min(ends, time.perf_counter() + share))
    return found


def _by_heart(patient: Patient, batch: Batch, kind: str, rate: float, ends: float) -> Fitted:
    """Train a fresh network on the batch; norm layers use the batch's statistics."""
    seeded(0)
    network = _network(patient)
    named = {name: one for name, one in network.named_parameters() if one.requires_grad}
    lowest, moved, accuracy, step, outputs = math.inf, set(), 0.0, 0, torch.full((1, 2), math.nan)
    if not named:
        return Fitted(0.0, 0, True, lowest, frozenset(), outputs, network)
    made = torch.optim.Adam if kind == "adam" else torch.optim.SGD
    optimizer = made(list(named.values()), lr=rate)
    with in_mode(network, training=True):
        for step in range(1, STEPS + 1):
            optimizer.zero_grad()
            loss = patient.loss(network(batch.inputs), batch.labels).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            lowest = min(lowest, loss.item())
            if step <= EARLY:
                moved |= _reached(named)
            optimizer.step()
            late = time.perf_counter() > ends
            if step % LOOK == 0 or late or not math.isfinite(loss.item()):
                outputs = _at_rest(network, batch.inputs)
                accuracy = max(accuracy, right(outputs, batch.truth).double().mean().item())
            if accuracy >= 0.999 or late or not math.isfinite(loss.item()):
                break
    ended = step == STEPS or not math.isfinite(loss.item())
    return Fitted(accuracy, step, ended, lowest, frozenset(moved), outputs, network)


def _at_rest(network: nn.Module, inputs: Tensor) -> Tensor:
    """The answers without dropout; norm layers use the batch and remember nothing of it."""
    with in_mode(network, training=False), torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.training, part.momentum = True, 0.0
        return answers(network(inputs))


def _reached(named: Mapping[str, nn.Parameter]) -> set[str]:
    """Parameters that have a gradient: more than rounding leaves of one that is 0, as of a bias before batch norm."""
    sizes = {name: float(one.grad.abs().max()) for name, one in named.items() if one.grad is not None}
    most = max(sizes.values(), default=0.0)
    return {name for name, size in sizes.items() if not size <= ROUNDING * most}
