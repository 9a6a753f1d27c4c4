"""Everything the doctor says as JSON takes it."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "signs"))
from evidence_of import aggregation, job, outcome, rounds, trials

from fedlens.diagnosis import Certainty
from fedlens.diagnosis.signs import SIGNS
from fedlens.diagnosis.verdict.plain import plain

NAN, INF = float("nan"), float("inf")


class Pair(NamedTuple):
    """Two things."""

    one: Any
    two: Any


@dataclass(frozen=True)
class Kept:
    """Something of everything."""

    pair: Pair
    some: dict[int, Any] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    "value, expected",
    [
        (NAN, None),
        (-INF, None),
        (0.5, 0.5),
        (np.float64(0.5), 0.5),
        (np.float32("nan"), None),
        (np.int64(3), 3),
        (True, True),
        (None, None),
        (Certainty.FOUND, "found"),
        ({"b", "a"}, ["a", "b"]),
        ((1, [NAN, 2]), [1, [None, 2]]),
        ({3: Pair(1, INF)}, {"3": {"one": 1, "two": None}}),
        (
            Kept(Pair(1, 2), {0: NAN}, frozenset({"y", "x"})),
            {"pair": {"one": 1, "two": 2}, "some": {"0": None}, "names": ["x", "y"]},
        ),
    ],
)
def test_values_become_what_json_takes(value: Any, expected: Any) -> None:
    assert plain(value) == expected and type(plain(value)) is type(expected)
    json.dumps(plain(value), allow_nan=False)


def test_a_type_is_no_value_of_its_own() -> None:
    assert plain(Kept) is Kept  # and not its fields, which it does not have


def test_evidence_and_findings_that_hold_nan_are_valid_json() -> None:
    lost = trials(job=outcome(NAN, finite=False))
    e = job(trials=lost, rounds=rounds(moved=NAN, cosine=INF), aggregation=aggregation(weights=(1.0, 0.0, 0.0)))
    found = [finding for sign in SIGNS if (finding := sign(e)) is not None]
    text = json.dumps({"evidence": plain(e), "findings": plain(found)}, allow_nan=False)
    read = json.loads(text)
    assert read["evidence"]["rounds"][0]["moved"] is None and read["evidence"]["trials"]["job"]["values"][0] is None
    assert any(one["cause"] == "A1" and one["certainty"] == "found" for one in read["findings"])
