"""Whether labels say anything (M15), and the same at every client (M16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from fedlens.diagnosis.evidence import DataAudit, Facts, LabelAudit
from fedlens.diagnosis.probes.examples.answers import Doubles, Fitted, confusion, fitted, kernel, reading, reduced
from fedlens.diagnosis.probes.examples.meaning import Verdict, judged
from fedlens.diagnosis.probes.examples.tables import Floats, Table, Tables, Whole, features, read_tables
from fedlens.diagnosis.subject.patient import Subject
from fedlens.errors import ConfigurationError
from fedlens.seeds import generator

Known = NDArray[np.bool_]
POOLED = 1_300  # examples of clients that one classifier is fitted on
PLENTY = 0.9  # right answers of the kernel classifier, from which on no other one is asked
OF_TEST = 1_200
EACH = 300  # examples of a client that are answered
MOST_CLASSES = 200
FOLDS = 3


class _Taught(NamedTuple):
    """A classifier of some clients: the examples `pool` [M] that it was fitted to, and what classifiers without an
    example's own client `said` of each [M]."""

    pool: Whole
    fitted: Fitted
    said: Whole


@dataclass(frozen=True)
class _Examples:
    """Of all holders that can be compared: rows [N, k], labels [N], holder [N] (-1: the test set)."""

    rows: Doubles
    labels: Whole
    holder: Whole
    teachers: dict[tuple[int, ...], _Taught] = field(default_factory=dict)

    def taught(self, clients: Whole, classes: int) -> _Taught:
        """A classifier of `clients`, fitted once."""
        key = tuple(clients.tolist())
        if key not in self.teachers:
            each = max(20, POOLED // len(clients))
            pool = np.concatenate([_spread(self.holder == client, each) for client in clients])[: 2 * POOLED]
            found = fitted(self.rows[pool], self.labels[pool], classes)
            self.teachers[key] = _Taught(pool, found, found.left_out(self.holder[pool]))
        return self.teachers[key]


def _spread(own: NDArray[np.bool_], most: int) -> Whole:
    """At most so many places of an owner's examples, evenly spaced: they may be ordered by label."""
    places = np.flatnonzero(own)
    return places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64)]


class _Answered(NamedTuple):
    """By client, what a classifier that never saw it says of its examples; `usual`: answers by label where labels are
    trusted; `known`: classes that the classifier saw often enough, by client."""

    tables: dict[int, Whole]
    usual: Whole
    known: dict[int, Known]


def examine_labels(subject: Subject, facts: Facts, data: DataAudit) -> LabelAudit:
    """Fit quick classifiers to the clients' and the test examples and read their answers.

    Clients whose inputs are prepared otherwise (`data`) are answered, and neither learned from nor judged. Raises
    ConfigurationError where labels are no classes or nothing is left, Ailing where no data can be had.
    """
    tables = read_tables(subject, facts, max(1, len(data.looked_at)))
    odd = {*data.apart, *data.scaled} if not data.mismatch else set()
    examples = _examples(tables, odd)
    classes = tables.classes
    clean = np.setdiff1d(np.unique(examples.holder[examples.holder >= 0]), sorted(odd))
    clean = clean if len(clean) else np.unique(examples.holder[examples.holder >= 0])
    right, chance, error, count = _learnable(examples, clean, classes)
    verdicts, trusted = _verdicts(examples, clean, classes)
    said = _of_test(examples, trusted, classes)
    return LabelAudit(
        learnable=right,
        chance=chance,
        error=error,
        n=count,
        identity={client: one.identity for client, one in verdicts.items()},
        best={client: one.best for client, one in verdicts.items()},
        gain={client: one.gain for client, one in verdicts.items()},
        gain_null=max(0.1, float(np.quantile([one.chance for one in verdicts.values() if one.chance] or [0.1], 0.95))),
        maps={client: one.map for client, one in verdicts.items()},
        mapped=tuple(client for client, one in verdicts.items() if one.mapped and client not in odd),
        noisy=tuple(client for client, one in verdicts.items() if one.noisy and client not in odd),
        test_identity=said and said[0],
        test_best=said and said[1],
    )


