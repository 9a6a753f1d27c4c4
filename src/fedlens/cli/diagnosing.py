"""`fedlens diagnose`: why a job fails, on one page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fedlens.cli.commands import Json, Verbose, _answers_only, _print

Target = Annotated[
    Path | None,
    typer.Argument(help="A run folder, FILE.py:FUNCTION that makes a job, or a log.", show_default="runs/latest"),
]


def diagnose(
    target: Target = None,
    fix: Annotated[bool, typer.Option("--fix", help="Make the change, prove it at equal budget, print it.")] = False,
    patience: Annotated[float, typer.Option(help="Seconds that one call of the job's code may take.", min=0.1)] = 120.0,
    report: Annotated[Path | None, typer.Option(help="Write the page with its drawings into this .html file.")] = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say why a federated job fails, with evidence: a run of fedlens, anybody's job, or a log alone."""
    from fedlens.diagnosis.doctor import diagnose as examine
    from fedlens.diagnosis.doctor import of_log
    from fedlens.diagnosis.subject.target import is_log, subject_of
    from fedlens.report.doctor import render_diagnosis

    named = str(target or "runs/latest")
    with _answers_only():
        if is_log(named):
            told = of_log(Path(named)).as_dict()
        else:
            told = examine(subject_of(named, patience), fix=fix, tell=_telling()).as_dict()
    if report is not None:
        from fedlens.report.doctor import write_diagnosis

        write_diagnosis(told, report)
    if (Path(named) / "experiment.toml").is_file():
        from fedlens.runs.store import write_atomically

        write_atomically(Path(named) / "findings.json", json.dumps(told, indent=1, allow_nan=False) + "\n")
    print(json.dumps(told, indent=1, allow_nan=False)) if json_ else _print(render_diagnosis(told))


def _telling() -> Any:
    """Progress on stderr: a line that changes on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def tell(stage: str) -> None:
        sys.stderr.write(f"\r\x1b[Kexamining {stage}")
        sys.stderr.flush()

    return tell
