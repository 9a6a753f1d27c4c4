"""O3, O9: a few clients train in another way than the others, and than is declared."""

from __future__ import annotations

from collections import Counter
from statistics import median

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client, odd_ones
from fedlens.diagnosis.signs.reading import HONEST, listed, number, place, visits
from fedlens.diagnosis.signs.symptom import ails, misses

MORE, FEWER = 1.5, 2.5  # times the others' epochs; a last batch that is dropped takes up to half of them
STEADY = 1.1  # of a client's own epochs over its visits: where they vary they are drawn anew, and nobody is odd


def few_train_otherwise(e: Evidence) -> Finding | None:
    """O3, O9: some clients use another optimiser, or go through more or less of their data, than most do.

    Measured by M30, inside the optimiser. What is declared says who is wrong; where nothing is, it is only noted of a
    job that is well. Healthy: one optimiser, and the same epochs; of fixed numbers of steps nothing is said, nor where
    a client's work differs from visit to visit.
    """
    return _of_optimizer(e) or _of_epochs(e)


def _of_optimizer(e: Evidence) -> Finding | None:
    used = {client: said[-1] for client, said in by_client(e, lambda v: v.watched.optimizer).items()}
    usual = Counter(used.values()).most_common(1)[0][0] if used else None
    odd = tuple(sorted(client for client, name in used.items() if name != usual))
    if not odd or len(odd) > FEW * len(used):
        return None
    names = listed(sorted({used[client] for client in odd}))
    declared = (e.facts.declared.optimizer or "").lower()
    against = bool(declared) and declared == (usual or "").lower()
    return _finding(
        e,
        "O3",
        ("O4",),
        against,
        f"Clients {listed(odd)} train with {names}, the others with {usual}.",
        Measured("optimiser", "M30", names, usual or ""),
        odd,
    )


def _of_epochs(e: Evidence) -> Finding | None:
    if e.facts.declared.steps is not None:
        return None
    done = by_client(e, lambda v: _epochs(e, v))
    samples = [v.watched.samples for v in visits(e) if v.watched.samples]
    if samples and max(samples) <= STEADY * min(samples):
        return None  # as many for all, whatever they hold
    if any(max(found) > STEADY * min(found) for found in done.values()):
        return None
    epochs = {client: median(found) for client, found in done.items()}
    odd = odd_ones(epochs, MORE)
    usual = median(value for client, value in epochs.items() if client not in odd) if odd else 0.0
    cut = by_client(e, lambda v: _beyond_a_last_batch(e, v, usual))
    less = {client for client, value in odd.items() if value * FEWER < usual or all(cut.get(client, (False,)))}
    clients = tuple(sorted(client for client, value in odd.items() if value > usual or client in less))
    if not clients:
        return None
    most, said = median(odd[client] for client in clients), e.facts.declared.epochs
    against = said is not None and said > 0 and usual <= MORE * said and not said <= MORE * most <= MORE**2 * said
    return _finding(
        e,
        "O9",
        ("C1", "O3"),
        against,
        f"Clients {listed(clients)} train for {number(most)} epochs a visit, the others for {number(usual)}.",
        Measured("epochs of a visit", "M30", number(most), number(usual if said is None else said)),
        clients,
    )


def _epochs(e: Evidence, visit: Visit) -> float | None:
    held = visit.examples if e.data is None else e.data.sizes.get(visit.client, visit.examples)
    return visit.watched.samples / held if visit.watched.samples and visit.watched.steps and held > 0 else None


def _beyond_a_last_batch(e: Evidence, visit: Visit, usual: float) -> bool | None:
    """Whether a visit leaves out more than the last batch of each of the `usual` epochs."""
    held = visit.examples if e.data is None else e.data.sizes.get(visit.client, visit.examples)
    batches, samples = visit.watched.batches, visit.watched.samples
    return samples < usual * (held - max(batches)) if batches and samples else None


def _finding(
    e: Evidence,
    cause: str,
    also: tuple[str, ...],
    against: bool,
    says: str,
    line: Measured,
    clients: tuple[int, ...],
) -> Finding:
    certainty = Certainty.FOUND if against else Certainty.CONSISTENT if ails(e) else Certainty.NOTED
    return Finding(
        cause,
        certainty,
        says,
        (line,),
        "Give all clients the settings that are declared, or declare what each of them does.",
        also=also,
        clients=clients,
        where=place(e, "fit"),
        weight=max(misses(e), 0.05),
        hides=HONEST | {"A9"} if against else frozenset(),
    )