def _examples(tables: Tables, odd: set[int]) -> _Examples:
    """At most EACH finite examples of every client and OF_TEST of the test set, reduced together."""
    random, classes = generator(0, "labels"), tables.classes
    held = {**tables.clients, -1: tables.test}
    widths = [features(t.inputs[:1]).shape[1] for c, t in held.items() if t is not None and len(t) and c not in odd]
    parts = []
    for holder, table in held.items():
        if table is None or table.labels is None or not len(table) or not classes:
            continue
        rows, labels = _usable(table, classes)
        if not len(rows) or rows.shape[1] != max(set(widths or [rows.shape[1]]), key=widths.count):
            continue
        kept = np.sort(random.permutation(len(rows))[: OF_TEST if holder < 0 else EACH])
        parts.append((rows[kept], labels[kept], np.full(len(kept), holder)))
    if not any(holder[0] >= 0 for _, _, holder in parts):
        do = "The label audit needs class numbers or one-hot rows."
        raise ConfigurationError("labels cannot be compared", where="train_data", seen="no labelled classes", do=do)
    found = np.concatenate([part[2] for part in parts])
    every = reduced(np.concatenate([part[0] for part in parts]), ~np.isin(found, sorted(odd)))
    return _Examples(every, np.concatenate([part[1] for part in parts]), found)


def _usable(table: Table, classes: int) -> tuple[Floats, Whole]:
    assert table.labels is not None
    rows = features(table.inputs)
    kept = np.isfinite(rows).all(axis=1) & (table.labels >= 0) & (table.labels < classes)
    return rows[kept], table.labels[kept]


def _learnable(examples: _Examples, clean: Whole, classes: int) -> tuple[float, float, float, int]:
    """Cross-validated accuracy of a kernel classifier or, where it leaves much open, the better of it and a forest;
    chance, its error, and examples."""
    at, known, _ = examples.taught(clean, classes)
    if len(np.unique(examples.rows[at].round(6), axis=0)) < len(at):  # copies would be remembered
        at = np.flatnonzero(np.isin(examples.holder, clean))
        at = at[np.unique(examples.rows[at].round(6), axis=0, return_index=True)[1]]
        at = generator(0, "copies").permutation(at)[:POOLED]
        known = fitted(examples.rows[at], examples.labels[at], classes)
    rows, labels, count = examples.rows[at], examples.labels[at], len(at)
    chance = float(np.bincount(labels).max() / count)
    error = float(np.sqrt(max(chance * (1 - chance), 1e-9) / count))
    if count < 4 * FOLDS or len(np.unique(labels)) < 2:
        return chance, chance, error, count
    folds = generator(0, "probe").permutation(count) % FOLDS
    right = float((known.left_out(folds) == labels).mean())
    if right > PLENTY:
        return right, chance, error, count
    grown = np.empty(count, np.int64)
    for fold in range(FOLDS):
        forest = ExtraTreesClassifier(25, min_samples_leaf=2, random_state=0).fit(
            rows[folds != fold], labels[folds != fold]
        )
        grown[folds == fold] = forest.predict(rows[folds == fold])
    return max(right, float((grown == labels).mean())), chance, error, count


def _verdicts(examples: _Examples, clean: Whole, classes: int) -> tuple[dict[int, Verdict], Whole]:
    """What is to be said of every client, and the clients whose labels are trusted.

    Judged by the test set's labels where those explain clients about as well as clients do each other; else, or where
    most clients agree on a map that only the test set does not have, by the other clients.
    """
    if classes > MOST_CLASSES:
        return {}, clean
    by_clients, trusted = _by_clients(examples, clean, classes)
    test = _by_test(examples, classes)
    if test is None:
        return by_clients, trusted
    by_test = judged(test.tables, test.usual, test.known)
    if _explained(by_test) < _explained(by_clients) - 0.1:
        return _confirmed(by_clients, by_test, test.usual), trusted
    mapped = [client for client, one in by_test.items() if one.mapped]
    agreed = sum(one.mapped for one in by_clients.values()) < len(mapped) / 2
    if len(mapped) > len(by_test) / 2 and agreed and _explained(by_clients) > _explained(by_test) - 0.1:
        return by_clients, trusted
    wrong = [client for client, one in by_test.items() if one.mapped or one.noisy]
    left = np.setdiff1d(clean, wrong)
    return by_test, left if len(left) else clean


