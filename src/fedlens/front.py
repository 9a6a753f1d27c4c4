"""The front door for Python: run an experiment and get a Run to look at. Objects first, printing second."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from torch import nn

from fedlens.errors import ConfigurationError
from fedlens.report import render_summary, write_report
from fedlens.runs import Experiment, Progress, execute, initial_model, load_experiment
from fedlens.runs.store import Journal
from fedlens.tree import Tree


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
    done.report()
    return done


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

    def report(self) -> Path:
        """Write report.html anew and return its path."""
        return write_report(self.path)

    def __rich__(self) -> RenderableType:
        return render_summary(self.summary)

    def __repr__(self) -> str:
        console = Console(width=100, color_system=None, file=io.StringIO())
        with console.capture() as capture:
            console.print(self)
        return capture.get()

    def _repr_html_(self) -> str:
        console = Console(width=100, record=True, file=io.StringIO())
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def _or_nan(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
