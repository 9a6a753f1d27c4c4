"""The commands. Each imports what it needs when it runs, so that `fedlens --help` waits for nothing."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fedlens.runs import Experiment

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="On failure, show the traceback.")]
DataDir = Annotated[Path | None, typer.Option(help="Where data sets lie (before FEDLENS_DATA and the cache).")]


def run(
    experiment: Annotated[str, typer.Argument(help="A TOML file, or the recipe 'digits'.")] = "digits",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: KEY=VALUE.")] = None,
    seed: Annotated[int | None, typer.Option(help="The run's seed.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder (default: a new one in runs/).")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out (default: runs/latest).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    data_dir: DataDir = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a federation and compare it with its references. Without arguments: real digits, under a minute."""
    changes = [*(set_ or ()), *([f"seed={seed}"] if seed is not None else ())]
    changes += [f"data.directory={json.dumps(str(data_dir.absolute()))}"] if data_dir else []
    given = None if resume and experiment == "digits" and not changes else _load(experiment, changes)
    if dry_run:
        from fedlens.cli.dry import plan_of, print_plan

        plan = plan_of(given or _load(experiment, changes))
        print(json.dumps(plan, indent=1)) if json_ else print_plan(plan)
        return
    from fedlens.cli.progress import Line
    from fedlens.front import run as run_experiment

    with Line() as line:
        done = run_experiment(
            given, out=out, resume=resume, progress=line, command=shlex.join(["fedlens", *sys.argv[1:]])
        )
    if json_:
        print(json.dumps({**done.summary, "path": str(done.path)}, indent=1))
        return
    _print(done)
    print(f"report: {done.path / 'report.html'}")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    figure: Annotated[Path | None, typer.Option(help="Draw the accuracy curves into this .svg or .png file.")] = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Put runs side by side: accuracy, references, cost, and the settings in which they differ."""
    from fedlens.report import compare as compare_runs
    from fedlens.report import render
    from fedlens.report.figures import save
    from fedlens.report.table import compare_figure

    comparison = compare_runs(runs)
    if figure:
        save(compare_figure(runs), figure)
    print(json.dumps(comparison.as_dict(), indent=1)) if json_ else _print(render(comparison))


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")] = Path("runs/latest"),
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write a run's report, one self-contained HTML file, and print where it is."""
    from fedlens.report import write_report

    path = write_report(run)
    print(json.dumps({"report": str(path)}) if json_ else path)
    if open_:
        typer.launch(str(path))


def data(
    source: Annotated[
        str | None, typer.Argument(help="A source, such as cifar10 or folder:PATH; none: list them.")
    ] = None,
    partition: Annotated[str, typer.Option(help="How to deal it: iid, shards:2, dirichlet:0.1 ...")] = "iid",
    clients: Annotated[int, typer.Option(help="To how many clients.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the deal.")] = 0,
    size: Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the split into this .svg or .png file.")] = None,
    data_dir: DataDir = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say what data there is, and what a split of it over clients looks like, in numbers and drawn."""
    from fedlens.cli import listing

    if source is None:
        listing.print_sources(as_json=json_)
        return
    listing.print_split(source, partition, clients, seed, size, data_dir, figure, as_json=json_)


def models(json_: Json = False, verbose: Verbose = False) -> None:
    """List the models: parameters, million operations per image, bytes per update."""
    from fedlens.cli import listing

    listing.print_models(as_json=json_)


def methods(json_: Json = False, verbose: Verbose = False) -> None:
    """List the federated methods and where they come from."""
    from fedlens.cli import listing

    listing.print_methods(as_json=json_)


def _load(experiment: str, changes: list[str]) -> Experiment:
    from fedlens.runs import load_experiment

    return load_experiment(experiment, changes)


def _print(what: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 110).print(what)
