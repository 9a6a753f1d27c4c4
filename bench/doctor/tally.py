"""From what was said of each job, and the truth, to the scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from statistics import fmean, median

CATALOGUE = 97  # causes to choose from
RECOVERED = 0.8  # of the gap, for a repair to count
Pair = tuple["Told", "Truth"]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What ails a job; the fields are told in truth.toml. Nothing is accepted of a healthy one."""

    accepted: tuple[str, ...]
    group: str
    severity: str
    clients: tuple[int, ...] = ()
    repairable: bool = True
    silent: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Said:
    """One suspect, as the doctor names it."""

    cause: str
    also: tuple[str, ...] = ()
    certainty: int = 0
    clients: tuple[int, ...] = ()
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of one examination. `runs`, `first`: its cost, and until the first suspect, in training runs of the
    job; `recovered`, `verified`: of the treatment, None without; `tried`: what each treatment did, in words; `failed`:
    why there is no diagnosis."""

    job: str
    seed: int = 0
    suspects: tuple[Said, ...] = ()
    noted: tuple[str, ...] = ()
    runs: float | None = None
    first: float | None = None
    recovered: float | None = None
    verified: bool | None = None
    tried: tuple[str, ...] = ()
    seconds: float = 0.0
    failed: str = ""


def hits(said: Said, truth: Truth) -> bool:
    """Whether a suspect is the truth, by its own id or one that it gives as saying the same."""
    return bool({said.cause, *said.also} & set(truth.accepted))


def place(told: Told, truth: Truth) -> int | None:
    """Where among the first three suspects the truth stands, from 1."""
    return next((rank for rank, said in enumerate(told.suspects[:3], 1) if hits(said, truth)), None)


def overlap(told: Told, truth: Truth) -> float:
    """F1 of the clients that the first right suspect names."""
    rank = place(told, truth)
    named = set(told.suspects[rank - 1].clients) if rank else set()
    return 2 * len(named & set(truth.clients)) / (len(named) + len(truth.clients))


def located(told: Told, truth: Truth) -> bool:
    """Whether the first right suspect names the file of the fault."""
    rank = place(told, truth)
    where = told.suspects[rank - 1].where if rank else ""
    return PurePath(where.rsplit(":", 1)[0]).name in truth.files


def repaired(told: Told, truth: Truth) -> bool:
    """Whether the treatment is proven, and gives back enough where accuracy was lost."""
    return bool(told.verified) and (truth.silent or (told.recovered or 0.0) >= RECOVERED)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Shares from 0 to 1, None where there was nothing to measure. `top1`, `top3`: means over groups of causes;
    `strict`: top1 without ids that are only said to be the same; `severity`: top1 by severity. `alarms`, `healthy`:
    healthy examinations with a suspect, and all. `clients`: F1; `files`: share whose file is named; costs in training
    runs. `repairs`: share of repairable ones; `needless`: healthy examinations with a treatment; `failed`: examinations
    without a diagnosis."""

    ailing: int
    top1: float | None
    top3: float | None
    strict: float | None
    severity: dict[str, float] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)
    alarms: int
    healthy: int
    clients: float | None = None
    files: float | None = None
    runs: float | None = None
    most_runs: float | None = None
    first: float | None = None
    repairs: float | None = None
    needless: int | None = None
    failed: int = 0


def scores(all_told: Sequence[Told], truths: dict[str, Truth], treated: bool = False) -> Scores:
    """Over all examinations; `treated`: whether treatments were asked for."""
    pairs = [(told, truths[told.job]) for told in all_told]
    ailing = [(told, truth) for told, truth in pairs if truth.accepted]
    healthy = [told for told, truth in pairs if not truth.accepted]
    some = [(told, truth) for told, truth in ailing if truth.clients]
    in_files = [(told, truth) for told, truth in ailing if truth.files]
    curable = [(told, truth) for told, truth in ailing if truth.repairable]
    costs = [told.runs for told in all_told if told.runs is not None]
    until = [told.first for told, truth in ailing if place(told, truth) == 1 and told.first is not None]
    by_group = _by(ailing, lambda truth: truth.group, lambda told, truth: place(told, truth) == 1)
    by_group3 = _by(ailing, lambda truth: truth.group, lambda told, truth: place(told, truth) is not None)
    by_strict = _by(ailing, lambda truth: truth.group, _strictly)
    return Scores(
        ailing=len(ailing),
        top1=_mean(by_group.values()),
        top3=_mean(by_group3.values()),
        strict=_mean(by_strict.values()),
        severity=_by(ailing, lambda truth: truth.severity, lambda told, truth: place(told, truth) == 1),
        groups=by_group,
        alarms=sum(bool(told.suspects) for told in healthy),
        healthy=len(healthy),
        clients=_mean(overlap(*pair) for pair in some),
        files=_mean(located(*pair) for pair in in_files),
        runs=median(costs) if costs else None,
        most_runs=max(costs, default=None),
        first=median(until) if until else None,
        repairs=_mean(repaired(*pair) for pair in curable) if treated else None,
        needless=sum(told.verified is not None for told in healthy) if treated and healthy else None,
        failed=sum(bool(told.failed) for told in all_told),
    )


