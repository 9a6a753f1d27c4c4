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
    runs, spent = told["cost"]["runs"], told["cost"].get("seconds", 0.0)
    exam = f"exam: {duration(spent)}" if spent else ""
    exam += f", {runs:.1f} training runs" if runs else ""
    facts = told["evidence"]["facts"]
    of = f"{facts['clients']} clients, {facts['cohort']} a round / " if facts["clients"] else ""
    job = f"{told['name']} / {of}{facts['rounds']} rounds"
    return Group(Text(f"FEDERATED DOCTOR  {job}  {exam}".rstrip(), style="dim"), Text(""), page)


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
        short = told.get("remark")
        yield "VERDICT", Text(short or "NO FAULT FOUND", style="bold yellow" if short else "bold green")
    for place, one in enumerate(suspects):
        yield "VERDICT" if place == 0 else "AND", _verdict(one)
    if log := log_lines(told):
        yield "THE LOG", _pairs(log)
    if bars := told["bars"]:
        yield "GAP", _bars(bars, budget(told))
    if suspects:
        yield "EVIDENCE", _evidence(suspects)
    if told["ruled_out"]:
        yield "RULED OUT", Text("\n".join(f"{one['what']}: {one['number']}" for one in told["ruled_out"]))
    for one in suspects:
        remedy = one["remedy"] + (f"  ({one['where']})" if one["where"] else "")
        yield f"REMEDY {one['cause']}", Text(remedy)
    for one in told["treatments"]:
        yield f"CHANGE {one['finding']['cause']}", Text("\n".join(one["change"].split("; ")))
        label = "PROOF" if one["verified"] else "TRIED"
        yield f"{label} {one['finding']['cause']}", Text(one["says"], style="green" if one["verified"] else "")
        if one.get("remains"):
            yield "REMAINS", Text(one["remains"])
    if after := mended(told):
        yield "MENDED", Text("\n".join(after))
    if told["noted"]:
        yield "ALSO NOTICED", Text("\n".join(f"{one['says']} ({one['cause']})" for one in told["noted"]), style="dim")
    if missing := unexamined(told):
        yield "NOT EXAMINED", Text("\n".join(f"{one['what']}: {one['why']}" for one in missing), style="dim")


def unexamined(told: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """What was not examined and why, counterfactuals that time did not allow among them."""
    evidence = told["evidence"] or {}
    left = (evidence.get("trials") or {}).get("unrun") or []
    out_of_time = [{"what": "counterfactuals " + ", ".join(left), "why": "there was no time for them"}] if left else []
    return [*(evidence.get("unexamined") or []), *out_of_time]


def log_lines(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a log that is examined alone gives away, by name; nothing where there is a job."""
    facts, log = told["evidence"]["facts"], told["evidence"]["log"]
    if facts["clients"] or not log:
        return []
    values, size = log["values"], log["n"]
    chance = f", chance {100 * log['chance']:.1f} %" if log["chance"] else ""
    lines = [
        ("values", f"{len(values)}, {log['scale']}"),
        ("last, best, mean of the last ten", f"{log['last']:.4g}, {log['best']:.4g}, {log['mean_last']:.4g}{chance}")
        if log["last"] is not None
        else ("last", "no number"),
        ("smallest evaluation set that explains them", f"{size:,} examples" if size else "cannot be told"),
        ("rounds at the share of one class", f"{100 * log['constant']:.0f} %"),
    ]
    if log["claimed"]:
        lines.insert(3, ("test set as said", f"{log['claimed']:,} examples"))
    if log["noise"] is not None:
        lines.append(("from round to round, last ten", f"{log['noise']:.2g} (standard deviation)"))
    if log["collapsed"]:
        lines.append(("rounds without a number", ", ".join(map(str, log["collapsed"][:10]))))
    return lines


def mended(told: Mapping[str, Any]) -> list[str]:
    """Where the mended experiment lies, and what is suspected of it."""
    if "fixed" not in told:
        return []
    if told["fixed"] is None:
        return ["No setting of the experiment mends this."]
    further = " ".join(told["further"]) or "no fault found."
    return [f"fedlens run {told['fixed']}", f"The changed run, examined anew: {further}"]


def _pairs(lines: Sequence[tuple[str, str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in lines:
        table.add_row(Text(name), Text(value))
    return table


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
    table.add_column()
    table.add_column(min_width=5)  # however narrow the terminal
    table.add_row("", "", Text("yours", style="dim"), Text("healthy", style="dim"))
    for one in suspects:
        for line in one["evidence"]:
            table.add_row(Text(line["name"]), Text(f"({line['by']})", style="dim"), line["yours"], line["healthy"])
    return table


def budget(told: Mapping[str, Any]) -> str:
    """After how many of the job's rounds its levels of accuracy were measured; "" where that is not known."""
    evidence = told.get("evidence") or {}
    job, every = (evidence.get("trials") or {}).get("job") or {}, (evidence.get("facts") or {}).get("rounds")
    return f"after {job['rounds']} of {every} rounds" if job and every else ""


def _bars(bars: Sequence[Mapping[str, Any]], when: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for place, one in enumerate(bars):
        style = "blue" if place == len(bars) - 1 else "bright_black"
        if one["accuracy"] is None:
            table.add_row(Text(one["what"]), Text("no number"))
            continue
        level = f"{100 * one['accuracy']:.1f} %" if one["error"] is None else _level(one)
        change = "" if place == 0 or one["change"] is None else f"{100 * one['change']:+.1f} points"
        table.add_row(Text(one["what"]), Text(level), Bar(one["accuracy"], style), Text(change, style="dim"))
    if when:
        table.add_row(Text(f"each {when}", style="dim"))
    return table


def _level(one: Mapping[str, Any]) -> str:
    return f"{100 * one['accuracy']:.1f} ± {100 * one['error']:.1f} %"
