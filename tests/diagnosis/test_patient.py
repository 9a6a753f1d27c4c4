"""A job is called by its doctor: leniently read, with known random states, and stopped where it hangs."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toys import Toy

from fedlens.diagnosis.job import Declared
from fedlens.diagnosis.subject import patient as patients
from fedlens.diagnosis.subject.guard import Ailing, guarded, line_of, seeded
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.errors import ConfigurationError


def of(**parts: Any) -> Patient:
    """A toy with other parts."""
    job = type("Changed", (Toy,), {name: part for name, part in parts.items() if callable(part)})()
    vars(job).update({name: part for name, part in parts.items() if not callable(part)})
    return Patient(job, patience=5.0)


@pytest.mark.parametrize("stage", ["init", "sample", "fit", "aggregate", "evaluate", "clients", "cohort", "rounds"])
def test_what_a_job_must_have_is_asked_for_by_name(stage: str) -> None:
    with pytest.raises(ConfigurationError, match=stage):
        of(**{stage: None})


@pytest.mark.parametrize("number", [6, np.int64(6), 6.0, torch.tensor(6)])
def test_numbers_of_clients_may_be_of_any_type(number: Any) -> None:
    found = of(clients=number, classes=number).facts()
    assert (found.clients, found.classes) == (6, 6) and type(found.clients) is int


@pytest.mark.parametrize("number", [6.5, "6", True, float("nan"), [1, 2]])
def test_what_is_no_whole_number_is_refused(number: Any) -> None:
    with pytest.raises(ConfigurationError, match="clients"):
        of(clients=number)


def test_absent_parts_are_not_offered() -> None:
    assert not of().offers("model") and not of(model=None).offers("model")
    assert of(log="round 1").offers("log") and not of(name="x").offers("name")


def test_a_mapping_declares_as_well_as_an_object_and_unknown_names_are_kept_aside() -> None:
    said = of(declared={"lr": 0.1, "momentum": 0.9, "frozen": "body.", "colour": "red"}).declared
    assert (said.lr, said.server_momentum, said.frozen, said.unknown) == (0.1, 0.9, ("body.",), ("colour",))

    class Said:
        def __init__(self) -> None:
            self.batch_size, self.local, self.weighting, self.taste = 20, ["head"], None, "sweet"

    said = of(declared=Said()).declared
    assert (said.batch, said.local_entries, said.weighting, said.unknown) == (20, ("head",), None, ("taste",))
    assert of(declared=None).declared == Declared()


def test_declared_privacy_may_be_an_object() -> None:
    class Privacy:
        clip, noise, delta = 1.0, 0.5, 1e-5

    assert of(declared={"dp": Privacy()}).declared.dp == {"clip": 1.0, "noise": 0.5}


def draws(*_: Any) -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_states_depend_on_round_and_client_alone() -> None:
    seen: list[Any] = []

    def fit(self: Any, client: int, received: Any, round: int) -> Any:
        seen.append((round, client, draws()))
        return received, 1

    one = of(fit=fit)
    for round, client in ((1, 2), (1, 3), (2, 2), (1, 2)):
        draws()
        one.fit(client, one.init, round)
    values = {(round, client): drawn for round, client, drawn in seen}
    assert seen[0] == seen[3] and len(set(values.values())) == 3


def test_another_seed_of_the_subject_is_another_random_state() -> None:
    def sample(self: Any, round: int) -> list[int]:
        return torch.randperm(6)[:4].tolist()

    subject = Subject(type("Changed", (Toy,), {"sample": sample}), "toy")
    first, again, other = ([subject.fresh(seed).sample(n) for n in range(5)] for seed in (0, 0, 1))
    assert first == again and first != other


def test_a_seed_is_given_to_those_who_take_one() -> None:
    made: list[int] = []

    def make(seed: int = 7) -> Any:
        made.append(seed)
        return Toy()

    Subject(make, "toy").fresh(3)
    Subject(Toy, "toy").fresh(3)
    assert made == [3]


def test_a_job_that_is_slow_to_make_is_copied_and_copies_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Slow(Toy):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            self.memory: list[int] = []

    monkeypatch.setattr(patients, "SLOW", -1.0)  # everything is slow
    subject = Subject(Slow, "slow")
    first = subject.fresh().job
    first.memory.append(1)
    assert subject.fresh().job.memory == [] and len(made) == 1
    subject.fresh(1)
    assert len(made) == 2  # another seed is another job


def test_a_slow_job_that_cannot_be_copied_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Uncopied(Toy):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("no copies")

    monkeypatch.setattr(patients, "SLOW", -1.0)
    subject = Subject(Uncopied, "uncopied")
    assert subject.fresh().job is not subject.fresh().job


def leaves(error: BaseException) -> Callable[..., Any]:
    def fails(*_: Any) -> Any:
        raise error

    return fails


@pytest.mark.parametrize("error", [ValueError("no such thing\nmore"), SystemExit(2), AssertionError()])
def test_what_the_authors_code_raises_is_told_with_its_stage_and_line(error: BaseException) -> None:
    with pytest.raises(Ailing) as told:
        of(fit=leaves(error)).fit(3, {"w": torch.zeros(1)}, 2)
    assert told.value.stage == "fit" and type(error).__name__ in str(told.value)
    assert "round 2, client 3" in str(told.value) and "test_patient.py" in str(told.value)
    assert "more" not in str(told.value)


def test_an_interrupt_by_a_person_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        of(sample=leaves(KeyboardInterrupt())).sample(1)


def test_what_cannot_be_read_is_told_with_its_stage() -> None:
    with pytest.raises(Ailing, match="cannot be read") as told:
        of(fit=lambda *_: "done").fit(0, of().init, 1)
    assert told.value.stage == "fit"


def test_a_call_that_hangs_is_stopped_even_where_errors_are_caught() -> None:
    def hangs(self: Any, round: int) -> Any:
        while True:
            with suppress(Exception):
                time.sleep(5.0)

    began = time.perf_counter()
    with pytest.raises(Ailing, match="did not come back"):
        Patient(type("Hangs", (Toy,), {"sample": hangs})(), patience=0.2).sample(1)
    assert time.perf_counter() - began < 2.0


def test_an_inner_limit_does_not_outlast_or_end_the_outer_one() -> None:
    began = time.perf_counter()
    with pytest.raises(Ailing) as told, guarded("outer", "", 0.3):
        with guarded("inner", "", 0.05):
            time.sleep(0.1)  # longer than its own limit: the outer one counts
        time.sleep(5.0)
    assert told.value.stage == "outer" and 0.25 < time.perf_counter() - began < 2.0


def test_after_a_call_no_limit_is_left() -> None:
    with guarded("fit", "", 0.1):
        pass
    time.sleep(0.15)  # an alarm would end this test


def test_code_that_turns_gradients_off_and_fails_does_not_leave_them_off() -> None:
    with pytest.raises(Ailing), guarded("evaluate", "", 1.0):
        torch.set_grad_enabled(False)
        raise ValueError
    assert torch.is_grad_enabled()


def test_a_model_that_fails_is_no_longer_offered_and_facts_are_told() -> None:
    found = of(model=leaves(ValueError("no weights"))).facts()
    assert "model" not in found.offers and found.norms is None and found.entries


def test_an_inner_failure_keeps_its_own_stage() -> None:
    with pytest.raises(Ailing) as told, guarded("outer", "", 1.0), guarded("inner", "", 1.0):
        raise ValueError
    assert told.value.stage == "inner"


@pytest.mark.parametrize(
    "told, expected",
    [
        (0.5, {"accuracy": 0.5}),
        (np.float32(0.5), {"accuracy": 0.5}),
        ({"acc": torch.tensor(0.5), "note": "fine", "by class": [1, 2]}, {"acc": 0.5}),
        ((0.7, {"accuracy": 0.5}), {"loss": 0.7, "accuracy": 0.5}),
        ((0.7, 100, {"accuracy": 0.5}), {"loss": 0.7, "accuracy": 0.5}),
        (None, {}),
        ("good", {}),
    ],
)
def test_what_is_reported_is_read_leniently(told: Any, expected: dict[str, float]) -> None:
    assert of(evaluate=lambda *_: told).evaluate(of().init, 1) == pytest.approx(expected)


class Pairs(torch.utils.data.Dataset[Any]):
    """Three examples."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> Any:
        if place >= 3:
            raise IndexError
        return torch.full((2,), float(place)), place


