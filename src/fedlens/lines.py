"""JSON lines on disk, as an append-only record leaves them.

Knows: that a last line without its line break was never finished.
Does not know: what the lines say.
Offers: read_lines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedlens.errors import RunError


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file, none where it is missing.

    A last line without its line break is left out: a run may be writing it, or was killed doing so. Any other line that
    is not a JSON object raises RunError with its number.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _damaged(path, number, line, error.msg) from None
        if not isinstance(row, dict):
            raise _damaged(path, number, line, "the line is no object")
        rows.append(row)
    return rows


def _damaged(path: Path, number: int, line: str, why: str) -> RunError:
    text = line.strip()
    seen = text if len(text) <= 80 else text[:77] + "..."
    return RunError(f"not a line of JSON ({why})", where=f"{path}:{number}", seen=seen, do="Mend or delete that line.")
