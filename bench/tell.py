"""Results as lines, as JSON and as rows of RECORDS.md."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

HEAD = "| ratio | fedlens, images/s | rival, images/s | GFLOP/s | workload | engine | machine | commit | command |"


def place() -> dict[str, Any]:
    """Processor, PyTorch and commit; "-dirty" where the tree differs from it."""
    here = Path(__file__).parent
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    told = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=False)
    return {"processor": _processor(), "torch": version("torch"), "commit": told.stdout.strip() or "unknown"}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def heading(machine: Mapping[str, Any]) -> str:
    """What stands above the lines: the machine, who else is busy on it, its peaks."""
    first = f"{machine['processor']}, {machine['cores']} cores, PyTorch {machine['torch']}, commit {machine['commit']}"
    told = [f"{first}; others keep {machine['load']:.0%} of it busy"]
    return "\n".join(told + _peaks(machine))


def _peaks(machine: Mapping[str, Any]) -> list[str]:
    return [
        f"peak {precision}: "
        + "; ".join(
            f"{threads} thread{'s' if threads != '1' else ''} {peak['product']:.0f} GFLOP/s in products, "
            f"{peak['convolution']:.0f} in convolutions"
            for threads, peak in by_threads.items()
        )
        for precision, by_threads in machine["peaks"].items()
    ]


def line(row: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """One row, and below it what else was asked for."""
    start = f"{row['workload']:<6} {row['title']:<24} {row['engine']:<32}"
    if "ratio" not in row:
        return f"{start} {_crowd(row)}"
    low, high = row["extremes"]
    told = (
        f"{start} {row['images_per_second']:>8,.0f} images/s {_work(row, machine)}   "
        f"rival {row['rival_images_per_second']:>8,.0f} ({row['rival']})   "
        f"ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f}){'   on noise' if row['noise'] else ''}"
    )
    return "\n".join([told, *(f"       {one}" for one in _beside(row))])


def _crowd(row: Mapping[str, Any]) -> str:
    many, few = row["clients"]
    return (
        f"{many:,} clients: {row['time_ratio']:.2f} of the time and {row['memory_ratio']:.2f} of the memory of {few:,}"
    )


def _beside(row: Mapping[str, Any]) -> list[str]:
    """What was measured beside the ratio."""
    told = []
    if row["slowed"]:
        told.append("beside a busy process a round takes " + _each(row["slowed"], "{:.2f} times as long".format))
    if row["memory"]:
        told.append("at most in memory: " + _each(row["memory"], lambda held: f"{held / 2**20:,.0f} MiB"))
    if row["accuracy"]:
        told.append("test accuracy: " + _each(row["accuracy"], _spread))
    return told


def _each(values: Mapping[str, Any], form: Callable[[Any], str]) -> str:
    return ", ".join(f"{name} {form(value)}" for name, value in values.items())


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def _work(row: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """GFLOP/s, and the shares of what all cores reach at best in the engine's precision."""
    peak = machine["peaks"][row["precision"]][str(machine["cores"])]
    shares = (row["gflops"] / peak[kind] for kind in ("product", "convolution"))
    return "{:>5.0f} GFLOP/s, {:>4.0%} of products, {:>4.0%} of convolutions".format(row["gflops"], *shares)


def as_json(found: Mapping[str, Any]) -> str:
    """All numbers."""
    return json.dumps(found, indent=1) + "\n"


def record(found: Mapping[str, Any], file: Path, command: Sequence[str]) -> None:
    """Append a table to `file`: result first, then machine, commit and command."""
    machine = found["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores | {machine['commit']}"
    where += f" | `python bench/suite.py {' '.join(command)}`"
    told = [f"{date.today()}, others kept {machine['load']:.0%} of the machine busy.", *_peaks(machine), ""]
    rows, beside = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"], []
    for row in found["rows"]:
        what = f"{row['workload']} {row['title']} | {row['engine']} | {where} |"
        if "ratio" not in row:
            rows.append(f"| {_crowd(row)} | | | | {what}")
            continue
        images = f"{row['images_per_second']:,.0f} | {row['rival_images_per_second']:,.0f} ({row['rival']})"
        rows.append(f"| {row['ratio']:.2f} | {images} | {_work(row, machine)} | {what}")
        beside += [f"- {row['workload']}, {row['engine']}: {one}" for one in _beside(row)]
    lines = [*told, *rows, *([""] if beside else []), *beside]
    with file.open("a") as end:
        end.write("\n" + "\n".join(lines) + "\n")
