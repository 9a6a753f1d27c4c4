"""The examinations are the same on a slow machine."""

import pytest

ROOM = "fedlens.diagnosis"
MADE_ONCE = ("subject.patient", "subject.target", "probes.aggregation", "conformance.load")


@pytest.fixture(autouse=True)
def _no_machine_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to make is copied, or made once: a busy machine must not decide that in a test."""
    for module in MADE_ONCE:
        monkeypatch.setattr(f"{ROOM}.{module}.SLOW", 60.0)
