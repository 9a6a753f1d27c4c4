"""States and uploads in every form an author may have them: read by name, and written back as they were."""

import io
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedlens.diagnosis.job import Upload
from fedlens.diagnosis.subject.forms import Unreadable, read_state, read_upload, tensor, write_state, write_upload

NAMES = ("weight", "bias")
WEIGHT, BIAS = torch.arange(6.0).reshape(2, 3), torch.tensor([7.0, 8.0])


class Two(NamedTuple):
    """A state with fields."""

    weight: Any
    bias: Any


class Answer(NamedTuple):
    """An upload with fields, in an order of its own."""

    count: int
    weights: Any
    name: str


@dataclass
class Result:
    """As frameworks have it."""

    parameters: Any
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)


class Slotted:
    """An object without a __dict__."""

    __slots__ = ("n", "params")

    def __init__(self, params: Any, n: int) -> None:
        self.params, self.n = params, n


def arrays() -> list[np.ndarray]:
    return [WEIGHT.numpy().copy(), BIAS.numpy().copy()]


def saved(array: np.ndarray) -> bytes:
    np.save(kept := io.BytesIO(), array)
    return kept.getvalue()


STATES = {
    "dict": {"weight": WEIGHT, "bias": BIAS},
    "ordered dict": OrderedDict(weight=WEIGHT, bias=BIAS),
    "default dict": defaultdict(Tensor, {"weight": WEIGHT, "bias": BIAS}),
    "arrays by name": dict(zip(NAMES, arrays(), strict=True)),
    "numbers in lists": {"weight": WEIGHT.tolist(), "bias": BIAS.tolist()},
    "list": arrays(),
    "tuple": tuple(arrays()),
    "named tuple": Two(WEIGHT, BIAS),
    "tensors and arrays": [WEIGHT, BIAS.numpy()],
    "object": SimpleNamespace(weights=arrays()),
    "bytes": SimpleNamespace(tensors=[saved(one) for one in arrays()], tensor_type="numpy.ndarray"),
}


@pytest.mark.parametrize("form", STATES)
def test_a_state_is_read_by_name_and_written_back_in_its_own_form(form: str) -> None:
    raw = STATES[form]
    state = read_state(raw, NAMES)
    assert tuple(state) == NAMES and torch.equal(state["weight"], WEIGHT) and torch.equal(state["bias"], BIAS)
    back = write_state({name: 2 * value for name, value in state.items()}, raw)
    assert type(back) is type(raw)
    again = read_state(back, NAMES)
    assert torch.equal(again["weight"], 2 * WEIGHT) and torch.equal(again["bias"], 2 * BIAS)


def test_what_is_written_has_the_types_that_stood_there() -> None:
    mixed = {"w": WEIGHT, "a": BIAS.numpy(), "steps": 3, "rate": 0.5, "seen": np.int64(4)}
    back = write_state(read_state(mixed), mixed)
    assert {name: type(value) for name, value in back.items()} == {
        "w": Tensor,
        "a": np.ndarray,
        "steps": int,
        "rate": float,
        "seen": np.ndarray,
    }
    assert back["steps"] == 3 and back["rate"] == 0.5


def test_reading_and_writing_share_no_memory_with_anybody() -> None:
    raw = {"w": WEIGHT.clone(), "a": BIAS.numpy().copy()}
    state = read_state(raw)
    back = write_state(state, raw)
    raw["w"].zero_()
    raw["a"][:] = 0
    state["w"].add_(1)
    assert torch.equal(back["w"], WEIGHT) and (back["a"] == BIAS.numpy()).all()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bool, torch.uint8, torch.bfloat16])
def test_types_of_numbers_are_kept(dtype: torch.dtype) -> None:
    raw = {"x": torch.tensor([1, 0]).to(dtype)}
    state = read_state(raw)
    assert state["x"].dtype == dtype and write_state(state, raw)["x"].dtype == dtype


