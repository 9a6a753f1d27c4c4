"""A9: one client, or a few, decide the aggregate."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import by_client
from fedlens.diagnosis.signs.reading import (
    HONEST,
    client_side,
    effect,
    listed,
    lost,
    middle,
    number,
    place,
    underperforms,
    visits,
)

FORGED, LARGE, PER_STEP = 3.0, 10.0, 5.0  # healthy updates differ by 1.1 to 3 (M07), and by steps where sizes do
OUTSIDE = 6.0  # median deviations that such a client is below the others
HARM = -0.1  # nats that a client's own loss rises by its training


def client_dominates(e: Evidence) -> Finding | None:
    """A9: a client's update is many times the others', it reports forged counts, or it makes its own loss worse.

    Measured by M07, ||D_i|| by the median, also by step, and by counts reported against counts held. Healthy: ratios of
    1.1 to 3. Clients whose data already explain it (scale, labels) are left to those signs.
    """
    forged = _forged(e)
    large = {} if forged else _large(e)
    harmful = () if forged or large else _harmful(e)
    clients = tuple(sorted(forged or large or harmful))
    if not clients or len(clients) > e.facts.clients / 3 or _explained(e, clients):
        return None
    drop = effect(e, "drop-clients")
    proven = (drop is not None and drop.clear) or client_side(e)
    certainty = Certainty.FOUND if forged else Certainty.NOTED
    if not forged and underperforms(e):
        certainty = Certainty.SUPPORTED if proven else Certainty.CONSISTENT
    if forged:
        worst = max(forged.values())
        line = Measured("reported examples by examples held", "M30", f"up to {number(worst)}", "1")
    elif large:
        worst = max(large.values())
        line = Measured("size of the update by the median client's", "M07", f"up to {number(worst)}", "1.1 to 3")
    else:
        worst = 1.0
        line = Measured("change of their own loss by their training", "M09", "it rises at every visit", "it falls")
    what = "reports too many examples" if forged else "sends far larger updates" if large else "unlearns its own data"
    return Finding(
        "A9",
        certainty,
        f"Client {listed(clients)} {what} than the others: {line.yours}."
        if large
        else f"Client {listed(clients)} {what}: {line.yours}.",
        (line,),
        "Bound updates by their norm or take a trimmed mean, cap the counts, and look at these clients.",
        source="Blanchard et al. 2017; Sun et al. 2019",
        treatment="drop-clients",
        clients=clients,
        where=place(e, "fit"),
        weight=max(0.1, lost(e)),
        hides=HONEST,
    )


def _forged(e: Evidence) -> dict[int, float]:
    """Clients that report far more examples than they hold, by what the others report of theirs."""
    wrong = e.handling.examples_wrong if e.handling is not None else {}
    ratios = {client: told / true for client, (told, true) in wrong.items() if true > 0}
    usual = median(ratios.values()) if len(ratios) > e.facts.clients / 2 else 1.0
    held = {} if e.data is None else e.data.sizes
    seen = {client: median(told) for client, told in by_client(e, lambda v: v.examples).items()}
    every = {client: told / held[client] for client, told in seen.items() if held.get(client)}
    if len(every) > 2:
        ratios, usual = {**every, **ratios}, median(every.values())
    if e.facts.declared.weighting == "uniform" or usual <= 0:
        return {}
    return {client: ratio / usual for client, ratio in ratios.items() if ratio > FORGED * usual}


def _large(e: Evidence) -> dict[int, float]:
    """Clients far above the median in most of their visits, by update and by step; with the median ratio."""
    return {client: ratio for client, ratio in sizes(e).items() if ratio > LARGE}


def sizes(e: Evidence) -> dict[int, float]:
    """Client -> its update by the median one of the round, in the middle of its visits; 0 where steps explain it."""
    ratios: dict[int, list[float]] = defaultdict(list)
    for one in e.rounds:
        finite = [v for v in one.visits if v.finite and v.norm > 0]
        usual, usual_step = middle(v.norm for v in finite), middle(v.norm / (v.watched.steps or 1) for v in finite)
        if len(finite) < 3 or not usual or not usual_step:
            continue
        for v in finite:
            by_step = v.norm / (v.watched.steps or 1) / usual_step
            ratios[v.client].append(v.norm / usual if by_step > PER_STEP else 0.0)
    return {client: median(found) for client, found in ratios.items()}


def _harmful(e: Evidence) -> tuple[int, ...]:
    gains: dict[int, list[float]] = defaultdict(list)
    for v in visits(e):
        if v.gain is not None:
            gains[v.client].append(v.gain)
    typical = [median(found) for found in gains.values()]
    usual = middle(typical)
    if usual is None or usual < 0.02 or len(gains) < 4:
        return ()
    spread = middle(abs(one - usual) for one in typical) or 0.0  # wide where a large rate makes clients overshoot
    bound = min(HARM, usual - OUTSIDE * spread)
    # One visit in a bad round, with dropout or a large rate, is chance.
    return tuple(client for client, found in gains.items() if len(found) > 1 and max(found) < bound)


def _explained(e: Evidence, clients: tuple[int, ...]) -> bool:
    by_data = set(e.data.scaled) | set(e.data.apart) if e.data is not None else set()
    by_labels = set(e.labels.mapped) | set(e.labels.noisy) if e.labels is not None else set()
    return set(clients) <= by_data | by_labels
