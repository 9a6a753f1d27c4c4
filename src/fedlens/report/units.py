"""Numbers as people read them. The one place where a fraction becomes a percentage."""

from __future__ import annotations

import math
from typing import Any

ABSENT = "–"
THIN = "\u202f"  # narrow no-break space: a number keeps its unit at the end of a line


def number(value: Any) -> float | None:
    """`value` as a finite float, or None: a run that diverged records nan, one that was cut records nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: Any, digits: int = 1) -> str:
    """0.91 as 91.0 %."""
    found = number(value)
    return ABSENT if found is None else f"{100 * found:.{digits}f}{THIN}%"


def points(value: Any) -> str:
    """A difference of two fractions in percentage points, without its sign."""
    found = number(value)
    return ABSENT if found is None else f"{abs(100 * found):.1f} points"


def side(gap: Any) -> str:
    """On which side of a reference a run is; `gap` is reference less run."""
    found = number(gap)
    if found is None:
        return ABSENT
    if abs(found) < 0.0005:  # what rounds to 0.0 points has no side
        return "level"
    return f"{points(found)} {'below' if found > 0 else 'above'}"


def count(value: Any) -> str:
    """21555 as 21,555."""
    found = number(value)
    return ABSENT if found is None else f"{found:,.0f}"


def amount(value: Any, digits: int = 3) -> str:
    """A number of no known unit, with `digits` significant digits."""
    found = number(value)
    return ABSENT if found is None else f"{found:,.0f}" if found == int(found) else f"{found:.{digits}g}"


def size(value: Any) -> str:
    """Bytes in decimal units, as networks count them."""
    found = number(value)
    if found is None:
        return ABSENT
    for unit in ("B", "kB", "MB", "GB"):
        if abs(found) < 1000:
            return f"{found:.0f}{THIN}B" if unit == "B" else f"{found:.3g}{THIN}{unit}"
        found /= 1000
    return f"{found:.3g}{THIN}TB"


def duration(value: Any) -> str:
    """Seconds as 12.1 s, 3 min 20 s or 2 h 05 min."""
    found = number(value)
    if found is None:
        return ABSENT
    if found < 60:
        return f"{found:.1f}{THIN}s"
    minutes, seconds = divmod(round(found), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {seconds}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"
