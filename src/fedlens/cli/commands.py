"""The commands. Each imports what it needs when it runs, so that `fedlens --help` waits for nothing."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedlens.runs import Experiment

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="On failure, show the traceback.")]
DataDir = Annotated[Path | None, typer.Option(help="Where data sets lie (before FEDLENS_DATA and the cache).")]


def run(
    experiment: Annotated[
        str | None, typer.Argument(help="A TOML file, or the recipe 'digits'.", show_default="digits")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: KEY=VALUE.")] = None,
    seed: Annotated[int | None, typer.Option(help="The run's seed.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder (default: a new one in runs/).")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out (default: runs/latest).")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the rounds' time goes.")] = False,
    data_dir: DataDir = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Train a federation and compare it with its references. Without arguments: real digits, under a minute."""
    changes = [*(set_ or ()), *([f"seed={seed}"] if seed is not None else ())]
    changes += [f"data.directory={json.dumps(str(data_dir.absolute()))}"] if data_dir else []
    given = _given(experiment, changes, out, resume=resume, dry_run=dry_run)
    if dry_run and given is not None:
        from fedlens.cli.dry import plan_of, print_plan

        with _answers_only():
            plan = plan_of(given)
        print(json.dumps(plan, indent=1)) if json_ else print_plan(plan)
        return
    from fedlens.cli.progress import Line
    from fedlens.front import run as run_experiment

    with Line() as line, _answers_only():
        command = shlex.join(["fedlens", *sys.argv[1:]])
        done = run_experiment(given, out=out, resume=resume, progress=line, command=command, profile=profile)
    if done.profile is not None and profile:
        from fedlens.report.terminal import render_profile

        _print(render_profile(done.profile), sys.stderr)
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
    from fedlens.report.table import compare_figure

    check_figure(figure)
    comparison = compare_runs(runs)
    if figure:
        save_figure(compare_figure(runs), figure)
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
    clients: Annotated[int, typer.Option(help="To how many clients.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the deal.", min=0)] = 0,
    size: Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE.", min=1)] = None,
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
    check_figure(figure)
    with _answers_only():
        split = listing.dealt(source, partition, clients, seed, size, data_dir)
    if figure:
        save_figure(listing.drawn(split), figure)
    listing.print_split(split, figure, as_json=json_)


def models(json_: Json = False, verbose: Verbose = False) -> None:
    """List the models: parameters, million operations per image, bytes per update."""
    from fedlens.cli import listing

    listing.print_models(as_json=json_)


def methods(json_: Json = False, verbose: Verbose = False) -> None:
    """List the federated methods and where they come from."""
    from fedlens.cli import listing

    listing.print_methods(as_json=json_)


def _given(
    experiment: str | None, changes: list[str], out: Path | None, *, resume: bool, dry_run: bool
) -> Experiment | None:
    """The experiment asked for; None where a run is resumed as it was recorded."""
    from fedlens.errors import ConfigurationError
    from fedlens.runs import load_experiment

    if resume and dry_run:
        do = "Leave one of the two away."
        raise ConfigurationError("a dry run plans a whole run, not the rest of one", where="--dry-run --resume", do=do)
    if not resume:
        return load_experiment(experiment or "digits", changes)
    if experiment or not changes:
        return load_experiment(experiment, changes) if experiment else None
    from fedlens.runs.folder import existing

    return load_experiment(existing(out) / "experiment.toml", changes)


@contextlib.contextmanager
def _answers_only() -> Iterator[None]:
    """Keep stdout for the answer: what a user's own functions print goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def check_figure(path: Path | None) -> None:
    """Raise ConfigurationError unless `path` is one that a figure can be drawn into."""
    from fedlens.errors import ConfigurationError

    if path is not None and path.suffix not in (".svg", ".png"):
        do = "End its name in .svg or .png."
        raise ConfigurationError("a figure is drawn as .svg or .png", where="--figure", seen=str(path), do=do)


def save_figure(figure: Figure, path: Path) -> None:
    """Write `figure`; ConfigurationError where that is impossible."""
    from fedlens.errors import ConfigurationError
    from fedlens.report.figures import save

    try:
        save(figure, path)
    except OSError as error:
        do = "Name a file in a folder that can be written."
        raise ConfigurationError("the figure cannot be written", where=str(path), seen=error, do=do) from None


def _print(what: Any, to: TextIO | None = None) -> None:
    from rich.console import Console

    to = sys.stdout if to is None else to
    Console(file=to, width=None if to.isatty() else 110).print(what)
