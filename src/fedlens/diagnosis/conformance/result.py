"""What an examination of one component says: checks, each with what was seen and what was wanted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """`passed`: None is a remark, no judgement. `seen` and `wanted` are short; `why` says what follows from a failure
    and what to do."""

    name: str
    passed: bool | None
    seen: str
    wanted: str = ""
    why: str = ""


@dataclass(frozen=True)
class Conformance:
    """The component at `path` was examined as `kind`, and `called` so."""

    path: str
    kind: str
    called: str
    checks: tuple[Check, ...]

    @property
    def conforms(self) -> bool:
        """Whether no check failed, and some passed."""
        return all(one.passed is not False for one in self.checks) and any(one.passed for one in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it does not conform: what failed, and what that means."""
        return tuple(f"{one.name}: {one.why or one.seen}" for one in self.checks if one.passed is False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"path": self.path, "kind": self.kind, "called": self.called, "conforms": self.conforms}
        return {**found, "reasons": list(self.reasons), "checks": [asdict(one) for one in self.checks]}