X, Y = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    "given",
    [
        (X, Y),
        [X.numpy(), Y.numpy()],
        {"x": X, "y": Y},
        (X.tolist(), Y.tolist()),
        Pairs(),
        torch.utils.data.DataLoader(Pairs(), batch_size=2, shuffle=True),
        torch.utils.data.TensorDataset(X, Y),
    ],
    ids=["tensors", "arrays", "mapping", "lists", "data set", "loader", "tensor data set"],
)
def test_data_is_read_leniently(given: Any) -> None:
    inputs, labels = of(train_data=lambda *_: given).train_data(0)
    assert torch.equal(inputs.float(), X) and torch.equal(labels, Y)


def test_lists_are_called_by_the_names_of_the_network_and_given_back_as_lists() -> None:
    seen: list[Any] = []

    def fit(self: Any, client: int, received: Any, round: int) -> Any:
        seen.append(received)
        return [2 * one for one in received], 5

    parts = {"init": lambda self: [np.ones((2, 3), np.float32), np.zeros(2, np.float32)]}
    one = of(model=lambda self: nn.Linear(3, 2), fit=fit, **parts)
    assert one.names == ("weight", "bias")
    sent = one.fit(0, one.init, 1)
    assert isinstance(seen[0], list) and isinstance(seen[0][0], np.ndarray)
    assert float(sent.upload.state["weight"].sum()) == 12.0 and sent.upload.examples == 5.0


def test_a_client_that_writes_into_what_it_receives_does_not_reach_the_doctor() -> None:
    def fit(self: Any, client: int, received: Any, round: int) -> Any:
        received["a"].zero_()
        return received, 1

    one = of(fit=fit)
    kept = one.init["a"].clone()
    one.fit(0, one.init, 1)
    assert torch.equal(one.init["a"], kept) and kept.any()


def test_lines_are_those_of_definitions_and_unknown_ones_are_empty() -> None:
    assert line_of(draws).partition(":")[0].endswith("test_patient.py")
    assert line_of(len) == "" and line_of(of()).count(":") <= 1


def test_seeds_of_any_size_are_taken() -> None:
    seeded(-1, 2**40)
    first = draws()
    seeded(-1, 2**40)
    assert draws() == first
