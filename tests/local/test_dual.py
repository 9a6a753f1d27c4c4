"""The dual form of plain SGD against the dense one, and the sums of both, in float64."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from chains import MODELS, SIZES, Case, case, line, near

from fedlens import Local
from fedlens.local import Optimizer
from fedlens.local.chain import dual
from fedlens.local.chain.chain import chain_of
from fedlens.local.chain.chunk import Chunk
from fedlens.local.chain.dual import Sums, pays, sums, walk
from fedlens.tree import Layout

RATE, SGD = 0.3, Optimizer(Local(lr=0.3))
ALL = pytest.mark.parametrize("model", MODELS)
FORMS = pytest.mark.parametrize("dual_form", [True, False], ids=["dual", "dense"])


@pytest.fixture
def form(monkeypatch, dual_form):
    """Sums in the form that the test names, the dense one in parts of two clients."""
    monkeypatch.setattr(dual, "pays", lambda *_: dual_form)
    monkeypatch.setattr(dual, "CACHED", 2 * case().start.nbytes)


def weights(ragged: Case) -> torch.Tensor:
    return torch.linspace(0.5, 2.0, len(ragged.clients), dtype=torch.float64)


def summed(ragged: Case) -> Sums:
    return sums(ragged.chain, *ragged.given, weights(ragged), RATE)


@ALL
@pytest.mark.parametrize("epochs", [1, 4])
@pytest.mark.parametrize("sizes", [SIZES, (8, 8, 8), (17, 17, 17, 5), (1,)], ids=str)
def test_every_client_ends_where_the_dense_form_ends(model, epochs, sizes):
    ragged = case(model, sizes, epochs)
    dense = ragged.chain.train(*ragged.given, RATE, SGD)
    stacked = walk(ragged.chain, *ragged.given, RATE).stacked()
    assert near(stacked.weights - ragged.start, dense.weights - ragged.start)
    assert torch.equal(stacked.losses.isnan(), dense.losses.isnan())
    assert near(stacked.losses.nan_to_num(), dense.losses.nan_to_num())


@ALL
@FORMS
def test_the_sum_is_the_weighted_sum_of_the_updates_one_by_one(model, form):
    ragged = case(model)
    updates = torch.stack([ragged.alone(at, SGD.local).vector - ragged.start for at in range(len(ragged.clients))])
    found = summed(ragged)
    assert near(found.update, weights(ragged) @ updates)
    assert near(found.norms, updates.norm(dim=1))
    assert found.finite.all() and found.losses.isfinite().sum(1).tolist() == [len(one) for one in ragged.clients]


@FORMS
@pytest.mark.parametrize("client", [0, 2, 5])
def test_a_client_that_diverges_is_left_out_and_disturbs_no_other(client, form):
    ragged = case()
    sound = summed(ragged)
    apart = ragged.chain.train(*ragged.given, RATE, SGD).weights[client] - ragged.start
    ragged.inputs[ragged.clients[client][-1][0]] = math.nan
    found = summed(ragged)
    others = [at for at in range(len(ragged.clients)) if at != client]
    assert found.finite.tolist() == [at != client for at in range(len(ragged.clients))]
    assert near(found.update, sound.update - weights(ragged)[client] * apart)
    assert near(found.norms[others], sound.norms[others])
    assert near(found.losses[others].nan_to_num(), sound.losses[others].nan_to_num())
    assert found.losses[client].isnan().any()


@FORMS
def test_weights_that_overflow_after_the_last_loss_are_not_finite_either(form):
    ragged = case("logistic", (4, 4), epochs=1)
    ragged.inputs[ragged.clients[1][0]] *= 1e200  # the loss of the one step is finite, the square of its update is not
    found = summed(ragged)
    assert found.losses.isfinite().all() and found.finite.tolist() == [True, False]
    assert found.update.isfinite().all() and near(found.update.norm(), weights(ragged)[0] * found.norms[0])


@FORMS
def test_a_sum_over_nobody_is_zero(form):
    ragged = case()
    ragged.inputs[:] = math.nan
    found = summed(ragged)
    assert not found.finite.any() and torch.equal(found.update, torch.zeros_like(ragged.start))


def test_a_client_that_does_not_move_has_norm_zero():
    ragged = case("logistic", (4, 4), epochs=1)
    found = walk(ragged.chain, *ragged.given, 0.0).sums(weights(ragged))
    assert found.norms.tolist() == [0, 0] and not found.update.any()


def test_a_square_that_rounding_took_below_zero_is_a_norm_of_zero():
    ragged = case("logistic-no-bias", (2, 2), epochs=1)
    walked = walk(ragged.chain, *ragged.given, RATE)
    gram = torch.tensor([[1.0, 1 + 1e-15], [1 + 1e-15, 1.0]], dtype=torch.float64).expand(2, 2, 2)
    opposite = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, 2, 3)
    found = dataclasses.replace(walked, gram=gram, slopes=opposite).sums(weights(ragged))
    assert found.norms.tolist() == [0, 0] and found.finite.all()


def chunk(clients: int, examples: int, epochs: int) -> Chunk:
    """Clients that pass through `examples` examples of their own in batches of ten."""
    own = [np.arange(examples) + client * examples for client in range(clients)]
    return Chunk.of([[mine[at : at + 10] for _ in range(epochs) for at in range(0, examples, 10)] for mine in own])


@pytest.mark.parametrize(
    ("widths", "examples", "epochs", "wanted"),
    [
        ((784, 200, 10), 30, 1, True),
        ((784, 200, 10), 30, 5, True),
        ((784, 200, 10), 300, 1, False),  # the Gram matrix costs more than the few steps
        ((784, 200, 10), 600, 5, True),
        ((784, 200, 10), 1000, 20, False),  # the Gram matrix is larger than the examples
        ((784, 10), 50, 1, False),
        ((784, 10), 50, 5, True),
    ],
)
def test_the_dual_form_is_taken_where_it_was_measured_to_be_faster(widths, examples, epochs, wanted):
    module = line(*widths)
    chain = chain_of(module, Layout.of(module))
    assert pays(chain, chunk(2, examples, epochs)) is wanted