HEAD = f"{'job':5} {'seed':>4} {'truth':8} {'said':24} {'place':>5} {'runs':>6} {'first':>6} {'fix':>6} {'s':>6}"


def row(told: Told, truth: Truth) -> str:
    """One examination, under HEAD. `fix`: share recovered, or "proven" by what was broken alone, with ? where that is
    not proven; below it what each treatment did."""
    said = told.failed or ", ".join(_name(one) for one in told.suspects) or "nothing"
    rank = place(told, truth) if truth.accepted else None
    right = str(rank or "-") if truth.accepted else ("false" if told.suspects else "ok")
    share = "proven" if told.recovered is None and told.verified else f"{told.recovered or 0:.2f}"
    fix = "-" if told.verified is None else f"{share}{'' if told.verified else '?'}"
    cost = " ".join("     -" if value is None else f"{value:6.2f}" for value in (told.runs, told.first))
    wanted = ",".join(truth.accepted) or "healthy"
    start = f"{told.job:5} {told.seed:4d} {wanted:8} {said:24.60} {right:>5}"
    return "\n      ".join((f"{start} {cost} {fix:>6} {told.seconds:6.1f}", *told.tried))


def summary(names: Sequence[str], columns: Sequence[Scores]) -> str:
    """The scores side by side, one column for each of `names`."""
    rows = [
        ("top-1, mean over groups", [one.top1 for one in columns]),
        ("top-3, mean over groups", [one.top3 for one in columns]),
        ("top-1 by its own id alone", [one.strict for one in columns]),
        *((f"top-1, {what}", [one.severity.get(what) for one in columns]) for what in columns[0].severity),
        ("false alarms", [one.alarms if one.healthy else None for one in columns]),
        ("  of healthy examinations", [one.healthy for one in columns]),
        ("faulty clients, F1", [one.clients for one in columns]),
        ("file of the fault named", [one.files for one in columns]),
        ("cost, median, training runs", [one.runs for one in columns]),
        ("cost, most", [one.most_runs for one in columns]),
        ("cost until the first is right", [one.first for one in columns]),
        ("repairs proven", [one.repairs for one in columns]),
        ("  treated though healthy", [one.needless for one in columns]),
        ("examinations that failed", [one.failed for one in columns]),
    ]
    lines = [" " * 30 + "".join(f"{name:>14}" for name in names)]
    for what, values in rows:
        lines.append(f"{what:30}" + "".join(f"{_number(value):>14}" for value in values))
    return "\n".join(lines)


def by_chance(truths: Sequence[Truth]) -> Scores:
    """What three causes drawn from the catalogue come to, on average; every healthy job is a false alarm."""
    ailing = [truth for truth in truths if truth.accepted]

    def found(draws: int) -> Callable[[Truth], float]:
        def chance(truth: Truth) -> float:
            missed = 1.0
            for draw in range(draws):
                missed *= (CATALOGUE - len(truth.accepted) - draw) / (CATALOGUE - draw)
            return 1 - missed

        return chance

    healthy = len(truths) - len(ailing)
    once, thrice = found(1), found(3)
    return Scores(
        ailing=len(ailing),
        top1=_mean(_grouped(ailing, once).values()),
        top3=_mean(_grouped(ailing, thrice).values()),
        strict=_mean(_grouped(ailing, lambda truth: 1 / CATALOGUE).values()),
        severity={},
        alarms=healthy,
        healthy=healthy,
    )


def _grouped(truths: Iterable[Truth], value: Callable[[Truth], float]) -> dict[str, float]:
    found = defaultdict(list)
    for truth in truths:
        found[truth.group].append(value(truth))
    return {key: fmean(values) for key, values in sorted(found.items())}


def _by(pairs: Sequence[Pair], key: Callable[[Truth], str], value: Callable[[Told, Truth], bool]) -> dict[str, float]:
    found = defaultdict(list)
    for told, truth in pairs:
        found[key(truth)].append(value(told, truth))
    return {name: fmean(values) for name, values in sorted(found.items())}


def _strictly(told: Told, truth: Truth) -> bool:
    return bool(told.suspects) and told.suspects[0].cause in truth.accepted


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return fmean(kept) if kept else None


def _name(said: Said) -> str:
    return said.cause + (f"({','.join(said.also)})" if said.also else "")


def _number(value: float | int | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"
