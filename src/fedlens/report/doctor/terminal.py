"""A diagnosis as one page of the terminal: the verdict first, then its evidence, the limits last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedlens.report.terminal import Bar
from fedlens.report.units import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

LABEL = 13  # characters of the left column
STYLES = {"found": "bold red", "supported": "bold yellow", "consistent": "yellow", "noted": "dim"}
CERTAINTY = {
    "found": "FOUND (exact)",
    "supported": "SUPPORTED by a counterfactual",
    "consistent": "CONSISTENT WITH",
    "noted": "NOTED",
}


def render_diagnosis(told: Mapping[str, Any]) -> RenderableType:
    """The page of `told`, a Diagnosis.as_dict()."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    page = Table.grid(padding=(0, 1))
    page.add_column(width=LABEL, style="bold")
    page.add_column(overflow="fold")
    for label, what in _sections(told):
        page.add_row(label, what)
        page.add_row("", "")
    runs = told["cost"]["runs"]
    took = duration(sum(told["seconds"].values()))
    exam = f"exam: {took}" + (f", {runs:.1f} training runs" if runs is not None else "")
    facts = told["evidence"]["facts"]
    of = f"{facts['clients']} clients, {facts['cohort']} a round / " if facts["clients"] else ""
    job = f"{told['name']} / {of}{facts['rounds']} rounds"
    return Group(Text(f"FEDERATED DOCTOR  {job}  {exam}", style="dim"), Text(""), page)


def render_findings(suspects: Sequence[Mapping[str, Any]], path: str) -> RenderableType:
    """What a run's own record says is wrong, in a few lines below its numbers."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    lines: list[RenderableType] = []
    for one in suspects:
        text = Text(CERTAINTY[one["certainty"]], style=STYLES[one["certainty"]])
        text.append(f"  {one['says']} ({one['cause']})\n", style="bold")
        text.append(one["remedy"])
        lines.append(Padding(text, (1, 0, 0, 0)))
    lines.append(Text(f"whole examination: fedlens diagnose {path}", style="dim"))
    return Group(*lines)


def _sections(told: Mapping[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    from rich.text import Text

    suspects = told["suspects"]
    if not suspects:
        yield "VERDICT", Text("NO FAULT FOUND", style="bold green")
    for place, one in enumerate(suspects):
        yield "VERDICT" if place == 0 else "AND", _verdict(one)
    if bars := told["bars"]:
        yield "GAP", _bars(bars)
    if suspects:
        yield "EVIDENCE", _evidence(suspects)
    if told["ruled_out"]:
        yield "RULED OUT", Text("\n".join(f"{one['what']}: {one['number']}" for one in told["ruled_out"]))
    for one in suspects:
        remedy = one["remedy"] + (f"  ({one['where']})" if one["where"] else "")
        yield f"REMEDY {one['cause']}", Text(remedy)
    for one in told["treatments"]:
        yield f"PROOF {one['finding']['cause']}", Text(one["says"], style="green" if one["verified"] else "")
    if told["noted"]:
        yield "ALSO NOTICED", Text("\n".join(f"{one['says']} ({one['cause']})" for one in told["noted"]), style="dim")
    if missing := told["evidence"]["unexamined"]:
        yield "NOT EXAMINED", Text("\n".join(f"{one['what']}: {one['why']}" for one in missing), style="dim")


def _verdict(one: Mapping[str, Any]) -> RenderableType:
    from rich.text import Text

    text = Text(CERTAINTY[one["certainty"]], style=STYLES[one["certainty"]])
    text.append(f"  {one['says']}", style="bold")
    text.append(f"  cause {one['cause']}" + (f", {one['where']}" if one["where"] else ""), style="dim")
    if one["clients"]:
        many = ", ".join(str(client) for client in one["clients"][:12])
        text.append(f"\nclients {many}" + (" ..." if len(one["clients"]) > 12 else ""))
    return text


def _evidence(suspects: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_row("", "", Text("yours", style="dim"), Text("healthy", style="dim"))
    for one in suspects:
        for line in one["evidence"]:
            table.add_row(Text(line["name"]), Text(f"({line['by']})", style="dim"), line["yours"], line["healthy"])
    return table


def _bars(bars: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for place, one in enumerate(bars):
        level = f"{100 * one['accuracy']:.1f} ± {100 * one['error']:.1f} %"
        change = "" if place == 0 else f"{100 * one['change']:+.1f} points"
        style = "blue" if place == len(bars) - 1 else "bright_black"
        table.add_row(Text(one["what"]), Text(level), Bar(one["accuracy"], style), Text(change, style="dim"))
    return table
