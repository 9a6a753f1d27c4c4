"""What the clients' and the test data show by themselves: labels, sizes, inputs, repeats and order (M11, M17, M29)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from fedlens.diagnosis.evidence import DataAudit, Facts
from fedlens.diagnosis.probes.examples.inputs import compare, described
from fedlens.diagnosis.probes.examples.rows import repeats
from fedlens.diagnosis.probes.examples.tables import Table, Tables, Whole, counts_of, read_tables
from fedlens.diagnosis.subject.patient import Subject
from fedlens.seeds import generator

DEALS = 60


def examine_data(subject: Subject, facts: Facts, most: int = 50) -> DataAudit:
    """Look at the data of at most `most` evenly spaced clients and at the test set.

    Raises Ailing if none can be had, ConfigurationError if the job does not offer its clients' data.
    """
    tables = read_tables(subject, facts, most)
    clients, test, classes = tables.clients, tables.test, tables.classes
    sizes = {client: len(table) for client, table in clients.items()}
    counts = {client: counts_of(table.labels, classes) for client, table in clients.items()}
    low, high, malformed = _labels(tables)
    skew, null, highest = label_skew(list(counts.values()))
    compared, repeated = compare(tables), repeats(tables)
    return DataAudit(
        looked_at=tuple(clients),
        sizes=sizes,
        counts={client: tuple(row.tolist()) for client, row in counts.items()},
        low=low,
        high=high,
        malformed=malformed,
        skew=skew,
        skew_null=null,
        skew_high=highest,
        empty=tuple(client for client, size in sizes.items() if size == 0),
        single=tuple(client for client, size in sizes.items() if size == 1),
        inputs={client: described(table) for client, table in clients.items() if len(table)},
        test=described(test) if test is not None and len(test) else None,
        test_size=len(test) if test is not None else None,
        test_counts=tuple(counts_of(test.labels, classes).tolist()) if test is not None else (),
        apart=compared.apart,
        nearest=compared.nearest,
        scaled=compared.scaled,
        clusters=compared.clusters,
        mismatch=compared.mismatch,
        shapes=_shapes(tables),
        overlap=repeated.overlap,
        shared=repeated.shared,
        copies=repeated.copies,
        same=repeated.same,
        clash=repeated.clash,
        expected=repeated.expected,
        leaked=repeated.leaked,
        dealt_twice=repeated.dealt_twice,
        order_run={c: run for c, t in clients.items() if (run := order_run(t.labels)) is not None},
    )


def _labels(tables: Tables) -> tuple[int | None, int | None, float]:
    """Smallest and largest class number, and the share of malformed one-hot rows, over clients and test set."""
    held = [table for table in (*tables.clients.values(), tables.test) if table is not None and len(table)]
    said = [table for table in held if table.labels is not None]
    rows = sum(map(len, said))
    malformed = sum(table.malformed * len(table) for table in said) / max(1, rows)
    valid = [part for table in said if (part := _named(table)) is not None]
    if not valid:
        return None, None, malformed
    return int(min(part.min() for part in valid)), int(max(part.max() for part in valid)), malformed


def _named(table: Table) -> Whole | None:
    """Its labels without those of malformed rows."""
    if table.labels is None:
        return None
    kept = table.labels[table.labels >= 0] if table.malformed else table.labels
    return kept if len(kept) else None


def label_skew(counts: list[Whole]) -> tuple[float, float, float]:
    """Mean total variation between each client's labels and all, and its mean and 95th percentile if all labels were
    dealt at random to the same sizes (M11)."""
    rows = np.array([row for row in counts if row.sum()])
    if not rows.size:
        return 0.0, 0.0, 0.0
    sizes = rows.sum(axis=1)
    random, everything = generator(0, "skew"), rows.sum(axis=0)
    dealt = [_variation(_deal(sizes, everything, random)) for _ in range(DEALS)]
    return _variation(rows), float(np.mean(dealt)), float(np.quantile(dealt, 0.95))


def _deal(sizes: Whole, everything: Whole, random: np.random.Generator) -> Whole:
    left, rows = everything.copy(), []
    for size in sizes:
        rows.append(random.multivariate_hypergeometric(left, size))
        left = left - rows[-1]
    return np.array(rows)


def _variation(rows: Whole) -> float:
    shares = rows / rows.sum(axis=1, keepdims=True)
    return float(np.abs(shares - rows.sum(axis=0) / rows.sum()).sum(axis=1).mean() / 2)


def order_run(labels: Whole | None) -> float | None:
    """Mean run of equal labels by that of a shuffled order of the same labels; None where there is but one label.

    A shuffled order has 1 + (n^2 - sum n_c^2) / n runs on average (Wald and Wolfowitz, 1940)."""
    if labels is None or len(labels) < 2:
        return None
    counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
    if len(counts) < 2:
        return None
    size = float(len(labels))
    return float((1 + (size**2 - (counts**2).sum()) / size) / (1 + (labels[1:] != labels[:-1]).sum()))


def _shapes(tables: Tables) -> tuple[tuple[int, ...], ...]:
    held: Mapping[tuple[int, ...], int] = Counter(
        table.shape for table in (*tables.clients.values(), tables.test) if table is not None and len(table)
    )
    return tuple(sorted(held, key=lambda shape: -held[shape])) if len(held) > 1 else ()
