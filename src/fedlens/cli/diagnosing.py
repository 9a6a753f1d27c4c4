"""`fedlens diagnose`: why a job fails, on one page."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedlens.cli.commands import Json, Verbose, _answers_only, _print

if TYPE_CHECKING:
    from fedlens.diagnosis.doctor import Diagnosis

Target = Annotated[
    Path | None,
    typer.Argument(help="A run folder, FILE.py:FUNCTION that makes a job, or a log.", show_default="runs/latest"),
]
Tell = Callable[[str], None]


def diagnose(
    target: Target = None,
    fix: Annotated[bool, typer.Option("--fix", help="Make the change, prove it at equal budget, print it.")] = False,
    patience: Annotated[float, typer.Option(help="Seconds that one call of the job's code may take.", min=0.1)] = 120.0,
    classes: Annotated[int | None, typer.Option(help="Of a log alone: how many classes there are.", min=2)] = None,
    test_size: Annotated[int | None, typer.Option(help="Of a log alone: of how many test examples.", min=1)] = None,
    report: Annotated[Path | None, typer.Option(help="Write the page with its drawings into this .html file.")] = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say why a federated job fails, with evidence: a run of fedlens, anybody's job, or a log alone."""
    from fedlens.diagnosis.subject.target import is_log

    named = str(target or "runs/latest")
    _check(named, report, log=is_log(named), given=classes is not None or test_size is not None, fix=fix)
    with _answers_only():
        told = _told(named, fix=fix, patience=patience, classes=classes, test_size=test_size)
    if report is not None:
        from fedlens.report.doctor import write_diagnosis

        write_diagnosis(told, report)
    if (Path(named) / "experiment.toml").is_file():
        from fedlens.runs.store import write_atomically

        write_atomically(Path(named) / "findings.json", json.dumps(told, indent=1, allow_nan=False) + "\n")
    if json_:
        print(json.dumps(told, indent=1, allow_nan=False))
        return
    from fedlens.report.doctor import render_diagnosis

    _print(render_diagnosis(told))


def _told(named: str, *, fix: bool, patience: float, classes: int | None, test_size: int | None) -> dict[str, Any]:
    """The diagnosis of what is `named`, in plain values."""
    from fedlens.diagnosis.doctor import diagnose as examine
    from fedlens.diagnosis.doctor import of_log
    from fedlens.diagnosis.subject.target import is_log, subject_of

    if is_log(named):
        return of_log(Path(named), classes, test_size).as_dict()
    with _Line() as tell:
        own = (Path(named) / "experiment.toml").is_file()
        found = examine(subject_of(named, patience), fix=fix and not own, tell=tell)
        if own:
            from fedlens.diagnosis.passive import completed

            found = completed(found, Path(named))
        return _prescribed(found, Path(named), tell) if own and fix else found.as_dict()


def _prescribed(found: Diagnosis, folder: Path, tell: Tell) -> dict[str, Any]:
    """The diagnosis of a run of fedlens with the change that answers it, written to fixed.toml in its folder."""
    from fedlens.diagnosis.prescription import treated
    from fedlens.runs import as_toml, load_experiment
    from fedlens.runs.store import write_atomically

    experiment = load_experiment(folder / "experiment.toml")
    done, fixed, further = treated(experiment, found, tell)
    told = dataclasses.replace(found, treatments=done).as_dict()
    if fixed is not None:
        write_atomically(folder / "fixed.toml", as_toml(fixed))
        told |= {"fixed": str(folder / "fixed.toml"), "further": further}
    elif found.suspects and not done:
        told |= {"fixed": None}
    return told


def _check(named: str, report: Path | None, *, log: bool, given: bool, fix: bool) -> None:
    """Raise ConfigurationError for options that do not go with what is named, before any work."""
    from fedlens.errors import ConfigurationError

    if report is not None and report.suffix != ".html":
        what, do = "the page is an .html file", "End its name in .html."
        raise ConfigurationError(what, where="--report", seen=str(report), do=do)
    if report is not None and not report.parent.is_dir():
        what, do = "the page cannot be written", "Name a file in a folder that is there."
        raise ConfigurationError(what, where="--report", seen=f"no folder {report.parent}", do=do)
    if given and not log:
        what, do = "a job says itself what it is tested on", "Leave --classes and --test-size to logs."
        raise ConfigurationError(what, where="--classes --test-size", seen=named, do=do)
    if fix and log:
        what, do = "a log cannot be mended", "Name the run folder or the job that printed it, or leave --fix out."
        raise ConfigurationError(what, where="--fix", seen=named, do=do)


class _Line:
    """Progress on stderr: a line that changes on a terminal and is gone at the end; nothing elsewhere."""

    def __enter__(self) -> Tell:
        return self.tell

    def __exit__(self, *ended: object) -> None:
        self.show("")

    def tell(self, stage: str) -> None:
        """Say which part begins."""
        self.show(f"examining {stage}"[:78])

    def show(self, text: str) -> None:
        """Put `text` in the place of what the line says."""
        with suppress(OSError):
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()
