"""What there is: sources and their splits, models, methods; as tables or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from fedlens.data import SOURCES, Data, Split, known_sources, load
from fedlens.errors import ConfigurationError
from fedlens.methods import METHODS
from fedlens.models import MODELS, Model, build, cost
from fedlens.partition import AnyPartition, Natural, describe
from fedlens.report import render_split
from fedlens.report.figures import split_figure
from fedlens.seeds import generator
from fedlens.settings import problems_of


def print_sources(*, as_json: bool) -> None:
    """The sources: the known sets with their sizes and where they come from, then the open forms."""
    rows = [
        {
            "source": name,
            "image": "x".join(map(str, known.shape)),
            "classes": len(known.classes),
            "train": known.train,
            "test": known.test,
            "hub": known.hub,
            "licence": known.licence,
            "citation": known.citation,
        }
        for name, known in SOURCES.items()
    ]
    _show(rows, as_json)
    if not as_json:
        print("also: " + ", ".join(form for form in known_sources() if form not in SOURCES))


def print_models(*, as_json: bool) -> None:
    """Every model at its own image shape and ten classes."""
    rows = []
    for name, entry in MODELS.items():
        with torch.device("meta"):  # shapes without weights: nothing is drawn or computed
            network = cost(build(Model(name), entry.shape, 10), entry.shape)
        rows.append(
            {
                "model": name,
                "norm": entry.norm,
                "image": "x".join(map(str, entry.shape)),
                "parameters": network.parameters,
                "MFLOP per image": round(network.mflop, 2),
                "bytes per update": network.update_bytes,
                "description": entry.about,
            }
        )
    _show(rows, as_json)


def print_methods(*, as_json: bool) -> None:
    """Every method with its settings and source."""
    rows = []
    for name, make in METHODS.items():
        words = (make.__doc__ or "").strip().splitlines()[0]
        rows.append({"method": name, "settings": dict(make().settings), "source": make().source, "description": words})
    _show(rows, as_json)


@dataclass(frozen=True)
class Dealt:
    """A source dealt to clients: its examples, the deal in numbers, and examples by client and class [K, C]."""

    source: str
    kind: str
    split: Split
    counts: np.ndarray
    numbers: dict[str, Any]


def dealt(source: str, partition: str, clients: int, seed: int, size: int | None, directory: Path | None) -> Dealt:
    """Load `source`, deal it and describe the deal."""
    kind = _partition(partition)
    split = load(Data(source, size=size, directory=str(directory) if directory else None))
    labels, classes = split.train.labels.numpy(), len(split.train.classes)
    column = split.train.columns.get(kind.column) if isinstance(kind, Natural) else None
    deal = kind.deal(labels, clients, generator(seed, "deal"), column)
    numbers = describe(deal, labels, classes, generator(seed, "describe")).as_dict()
    return Dealt(source, kind.kind, split, deal.counts(labels, classes), numbers)


def drawn(deal: Dealt) -> Figure:
    """The split as a figure."""
    return split_figure(deal.counts, deal.split.train.classes)


def print_split(deal: Dealt, figure: Path | None, *, as_json: bool) -> None:
    """The split in numbers; `figure` is where it was drawn."""
    split = deal.split
    if as_json:
        about = {"source": deal.source, "kind": deal.kind, "test": split.test_is}
        print(json.dumps({**about, **deal.numbers}, indent=1))
        return
    shape = "x".join(map(str, split.train.shape))
    examples = f"{len(split.train):,} training examples of {shape}, {len(split.train.classes)} classes"
    print(f"{deal.source}: {examples}; test: {split.test_is}")
    _console().print(render_split({"kind": deal.kind, **deal.numbers}, deal.counts, split.train.classes))
    if figure:
        print(f"figure: {figure}")


def _partition(text: str) -> Any:
    try:
        return TypeAdapter(AnyPartition).validate_python(text)
    except ValidationError as error:
        problems = problems_of(error, type(None), place=lambda path: "--partition")
        raise ConfigurationError.of(problems) from None


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, (name, value) in enumerate(rows[0].items()):
        number = isinstance(value, int | float)
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number or not at)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    _console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        said = {key: f"{item:g}" if isinstance(item, float) else item for key, item in value.items()}
        return ", ".join(f"{key} {item}" for key, item in said.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value or "")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 110)
