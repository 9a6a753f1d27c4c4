"""Which line of the author's code a finding is about."""

from dataclasses import replace

import pytest
from evidence_of import data, facts, job, outcome, trials

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Origins
from fedlens.diagnosis.evidence.origins import Written
from fedlens.diagnosis.signs.places import placed

ORIGINS = Origins(
    inputs={0: "data.py:1", 1: "data.py:1", 2: "raw.py:5"},
    labels={0: "data.py:2", 1: "data.py:2", 2: "names.py:7"},
    test_inputs="data.py:3",
    test_labels="data.py:4",
    numbers=(
        Written("lr", 0.1, "job.toml:3"),
        Written("lr", 0.001, "client.py:9"),
        Written("noise", 8.0, "job.toml:7"),
        Written("clip", 0.01, "job.toml:8"),
    ),
)


def where(cause: str, e: Evidence | None = None, **said: object) -> str:
    finding = Finding(cause, Certainty.FOUND, "", (), "", **said)  # type: ignore[arg-type]
    return placed(e or job(origins=ORIGINS), finding).where


def test_data_are_of_those_who_made_them_for_the_clients_that_are_named() -> None:
    assert where("D1", clients=(2,)) == "raw.py:5" and where("D1") == "data.py:1"
    assert where("L1", clients=(2,)) == "names.py:7" and where("L2", clients=(0, 1, 2)) == "data.py:2"
    assert where("L1") == "data.py:4"  # the test set's labels are others
    assert where("L1", clients=(2,), where="client.py:4") == "client.py:4"  # changed in training
    assert where("D2", where="job.py:30") == "data.py:3"


def test_rows_are_of_those_who_dealt_them() -> None:
    dealt = job(origins=replace(ORIGINS, dealt="partition.py:6"))
    assert where("P2") == "data.py:1" and where("P2", dealt) == "partition.py:6"


def test_labels_outside_the_head_stand_in_the_data_only_where_these_show_it() -> None:
    bad = job(origins=ORIGINS, data=data(malformed=0.1))
    assert where("L3", where="job.py:15") == "job.py:15" and where("L3", bad, where="job.py:15") == "data.py:2"


@pytest.mark.parametrize(("rate", "place"), [(0.1, "job.toml:3"), (0.001, "client.py:9"), (0.5, "job.py:10")])
def test_a_rate_is_where_that_number_is_written(rate: float, place: str) -> None:
    assert where("O1", job(origins=ORIGINS, trials=trials(rate=rate, reference=outcome(0.8)))) == place


def test_declared_privacy_is_a_setting_and_what_nobody_declared_is_code() -> None:
    declared = facts({"dp": {"clip": 0.01, "noise": 8.0}})
    assert where("V1", job(origins=ORIGINS, facts=declared), where="job.py:20") == "job.toml:7"
    assert where("V2", job(origins=ORIGINS, facts=declared), where="job.py:20") == "job.toml:8"
    assert where("V1", where="job.py:20") == "job.py:20"


def test_what_has_no_place_of_its_own_is_a_matter_of_its_stage() -> None:
    assert where("O5") == "job.py:10" and where("E9") == "job.py:30" and where("A2") == "job.py:20"
    assert where("P1") == "" == where("E7") and where("D5", job()) == "job.py:10"


def test_what_one_part_of_a_client_s_work_is_about_is_where_that_part_is_done() -> None:
    parts = job(facts=facts(where={"fit": "job.py:10", "load": "weights.py:3", "optimizer": "optim.py:2"}))
    assert where("B1", parts, where="job.py:10") == "weights.py:3"
    assert where("O3", parts, where="job.py:10") == "optim.py:2"
    assert where("B1", where="job.py:10") == "job.py:10" and where("B1", parts, where="job.py:12") == "job.py:12"
