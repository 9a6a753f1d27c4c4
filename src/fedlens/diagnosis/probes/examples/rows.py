"""Which examples stand in more than one place (M29), told from those that repeat because few values are possible."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fedlens.diagnosis.probes.examples.tables import Table, Tables

TEST = -1
ALIKE = 3  # examples that two holders must have in common before they can be called the same


class Repeats(NamedTuple):
    """Shares of examples, less what chance explains; `expected`: share of test examples that chance explains. By client
    that has some: `leaked`, of its examples that are test examples; `dealt_twice`, that another client holds too."""

    overlap: float = 0.0
    shared: float = 0.0
    copies: float = 0.0
    same: tuple[int, ...] = ()
    clash: float = 0.0
    expected: float = 0.0
    leaked: Mapping[int, float] = MappingProxyType({})
    dealt_twice: Mapping[int, float] = MappingProxyType({})


def repeats(tables: Tables) -> Repeats:
    """Exact repeats of inputs over and within holders.

    Rows that repeat within two holders at once are values that many examples share (blank images, tables with few
    distinct rows) and count for nothing. Of the others, equal pairs within holders by equal pairs across them, each by
    the number of possible pairs, tell chance: independent draws collide as often within as across, examples that were
    dealt twice collide across only, copies within only.
    """
    holders = {client: _hashes(table) for client, table in tables.clients.items() if len(table)}
    if tables.test is not None and len(tables.test):
        holders[TEST] = _hashes(tables.test)
    if len(set().union(*holders.values())) == sum(map(len, holders.values())):
        return Repeats()  # nothing repeats
    counted = {holder: Counter(rows) for holder, rows in holders.items()}
    places: dict[int, list[int]] = defaultdict(list)
    for holder, rows in counted.items():
        for row in rows:
            places[row].append(holder)
    usual = {row for row, at in places.items() if sum(counted[holder][row] > 1 for holder in at) > 1}
    clients = {holder: rows for holder, rows in holders.items() if holder != TEST}
    within, across = _rates(counted, places, usual)
    chance = _explained(across, within)
    test, sizes = holders.get(TEST, []), sum(map(len, clients.values()))
    hit = sum(any(holder != TEST for holder in places[row]) for row in test)
    rare_hit = sum(row not in usual and any(holder != TEST for holder in places[row]) for row in test)
    several = _twice(places, usual)
    twice = sum(row in several for rows in clients.values() for row in rows)
    copied = sum(n - 1 for h in clients for row, n in counted[h].items() if row not in usual)
    leaked = (1 - chance) * rare_hit / max(1, len(test))
    few = _few(counted, usual)
    drawn = _explained(copied / max(1.0, sum(n * (n - 1) / 2 for n in map(len, clients.values()))), across)
    return Repeats(
        overlap=leaked,
        shared=(1 - chance) * twice / max(1, sizes),
        copies=0.0 if few else (1 - drawn) * copied / max(1, sizes),
        same=_same(clients, usual) if chance < 0.5 else (),
        clash=0.0 if few or chance >= 0.5 else _clash(tables, clients, usual),
        expected=hit / max(1, len(test)) - leaked,
        leaked=_shares(clients, {row for row in test if row not in usual}, 1 - chance),
        dealt_twice=_shares(clients, several, 1 - chance),
    )


def _twice(places: Mapping[int, list[int]], usual: set[int]) -> set[int]:
    """Rows that more than one client holds."""
    return {row for row, at in places.items() if row not in usual and sum(holder != TEST for holder in at) > 1}


def _shares(clients: Mapping[int, list[int]], known: set[int], part: float) -> dict[int, float]:
    shares = {client: part * sum(row in known for row in rows) / len(rows) for client, rows in clients.items()}
    return {client: share for client, share in shares.items() if share > 0}


def _hashes(table: Table) -> list[int]:
    rows = table.inputs.reshape(len(table), -1)
    values = np.ascontiguousarray((rows.abs() if rows.is_complex() else rows.float()).numpy()) + np.float32(0)
    return [hash(row.tobytes()) for row in values]


def _rates(
    counted: Mapping[int, Counter[int]], places: Mapping[int, list[int]], usual: set[int]
) -> tuple[float, float]:
    """Equal pairs of rows that are not `usual`, by possible pairs: within holders and across them. A holder that
    repeats its rows far more than the rest was copied, and says nothing of chance."""
    sizes = {holder: sum(n for row, n in rows.items() if row not in usual) for holder, rows in counted.items()}
    possible = {holder: n * (n - 1) / 2 for holder, n in sizes.items()}
    pairs = {holder: sum(n > 1 for row, n in rows.items() if row not in usual) for holder, rows in counted.items()}
    kept = set(pairs)
    for one in sorted(pairs, key=lambda holder: -pairs[holder] / max(1.0, possible[holder])):
        rest = kept - {one}
        usually = sum(pairs[h] for h in rest) / max(1.0, sum(possible[h] for h in rest))
        if len(rest) > 1 and pairs[one] > 5 and pairs[one] > 5 * usually * possible[one]:
            kept = rest
    possible_across = (sum(sizes.values()) ** 2 - sum(n**2 for n in sizes.values())) / 2
    across = sum(len(at) * (len(at) - 1) / 2 for row, at in places.items() if row not in usual)
    within = sum(pairs[h] for h in kept) / max(1.0, sum(possible[h] for h in kept))
    return within, across / max(1.0, possible_across)


def _explained(rate: float, by: float) -> float:
    """Which part of `rate` the other rate explains: all of it from half on, for both are counts of few pairs."""
    share = by / rate if rate else 0.0
    return 1.0 if share > 0.5 else share


def _few(counted: Mapping[int, Counter[int]], usual: set[int]) -> bool:
    """Whether most examples have values that repeat everywhere: a table with few distinct rows."""
    everything = sum(sum(rows.values()) for rows in counted.values())
    return sum(n for rows in counted.values() for row, n in rows.items() if row in usual) > 0.2 * everything


def _same(clients: Mapping[int, list[int]], usual: set[int]) -> tuple[int, ...]:
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for client, rows in clients.items():
        if len({row for row in rows if row not in usual}) >= ALIKE or len(set(rows)) >= ALIKE:
            groups[tuple(sorted(rows))].append(client)
    return tuple(sorted(client for group in groups.values() if len(group) > 1 for client in group))


def _clash(tables: Tables, clients: Mapping[int, list[int]], usual: set[int]) -> float:
    """Share of examples whose input stands elsewhere with another label."""
    said: dict[int, set[int]] = defaultdict(set)
    for client, rows in clients.items():
        labels = tables.clients[client].labels
        if labels is not None:
            for row, label in zip(rows, labels.tolist(), strict=True):
                said[row].add(label)
    everything = [row for rows in clients.values() for row in rows if row not in usual]
    return sum(len(said[row]) > 1 for row in everything) / max(1, len(everything))
