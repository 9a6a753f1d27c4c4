"""Which kind of component a function is, and what a right one of that kind would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fedlens.diagnosis.conformance.aggregators import WORDS as AGGREGATOR
from fedlens.diagnosis.conformance.aggregators import examine as examine_aggregator
from fedlens.diagnosis.conformance.clients import WORDS as CLIENT
from fedlens.diagnosis.conformance.clients import examine as examine_client
from fedlens.diagnosis.conformance.load import Component
from fedlens.diagnosis.conformance.metrics import WORDS as METRIC
from fedlens.diagnosis.conformance.metrics import examine as examine_metric
from fedlens.diagnosis.conformance.partitioners import WORDS as PARTITIONER
from fedlens.diagnosis.conformance.partitioners import examine as examine_partitioner
from fedlens.diagnosis.conformance.result import Check, Conformance
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.errors import ConfigurationError


class _Kind(NamedTuple):
    """`words`: names that parameters of this kind have; `examine`: raises Ailing where the function cannot be called
    as one of this kind."""

    words: frozenset[str]
    examine: Callable[[Component, str | None], tuple[str, tuple[Check, ...]]]


_KINDS = {
    "aggregator": _Kind(AGGREGATOR, examine_aggregator),
    "metric": _Kind(METRIC, examine_metric),
    "partitioner": _Kind(PARTITIONER, examine_partitioner),
    "client": _Kind(CLIENT, examine_client),
}
KINDS = tuple(_KINDS)


def check(path: str, kind: str | None = None, declared: str | None = None) -> Conformance:
    """Examine the function at `path` as one of `kind`, or as what its parameters and its answers say it is.

    `declared` states an intent that is then no fault: uniform, median, trimmed-mean, krum, sum, iid ... Raises
    ConfigurationError if there is no such function, or if it may be of any kind.
    """
    if kind is not None and kind not in _KINDS:
        do = f"Choose one of {', '.join(KINDS)}."
        raise ConfigurationError("there is no such kind of component", where="--kind", seen=kind, do=do)
    component = Component(path)
    failures: dict[str, Ailing] = {}
    likely = [kind] if kind else _likely(component)
    for one in likely:
        try:
            called, checks = _KINDS[one].examine(component, declared)
            return Conformance(path, one, called, checks)
        except Ailing as failure:
            failures[one] = failure
    first = likely[0]
    if kind is None and not _score(component, first):
        do = f"Say which it is: --kind {' | '.join(KINDS)}."
        seen = ", ".join(parameter.name for parameter in component.names) or "no parameters"
        raise ConfigurationError("it does not show what it is", where=path, seen=seen, do=do)
    seen = failures[first].problems[0].seen
    why = "It fails on valid input; if it is no such component, say what it is with --kind."
    return Conformance(path, first, "", (Check("it can be called", False, seen, "an answer", why),))


def _likely(component: Component) -> list[str]:
    """The kinds, the one first whose parameters' names fit best."""
    return sorted(_KINDS, key=lambda kind: -_score(component, kind))


def _score(component: Component, kind: str) -> float:
    """How many of the parameters have names of this kind; those that must be given count more."""
    names = [(one.name.lower().strip("_"), one.default is one.empty) for one in component.names]
    return sum((1.0 if needed else 0.4) for name, needed in names if name in _KINDS[kind].words)