def _confirmed(verdicts: dict[int, Verdict], by_test: Mapping[int, Verdict], usual: Whole) -> dict[int, Verdict]:
    """Verdicts by the other clients, kept where the test set says so too, unless its classifier knows nobody."""
    best = float(np.quantile([one.identity for one in by_test.values()] or [0.0], 0.9))
    if best < 0.6 * np.trace(usual) / max(1, usual.sum()):
        return verdicts
    agreed = {c for c, one in by_test.items() if one.mapped or one.noisy}
    return {c: v if c in agreed else v._replace(mapped=False, noisy=False) for c, v in verdicts.items()}


def _explained(verdicts: Mapping[int, Verdict]) -> float:
    return float(np.median([one.best for one in verdicts.values()])) if verdicts else 0.0


def _by_test(examples: _Examples, classes: int) -> _Answered | None:
    """Answers of a classifier that has seen the test set alone; None where it is too small to learn from."""
    own = np.flatnonzero(examples.holder < 0)
    known = np.bincount(examples.labels[own], minlength=classes) >= 5
    if len(own) < 30 or known.sum() < 2:
        return None
    rows, labels = examples.rows[own], examples.labels[own]
    folds = generator(0, "folds").permutation(len(own)) % FOLDS
    taught = fitted(rows, labels, classes)
    usual, tables = confusion(labels, taught.left_out(folds), classes), {}
    for client in np.unique(examples.holder[examples.holder >= 0]).tolist():
        at = np.flatnonzero(examples.holder == client)
        said = (kernel(examples.rows[at], rows) @ taught.weights).argmax(axis=1)
        tables[client] = confusion(examples.labels[at], said, classes)
    return _Answered(tables, usual, dict.fromkeys(tables, known))


def _by_clients(examples: _Examples, clean: Whole, classes: int) -> tuple[dict[int, Verdict], Whole]:
    """Verdicts by classifiers that have seen the other trusted clients; twice, the second time without the suspects."""
    trusted, verdicts = clean, dict[int, Verdict]()
    for _ in range(2):
        answered = _by_others(examples, trusted, classes)
        verdicts = judged(answered.tables, answered.usual, answered.known)
        wrong = [client for client, one in verdicts.items() if one.mapped or one.noisy]
        left = np.setdiff1d(clean, wrong)
        if len(left) < 2 or len(left) == len(trusted):
            break
        trusted = left
    return verdicts, trusted


def _by_others(examples: _Examples, trusted: Whole, classes: int) -> _Answered:
    """Every client answered by a classifier that has seen the trusted clients without it."""
    pool, found, said = examples.taught(trusted, classes)
    rows, labels, holder = examples.rows[pool], examples.labels[pool], examples.holder[pool]
    tables, known = dict[int, Whole](), {}
    for client in np.unique(examples.holder[examples.holder >= 0]).tolist():
        if client in trusted:
            tables[client] = confusion(labels[holder == client], said[holder == client], classes)
        else:
            at = np.flatnonzero(examples.holder == client)
            answers = kernel(examples.rows[at], rows) @ found.weights
            tables[client] = confusion(examples.labels[at], answers.argmax(axis=1), classes)
        elsewhere = np.bincount(labels[holder != client], minlength=classes)
        known[client] = elsewhere >= max(5.0, 0.5 * elsewhere.mean())
    usual = np.sum([tables[client] for client in trusted.tolist()], axis=0)
    return _Answered(tables, usual, known)


def _of_test(examples: _Examples, trusted: Whole, classes: int) -> tuple[float, float] | None:
    """Accuracy on the test set of a classifier fitted to the trusted clients, as it stands and under the best map."""
    own = np.flatnonzero(examples.holder < 0)
    if not len(own) or classes > MOST_CLASSES:
        return None
    taught = examples.taught(trusted, classes)
    said = (kernel(examples.rows[own], examples.rows[taught.pool]) @ taught.fitted.weights).argmax(axis=1)
    read = reading(confusion(examples.labels[own], said, classes))
    return read.identity / len(own), read.best / len(own)
