"""D6: the same examples at clients, or in the test set."""

from __future__ import annotations

from fedlens.diagnosis.evidence import DataAudit, Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent

LEAST = 0.02  # of a client's examples
NEARLY_ALL = 0.9  # of the clients: then it is no matter of some


def examples_are_copied(e: Evidence) -> Finding | None:
    """D6: test examples that clients train on, or clients that hold the same data: the result is too good.

    Measured by M29, exact hashes of inputs; a healthy split shares none.
    """
    if e.data is None:
        return None
    leaked, same = e.data.overlap > 0.02, len(e.data.same) > 1
    if not (leaked or same):
        return None
    said = []
    if leaked:
        said.append(f"{percent(e.data.overlap)} of the test examples stand in clients' training data")
    if same:
        said.append(f"{len(e.data.same)} clients hold the same examples")
    return Finding(
        "D6",
        Certainty.FOUND,
        " and ".join(said).capitalize() + ".",
        (
            Measured("test examples that clients hold", "M29", percent(e.data.overlap), "0 %"),
            Measured("clients with equal data", "M29", str(len(e.data.same)), "0"),
        ),
        "Split before dealing, and deal every example once. Accuracy may fall: it was measured on known examples.",
        clients=_whose(e.data, leaked),
        weight=0.3,
        silent=True,
        hides=frozenset({"P2"}) if same else frozenset(),
    )


def _whose(x: DataAudit, leaked: bool) -> tuple[int, ...]:
    """The clients that hold test examples, or one another's; nobody where nearly all do."""
    some = {client for client, share in x.leaked.items() if leaked and share > LEAST} | set(x.same)
    return tuple(sorted(some)) if len(some) < NEARLY_ALL * len(x.looked_at) else ()
