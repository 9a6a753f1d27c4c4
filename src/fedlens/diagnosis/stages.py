"""The parts of an examination in their order: the cheapest first, each from a fresh job, each allowed to fail alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedlens.diagnosis.counterfactuals import counterfactuals, own_code
from fedlens.diagnosis.evidence import DataAudit, Evidence, Round
from fedlens.diagnosis.examination import WATCHED, Examination
from fedlens.diagnosis.forensics import examine_log, read_log
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.aggregation import examine_aggregation
from fedlens.diagnosis.probes.data import examine_data
from fedlens.diagnosis.probes.evaluating import examine_evaluating
from fedlens.diagnosis.probes.handling import examine_handling
from fedlens.diagnosis.probes.labels import examine_labels
from fedlens.diagnosis.probes.learning import examine_learning
from fedlens.diagnosis.probes.participation import examine_participation
from fedlens.diagnosis.probes.rounds.visits import finite
from fedlens.diagnosis.signs.few import rarely_seen, unseen

EVERYBODY = 300  # clients whose data are looked at where some of the first have another kind
CALLED, LEAST_CALLED = 0.25, 2.0  # of a run, and seconds, that visits beside the rounds may take
UNSEEN = 0.05  # of a run, for clients that no round played has asked


def examine(x: Examination) -> None:
    """All of it."""
    first_rounds(x)
    without_training(x)
    the_network(x)
    their_data(x)
    the_log(x)
    what_is_reported(x)
    further_rounds(x)
    what_is_reported(x)
    roll_call(x)
    counterfactuals(x)
    own_code(x)


def first_rounds(x: Examination) -> None:
    """Who is asked, and the first rounds, fully watched: much of what is wrong shows in them."""
    with x.part("participation"):
        x.learn(participation=examine_participation(x.subject, x.evidence.facts))
    for number in range(1, min(WATCHED, x.evidence.facts.rounds) + 1):  # what one shows need not wait for the next
        _play(x, number, (1, 2))


def without_training(x: Examination) -> None:
    """All that needs hardly a visit: the aggregator, how clients and states are handled."""
    facts = x.evidence.facts
    with x.part("the aggregator"):
        x.learn(aggregation=examine_aggregation(x.subject, facts))
    with x.part("how clients and states are handled"):
        x.learn(handling=examine_handling(x.subject, facts))


def their_data(x: Examination) -> None:
    """The clients' examples and, where they are sound as far as is known, what their labels mean."""
    with threadpool_limits(1):  # on a busy machine their threads wait for each other
        if "train_data" in x.evidence.facts.offers:
            with x.part("the clients' data"):
                x.learn(data=examine_data(x.subject, x.evidence.facts))
        if x.evidence.data is not None:
            _what_labels_mean(x, x.evidence.data)


def _what_labels_mean(x: Examination, data: DataAudit) -> None:
    facts = x.evidence.facts
    held = {client: [c for c, n in enumerate(row) if n] for client, row in data.counts.items()}
    with x.part("classes that are never seen"):
        x.learn(participation=examine_participation(x.subject, facts, held))
    if not x.examples_are_broken:
        with x.part("the labels"):
            x.learn(labels=examine_labels(x.subject, facts, data))
    if len(data.looked_at) < facts.clients and x.some_data_are_odd:
        with x.part("all clients' data"):
            data = examine_data(x.subject, facts, EVERYBODY)
            x.learn(data=data)
            if x.evidence.labels is not None:
                x.learn(labels=examine_labels(x.subject, facts, data))


def further_rounds(x: Examination) -> None:
    """The job's own rounds, on to where its curve says something."""
    _play(x, x.length, (x.length // 2, x.length))


def roll_call(x: Examination) -> None:
    """Where something is wrong with some clients only, a visit to those of whom too little was seen; elsewhere to those
    whom the plan asks later, where they are few."""
    seen, played, share, least = rarely_seen(x.evidence, x.findings()), x.played, CALLED, LEAST_CALLED
    if played is None or not played.rounds:
        return
    asked = sum(len(one.asked) for one in played.rounds) / len(played.rounds)
    most = round(max(2 * asked, CALLED * asked * x.evidence.facts.rounds))
    if not seen and not x.exact:
        seen, share, least = unseen(x.evidence), UNSEEN, LEAST_CALLED / 2
        most = round(min(asked, UNSEEN * asked * x.evidence.facts.rounds))
    if not seen[:most]:
        return
    state = next((state for _, state in reversed(x.models) if finite(state)), x.patient.init)
    with x.part("clients of whom little was seen"):
        x.learn(beside=x.playing.beside(seen[:most], state, max(least, share * (x.run_seconds or 0.0))))


def _play(x: Examination, count: int, kept: Sequence[int]) -> None:
    """On up to round `count`; the models after the rounds `kept` are remembered."""

    def each(round: Round, state: State) -> None:
        model = {name: value.clone() for name, value in state.items()}
        if round.number in kept:
            x.models.append((round.number, model))
        if x.examiner is not None:
            x.curve.append(x.examiner.exam(model).accuracy)

    with x.part("rounds of the job"):
        before = None if x.played is None else x.played.failure
        x.playing.play(count, watched=WATCHED, each=each)
        x.played = x.playing.played
        facts = x.evidence.facts
        x.learn(rounds=x.played.rounds, facts=replace(facts, payload=x.played.payload or facts.payload))
        if x.played.failure is not None and before is None:
            x.missed(f"rounds after {len(x.played.rounds)}", " ".join(str(x.played.failure).split()))


def the_network(x: Examination) -> None:
    """The network and its loss, which needs to know how the job trains."""
    facts, offers = x.evidence.facts, x.evidence.facts.offers
    if {"model", "train_data"} <= offers:
        with x.part("the network and its loss"):
            x.learn(learning=examine_learning(x.subject, facts, rate(x.evidence), optimizer(x.evidence)))
    lacking = [name for name in ("model", "loss", "train_data", "test_data") if name not in offers]
    if lacking:
        x.missed("what needs the job's " + ", ".join(lacking), "the job does not offer it (see fedlens.Job)")


def what_is_reported(x: Examination) -> None:
    """The models that are known so far, examined by the author's `evaluate` and by the doctor."""
    facts = x.evidence.facts
    if x.models:
        with x.part("what is reported"):
            numbers = {number for number, _ in x.models}
            told = [round.reported for round in x.evidence.rounds if round.number in numbers]
            x.learn(evaluating=examine_evaluating(x.subject, facts, x.examiner, x.models, reported=told))


def the_log(x: Examination) -> None:
    """What was printed."""
    facts = x.evidence.facts
    if "log" in facts.offers:
        with x.part("the log"):
            rows, said = read_log(x.patient.job.log), facts.declared.test_size
            size = said if said is not None or x.evidence.data is None else x.evidence.data.test_size
            values, printed = [row.value for row in rows], [row.printed for row in rows]
            x.learn(log=examine_log(values, printed=printed, claimed=size, classes=facts.classes))


def rate(e: Evidence) -> float | None:
    """The local rate, as first measured, else as declared."""
    seen = [visit.watched.rates[0] for round in e.rounds for visit in round.visits if visit.watched.rates]
    return seen[0] if seen else e.facts.declared.lr


def optimizer(e: Evidence) -> str | None:
    """The local optimiser, as first measured, else as declared."""
    seen = [visit.watched.optimizer for round in e.rounds for visit in round.visits if visit.watched.optimizer]
    return seen[0] if seen else e.facts.declared.optimizer
