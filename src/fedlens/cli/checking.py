"""`fedlens check`: one component examined alone, on one page."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from fedlens.cli.commands import Json, Verbose

if TYPE_CHECKING:
    from fedlens.diagnosis.conformance import Conformance

MARKS = {True: ("ok", "green"), False: ("FAILS", "bold red"), None: ("note", "yellow")}


def check(
    path: Annotated[str, typer.Argument(help="FILE.py:FUNCTION or package.module:function.")],
    kind: Annotated[str | None, typer.Option(help="aggregator, client, partitioner or metric.")] = None,
    declared: Annotated[
        str | None, typer.Option(help="What it is meant to do: uniform, median, trimmed-mean, krum, sum, iid ...")
    ] = None,
    json_: Json = False,
    verbose: Verbose = False,
) -> None:
    """Examine an aggregator, a client update, a partitioner or a metric alone, in seconds and without data."""
    from fedlens.diagnosis.conformance import check as examine

    with redirect_stdout(sys.stderr):  # what the function prints is no answer of ours
        found = examine(path, kind, declared)
    if json_:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_conformance(found)
    if not found.conforms:
        raise typer.Exit(1)


def print_conformance(found: Conformance) -> None:
    """One page: what it is, every check with what was seen and what was wanted, and the verdict."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(Text(f"{found.path}: {found.kind}" + (f", called as {found.called}" if found.called else "")))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "check", "seen", "wanted"):
        table.add_column(heading)
    for one in found.checks:
        mark, style = MARKS[one.passed]
        seen = Text(one.seen)
        if one.why and one.passed is not True:
            seen.append(f"\n{one.why}", style="dim")
        table.add_row(Text(mark, style=style), Text(one.name), seen, Text(one.wanted))
    console.print(table)
    verdict = "CONFORMS" if found.conforms else "DOES NOT CONFORM: " + "; ".join(found.reasons)
    console.print(Text(verdict, style="bold green" if found.conforms else "bold red"))
