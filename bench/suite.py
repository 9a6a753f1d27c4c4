"""How fast is a round? fedlens beside a careful plain PyTorch loop, in turn, on the same clients and batches.

Each contender lives in a process of its own and does a round when it is told to, in an order that changes. A ratio is
the median over pairs of rounds of the rival's seconds by fedlens's: above 1 fedlens is faster. The rival is timed in
both its forms, one process with a thread for each core and one process for each core, and the faster one counts.

    python bench/suite.py                        all workloads
    python bench/suite.py W1 W5 --repeats 7      those whose names begin so
    python bench/suite.py W3 --engine kind=sequential,threads=1 --engine kind=workers --json out.json
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import tell
from apart import Apart, Refused, foreign_load, neighbour
from workloads import Workload, chosen

ENGINES = ["kind=auto"]  # what a user gets who sets nothing
FOLDER = "FEDLENS_BENCH"  # see `material`, which must not be loaded here
Seconds = dict[str, list[float]]


class Maker(NamedTuple):
    """How a contender is made: a class as "module:name", and what it is given."""

    maker: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Options:
    """What is asked of every workload. `accuracy`: after so many rounds, 0 for not at all."""

    engines: Mapping[str, Mapping[str, Any]]
    repeats: int
    folder: Path
    cores: int
    neighbour: bool = False
    memory: bool = False
    accuracy: int = 0
    seeds: int = 3

    def rivals(self, work: Workload, file: Path) -> dict[str, Maker]:
        """The rival's forms."""
        forms = {f"{self.cores} threads": (self.cores, 0), f"{self.cores} processes": (1, self.cores)}
        if self.cores == 1:
            forms = {"1 thread": (1, 0)}
        return {name: Maker("contenders:Rival", (work, str(file), *form)) for name, form in forms.items()}

    def fedlens(self, work: Workload, seed: int = 0) -> dict[str, Maker]:
        """fedlens with each engine."""
        return {name: Maker("contenders:Fedlens", (work, seed, engine)) for name, engine in self.engines.items()}

    def precision(self, engine: str) -> str:
        """In which an engine computes."""
        return str(self.engines[engine].get("precision", "float32"))

    def served(self, key: str, work: Workload, rounds: int, seed: int = 0) -> tuple[Path, dict[str, Any]]:
        """A file with the rounds that the rival is to do, and the facts about them."""
        file = self.folder / f"{key}-{seed}.pt"
        with Apart("material:Kitchen", work, seed, rounds, str(file)) as kitchen:
            return file, kitchen.ask("facts").value


def compared(key: str, work: Workload, options: Options) -> list[dict[str, Any]]:
    """A workload's rows, one for each engine that took it."""
    turns = 1 + options.repeats * (2 if options.neighbour else 1)
    file, facts = options.served(key, work, max(turns, 3))
    rivals, engines = options.rivals(work, file), options.fedlens(work)
    quiet, busy = timed({**rivals, **engines}, options, key)
    best = min(rivals, key=lambda name: median(quiet[name]))
    memory = peak_memory({best: rivals[best], **engines}) if options.memory else {}
    reached = accuracies(key, work, options, best) if options.accuracy else {}
    rows = []
    for engine in (name for name in engines if name in quiet):
        rows.append(
            {
                "workload": key,
                "title": work.title,
                "engine": engine,
                "precision": options.precision(engine),
                "rival": best,
                **facts,
                **rates(facts, quiet[engine], quiet[best]),
                "seconds": {name: quiet[name] for name in (engine, *rivals)},
                "slowed": {name: median(busy[name]) / median(quiet[name]) for name in (engine, *rivals) if busy},
                "memory": {name: memory[name] for name in (engine, best) if memory},
                "accuracy": {name: reached[name] for name in (engine, best) if reached},
            }
        )
    return rows


def crowd(key: str, work: Workload, options: Options) -> list[dict[str, Any]]:
    """Rows of a workload that is compared with itself among fewer registered clients: quotients of time and memory."""
    assert work.fewer is not None
    rows = []
    for engine, settings in options.engines.items():
        few = replace(work, clients=work.fewer)
        pair = {str(w.clients): Maker("contenders:Fedlens", (w, 0, settings)) for w in (work, few)}
        many, fewer = pair
        quiet, _ = timed(pair, replace(options, neighbour=False), key)
        if len(quiet) < len(pair):
            continue
        memory = peak_memory(pair)
        times = [one / other for one, other in zip(quiet[many], quiet[fewer], strict=True)]
        row = {"workload": key, "title": work.title, "engine": engine, "clients": [work.clients, few.clients]}
        row |= {"time_ratio": median(times), "memory_ratio": memory[many] / memory[fewer]}
        rows.append({**row, "seconds": quiet, "memory": memory})
    return rows


def timed(makers: Mapping[str, Maker], options: Options, key: str) -> tuple[Seconds, Seconds]:
    """Seconds of every contender's rounds, alone and beside a busy neighbour, where one is asked for."""
    with ExitStack() as stack:
        contenders = {}
        for name, maker in makers.items():
            try:
                contenders[name] = stack.enter_context(Apart(maker.maker, *maker.values))
                contenders[name].ask("round")  # the first round starts pools and fills caches
            except Refused as reason:
                contenders.pop(name, None)
                print(f"{key:<6} {name} left out: {str(reason).splitlines()[0]}", file=sys.stderr)
        quiet, busy = alternated(contenders, options.repeats), {}
        if options.neighbour:
            with neighbour():
                busy = alternated(contenders, options.repeats)
    return quiet, busy


