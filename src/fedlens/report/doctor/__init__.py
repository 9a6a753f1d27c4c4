"""A diagnosis as one page of the terminal, as drawings, and as an HTML page.

Knows: how verdict, evidence and remedy are laid out for a person.
Does not know: how anything was measured or judged.
Offers: render_diagnosis, render_findings, write_diagnosis, drawn, CERTAINTY.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlens.report.doctor.terminal import (
    CERTAINTY,
    log_lines,
    mended,
    render_diagnosis,
    render_findings,
    unexamined,
)


def drawn(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """The drawings of a diagnosis; matplotlib is loaded by them alone."""
    from fedlens.report.doctor.drawings import drawn as every

    return every(told)


def write_diagnosis(told: Mapping[str, Any], path: Path) -> Path:
    """Write the diagnosis `told`, a Diagnosis.as_dict(), as one self-contained HTML page."""
    from fedlens.report.page import rendered, write_page

    facts = told["evidence"]["facts"]
    who = f"{facts['clients']} clients, {facts['cohort']} a round, " if facts["clients"] else "a log alone, "
    shown: dict[str, Any] = {
        "told": told,
        "drawings": drawn(told),
        "words": CERTAINTY,
        "meta": f"{who}{facts['rounds']} rounds",
    }
    shown |= {"log": log_lines(told), "after": mended(told)}
    shown |= {"short": told.get("remark", ""), "missing": unexamined(told)}
    return write_page(rendered("diagnosis_page.html.j2", shown), path)


__all__ = ["CERTAINTY", "drawn", "render_diagnosis", "render_findings", "write_diagnosis"]
