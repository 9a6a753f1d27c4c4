"""The page: one self-contained report.html that needs neither network nor script."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlens.report import story
from fedlens.report.doctor import CERTAINTY, drawn
from fedlens.report.folder import Record, read_run

Drawing = dict[str, str]


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the run in `folder` to `out` (default: its report.html) and return where it is.

    A run that did not finish gets the page too: it shows what is there and says what is not.
    """
    folder = Path(folder)
    record = read_run(folder)
    path = Path(out) if out is not None else folder / "report.html"
    return write_page(render_page(record), path)


def write_page(text: str, path: Path) -> Path:
    """Write a page to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)  # mkstemp keeps the file to its owner; a report is for others too
        Path(name).replace(path)  # at once, so that a browser never loads half a page
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def render_page(record: Record) -> str:
    """The page as text. Everything that comes from files is escaped; only our own SVG is not."""
    return rendered("page.html.j2", view(record))


def rendered(template: str, shown: Mapping[str, Any]) -> str:
    """`template` of this folder with what it shows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(autoescape=True, loader=loader, **options)
    return environment.get_template(template).render(shown)


def view(record: Record) -> dict[str, Any]:
    """What the template shows, every value ready to print."""
    drawings = _drawings(record)
    return {
        "name": record.name,
        "status": record.status,
        "started": str(record.environment.get("started") or ""),
        "seed": record.summary.get("seed", record.settings.get("seed")),
        "headline": story.headline(record),
        "verdict": story.verdict(record),
        "standing": story.standing(record),
        "missing": record.missing,
        "numbers": story.numbers(record),
        "further": story.further(record),
        "notable": [str(sentence) for sentence in record.summary.get("notable") or []],
        "skipped": story.skipped(record),
        "words": CERTAINTY,
        "told": record.findings,
        "told_drawings": drawn(record.findings) if record.findings and record.findings["suspects"] else [],
        "figures": [drawing for drawing in drawings if drawing["name"] != "split"],
        "split": next((drawing for drawing in drawings if drawing["name"] == "split"), None),
        "split_rows": story.split_rows(record),
        "cost_rows": story.cost_rows(record),
        "environment_rows": story.environment_rows(record),
        "command": str(record.summary.get("command") or record.environment.get("command") or ""),
        "experiment": record.experiment.strip(),
        "version": str(record.environment.get("fedlens") or ""),
    }


def _drawings(record: Record) -> list[Drawing]:
    """Every figure that has data. Imported here: matplotlib takes half a second that the command line must not pay."""
    from fedlens.report import drawings

    return drawings.of(record)