def test_who_sends_modules_is_given_modules_that_nobody_else_holds() -> None:
    module, state = nn.Linear(3, 2), {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    given = write_state(state, module)
    assert isinstance(given, nn.Linear) and torch.equal(given.weight, state["weight"]) and given.weight.requires_grad
    with torch.no_grad():
        given.weight.zero_()
    assert bool((state["weight"] == 1).all()) and not bool((module.weight == 0).all())


def test_modules_vectors_and_lists_without_names_are_read() -> None:
    module = nn.Linear(3, 2)
    assert tuple(read_state(module)) == NAMES
    assert tuple(read_state(arrays())) == ("0", "1")
    assert tuple(read_state(WEIGHT)) == ("vector",) and tuple(read_state(WEIGHT, ("w",))) == ("w",)
    assert tuple(read_state(Two(WEIGHT, BIAS))) == ("weight", "bias")
    assert tuple(read_state(SimpleNamespace(state_dict=module.state_dict))) == NAMES  # a method is called


@pytest.mark.parametrize("raw", [None, 3, "weights", object(), {"w": "x"}, [WEIGHT] * 3, [None, None], {"w": object()}])
def test_what_is_no_state_is_refused(raw: Any) -> None:
    with pytest.raises(Unreadable):
        read_state(raw, NAMES)


def test_a_tensor_is_read_without_its_graph() -> None:
    assert not tensor(WEIGHT.clone().requires_grad_() * 2).requires_grad


STATE = {"weight": WEIGHT, "bias": BIAS}
UPLOADS = {
    "upload": Upload(STATE, 20.0, {"loss": 1.0}),
    "pair": (STATE, 20),
    "list of two": [arrays(), 20],
    "arrays and metrics": (arrays(), 20, {"loss": 1.0}),
    "four things": (STATE, 20, 0.7, {"loss": 1.0}),
    "state under a key": {"state": STATE, "n": 20, "client": 3},
    "weights and a weight": {"weights": arrays(), "weight": 20},
    "named tuple": Answer(20, STATE, "me"),
    "data class": Result(arrays(), 20),
    "bytes in objects": Result(STATES["bytes"], 20),
    "object": SimpleNamespace(delta=STATE, num_samples=20, other="kept"),
    "slots": Slotted(STATE, 20),
    "a tensor that counts": (STATE, torch.tensor(20)),
}


@pytest.mark.parametrize("form", UPLOADS)
def test_an_upload_is_read_and_written_back_in_its_own_form(form: str) -> None:
    raw = UPLOADS[form]
    read = read_upload(raw, NAMES)
    assert read.raw is raw and read.upload.examples == 20.0
    assert tuple(read.upload.state) == NAMES and torch.equal(read.upload.state["weight"], WEIGHT)
    changed = Upload({name: 3 * value for name, value in read.upload.state.items()}, 50.0)
    back = write_upload(changed, raw)
    assert type(back) is type(raw)
    again = read_upload(back, NAMES).upload
    assert again.examples == 50.0 and torch.equal(again.state["bias"], 3 * BIAS)


def test_what_stands_beside_the_state_stays() -> None:
    changed = Upload(STATE, 50.0)
    assert write_upload(changed, UPLOADS["state under a key"])["client"] == 3
    assert write_upload(changed, UPLOADS["object"]).other == "kept"
    assert write_upload(changed, UPLOADS["named tuple"]).name == "me"
    assert write_upload(changed, UPLOADS["four things"])[2:] == (0.7, {"loss": 1.0})


def test_metrics_are_read_where_they_are_numbers() -> None:
    assert read_upload((STATE, 20, {"loss": 1.5, "who": "me"}), NAMES).upload.metrics == {"loss": 1.5}


@pytest.mark.parametrize(
    "raw", [STATE, arrays(), tuple(arrays()), OrderedDict(STATE)], ids=lambda raw: type(raw).__name__
)
def test_a_state_alone_counts_as_one_example_or_as_is_known(raw: Any) -> None:
    assert read_upload(raw, NAMES).upload.examples == 1.0
    assert read_upload(raw, NAMES, 30.0).upload.examples == 30.0


def test_the_size_of_an_array_is_no_number_of_examples() -> None:
    assert read_upload(WEIGHT.numpy(), ("w",)).upload.examples == 1.0
    assert read_upload(WEIGHT, ("w",)).upload.examples == 1.0


def test_whole_counts_are_written_as_whole_numbers() -> None:
    assert write_upload(Upload(STATE, 50.0), (STATE, 20))[1] == 50
    assert isinstance(write_upload(Upload(STATE, 50.0), (STATE, 20))[1], int)
    assert write_upload(Upload(STATE, 0.5), (STATE, 20))[1] == 0.5