def alternated(contenders: Mapping[str, Apart], repeats: int) -> Seconds:
    """Wall seconds of `repeats` rounds of each, measured in turn; who begins changes."""
    seconds: Seconds = {name: [] for name in contenders}
    names = list(contenders)
    for repeat in range(repeats):
        at = repeat % max(1, len(names))
        for name in names[at:] + names[:at]:
            seconds[name].append(contenders[name].ask("round").seconds)
    return seconds


def rates(facts: Mapping[str, Any], ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """Images and operations a second, and the quotient of paired rounds, with its extremes."""
    pairs = [their / our for our, their in zip(ours, theirs, strict=True)]
    images, other = (facts["images"] / median(seconds) for seconds in (ours, theirs))
    return {
        "ratio": median(pairs),
        "extremes": [min(pairs), max(pairs)],
        "images_per_second": images,
        "rival_images_per_second": other,
        "gflops": images * facts["mflop"] / 1e3,
        "rival_gflops": other * facts["mflop"] / 1e3,
    }


def peak_memory(makers: Mapping[str, Maker]) -> dict[str, int]:
    """Bytes that each holds at most during three rounds, with nothing else about; loading is past by then."""
    found = {}
    for name, maker in makers.items():
        try:
            with Apart(maker.maker, *maker.values) as one:
                found[name] = max(one.ask("round", watch=True).peak for _ in range(3))
        except Refused:  # as was told when it was timed
            continue
    return found


def accuracies(key: str, work: Workload, options: Options, form: str) -> dict[str, list[float]]:
    """Test accuracy of each engine and of the rival in one form, one number for each seed."""
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        file, _ = options.served(key, work, options.accuracy, seed)
        makers = {form: options.rivals(work, file)[form], **options.fedlens(work, seed)}
        for name, maker in makers.items():
            try:
                with Apart(maker.maker, *maker.values) as one:
                    for _ in range(options.accuracy):
                        one.ask("round")
                    found.setdefault(name, []).append(one.ask("accuracy").value)
            except Refused:
                continue
    return found


def settings(text: str) -> dict[str, Any]:
    """Engine settings from "name=value,name=value"; a whole number where a value is one, else a text."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


def arguments(given: list[str] | None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="beginnings of names; none: all")
    parser.add_argument("--engine", action="append", help=f"settings of fedlens.Engine, repeatable; default {ENGINES}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the clients: to see that it works")
    parser.add_argument("--neighbour", action="store_true", help="again beside one busy process")
    parser.add_argument("--memory", action="store_true", help="peak memory too, one contender at a time")
    parser.add_argument("--accuracy", type=int, default=0, metavar="ROUNDS", help="test accuracy after so many rounds")
    parser.add_argument("--seeds", type=int, default=3, help="of --accuracy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--record", action="store_true", help="append to bench/RECORDS.md")
    found = parser.parse_args(given)
    try:
        chosen(found.workloads)
    except ValueError as wrong:
        parser.error(str(wrong))
    if found.record and found.quick:
        parser.error("a quick look is not a record; leave --quick or --record out")
    return found


def main(given: list[str] | None = None) -> dict[str, Any]:
    """Time what is asked for, print a line for each workload and engine, and return all numbers."""
    asked = arguments(given)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # noise will do where data are not at hand
    works = chosen(asked.workloads)
    engines = {text: settings(text) for text in asked.engine or ENGINES}
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        extras = (asked.neighbour, asked.memory, asked.accuracy, asked.seeds)
        options = Options(engines, asked.repeats, Path(folder), cores, *extras)
        found: dict[str, Any] = {"machine": machine(options, asked.quick), "rows": []}
        print(tell.heading(found["machine"]))
        for key, work in works.items():
            run = compared if work.fewer is None else crowd
            for row in run(key, work.smaller() if asked.quick else work, options):
                print(tell.line(row, found["machine"]), flush=True)
                found["rows"].append(row)
    if asked.json:
        asked.json.write_text(tell.as_json(found))
    if asked.record:
        tell.record(found, Path(__file__).with_name("RECORDS.md"), sys.argv[1:] if given is None else given)
    return found


def machine(options: Options, quick: bool) -> dict[str, Any]:
    """The machine, its load, its peaks in every precision that is asked for, and the code that is timed."""
    precisions = {"float32", *map(options.precision, options.engines)}
    facts = {**tell.place(), "cores": options.cores, "load": foreign_load(0.2 if quick else 1.0), "peaks": {}}
    for precision in sorted(precisions, reverse=True):
        for threads in sorted({1, options.cores}):
            with Apart("peaks:Peaks") as peaks:
                measured = peaks.ask("measured", threads, precision, quick).value
            facts["peaks"].setdefault(precision, {})[str(threads)] = measured
    return facts


if __name__ == "__main__":
    main()
