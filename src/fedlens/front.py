"""The front door for Python: run an experiment, diagnose a job. Objects first, printing second."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group, RenderableType
from torch import nn

from fedlens.diagnosis.subject.patient import PATIENCE, Subject
from fedlens.diagnosis.verdict.plain import plain
from fedlens.errors import ConfigurationError
from fedlens.report import render_summary, write_report
from fedlens.report.doctor import render_findings
from fedlens.runs import Experiment, Progress, execute, initial_model, load_experiment
from fedlens.runs.store import Journal, write_atomically
from fedlens.tree import Tree

if TYPE_CHECKING:
    from fedlens.diagnosis.doctor import Diagnosis
    from fedlens.diagnosis.examination import Told


def run(
    experiment: Experiment | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: str = "",
    profile: bool = False,
) -> Run:
    """Run `experiment` with its references into a run folder, write its report, and return it as a Run.

    The arguments and errors are those of `fedlens.runs.execute`.
    """
    done = Run(execute(experiment, out=out, resume=resume, progress=progress, command=command, profile=profile))
    done.look()
    done.report()
    return done


def diagnose(
    what: Run | str | Path | Callable[..., Any] | Any,
    *,
    fix: bool = False,
    patience: float = PATIENCE,
    tell: Told | None = None,
) -> Diagnosis:
    """Examine `what`: a Run, a run folder, "FILE.py:FUNCTION", a function that makes a fedlens.Job, or such a job.

    `fix` also tries the remedies and proves them at equal budget. `patience`: seconds for one call of the job's own
    code. A job itself is copied for every part of the examination; give a function where it cannot be.
    """
    # What examines needs scikit-learn, which takes as long to load as the rest.
    from fedlens.diagnosis.doctor import diagnose as examine
    from fedlens.diagnosis.passive import completed
    from fedlens.diagnosis.prescription import treated
    from fedlens.diagnosis.subject.target import subject_of

    if isinstance(what, Run | str | Path):
        named = str(what.path if isinstance(what, Run) else what)
        subject, folder = subject_of(named, patience), Path(named)
        if (folder / "experiment.toml").is_file():
            found = completed(examine(subject, tell=tell), folder)
            experiment = load_experiment(folder / "experiment.toml")
            return replace(found, treatments=treated(experiment, found, tell or _silent)[0]) if fix else found
    elif callable(what):
        subject = Subject(what, getattr(what, "__name__", "job"), patience)
    else:
        subject = Subject(lambda: copy.deepcopy(what), type(what).__name__, patience)
    return examine(subject, fix=fix, tell=tell)


class Run:
    """A run folder, read. `metrics[name]` is an array over rounds (nan where a round was not evaluated)."""

    def __init__(self, path: str | Path, summary: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        if not (self.path / "experiment.toml").is_file():
            raise ConfigurationError("this is no run folder", where=str(path), do="It has no experiment.toml.")
        self._summary = summary

    @cached_property
    def experiment(self) -> Experiment:
        """What was run, defaults included."""
        return load_experiment(self.path / "experiment.toml")

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Each number of rounds.jsonl over rounds, from the untrained model (round 0) on."""
        rows = Journal(self.path).rows()
        names = {name: None for row in rows for name, value in row.items() if isinstance(value, int | float)}
        return {name: np.array([_or_nan(row.get(name)) for row in rows]) for name in names}

    @property
    def accuracy(self) -> np.ndarray:
        """What the run is judged by, over rounds: test accuracy, or personal accuracy without a global model."""
        return self.metrics["accuracy" if "accuracy" in self.metrics else "personal_accuracy"]

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json; raises ConfigurationError while the run is unfinished."""
        if self._summary is None:
            path = self.path / "summary.json"
            if not path.is_file():
                raise ConfigurationError("the run is not finished", where=str(self.path), do="Resume it first.")
            self._summary = json.loads(path.read_text())
        return self._summary

    @property
    def profile(self) -> dict[str, Any] | None:
        """profile.json, where the last call that ran this run was asked for it."""
        path = self.path / "profile.json"
        found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return found

    def model(self) -> nn.Module:
        """The trained module, from the last checkpoint."""
        e = self.experiment
        module = initial_model(replace(e, model=replace(e.model, start=None, fresh=())))  # its layout is all we need
        state = Journal(self.path).latest(Tree.of(module, self.experiment.engine.dtype))
        if state is None:
            raise ConfigurationError("the run has no checkpoint", where=str(self.path), do="Resume it first.")
        return state.load_into(module)

    def look(self) -> None:
        """Write findings.json: what the run's own record says of causes, without running anything."""
        from fedlens.diagnosis.passive import findings

        found = findings(self.experiment, self.summary, Journal(self.path).rows())
        told = {"suspects": plain(found), "noted": [], "ruled_out": [], "treatments": [], "evidence": None}
        write_atomically(self.path / "findings.json", json.dumps(told, indent=1, allow_nan=False) + "\n")

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What findings.json names; [] on a healthy run."""
        path = self.path / "findings.json"
        found: list[dict[str, Any]] = json.loads(path.read_text())["suspects"] if path.is_file() else []
        return found

    def report(self) -> Path:
        """Write report.html anew and return its path."""
        return write_report(self.path)

    def __rich__(self) -> RenderableType:
        if not self.findings:
            return render_summary(self.summary)
        return Group(render_summary(self.summary), render_findings(self.findings, str(self.path)))

    def __repr__(self) -> str:
        console = Console(width=100, color_system=None, file=io.StringIO())
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def _repr_html_(self) -> str:
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def _silent(stage: str) -> None:
    """Tell nobody."""


def _or_nan(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
