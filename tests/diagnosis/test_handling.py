"""What small experiments on `fit` and `evaluate` show, on clients whose every number is known."""

from __future__ import annotations

import pytest
import torch
from toys import Toy, subject

from fedlens.diagnosis.job import Declared, Upload
from fedlens.diagnosis.probes.handling import examine_handling
from fedlens.diagnosis.subject.guard import Ailing


def handled(job):
    made = subject(job)
    return examine_handling(made, made.fresh().facts())


class Noisy(Toy):
    """Every visit draws its own noise from the global random state."""

    shape = (60, 10)

    def direction(self, client, round):
        own = super().direction(client, 0)
        return {name: value + 0.05 * torch.randn(self.shape) for name, value in own.items()}


class Seeding(Noisy):
    """The first model seeds the global random state, as many authors' do."""

    def init(self):
        torch.manual_seed(0)
        return super().init()


class Contracting(Noisy):
    """Half of the way to the client's own optimum."""

    def fit(self, client, received, round):
        upload = super().fit(client, received, round)
        for name, target in Toy.direction(self, client, 0).items():
            upload.state[name] += 0.5 * (target - received[name])
        return upload


class Keeping(Noisy):
    """Clients keep their own models and never load the one they are sent."""

    def __init__(self):
        super().__init__()
        self.own = {client: self.init() for client in range(self.clients)}

    def model_of(self, client):
        return self.own[client]

    def fit(self, client, received, round):
        upload = super().fit(client, self.model_of(client), round)
        self.model_of(client).update({name: value.clone() for name, value in upload.state.items()})
        return upload


class Aliased(Keeping):
    """All clients train one model, and none loads."""

    def model_of(self, client):
        return self.own[0]


class Shared(Toy):
    """One random generator for all clients."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def direction(self, client, round):
        own = super().direction(client, 0)
        return {n: v + 0.05 * torch.randn(self.shape, generator=self.generator) for n, v in own.items()}


@pytest.mark.parametrize("job", [Toy, Noisy, Seeding])
def test_healthy_clients_heed_what_they_are_sent_and_are_apart(job):
    seen = handled(job)
    assert len(seen.heeds) == 3
    for client, heeds in seen.heeds.items():
        assert heeds == pytest.approx(1, abs=4 * seen.heeds_error[client] + 1e-5)
        assert seen.follows[client] < 1.5
    assert seen.order == pytest.approx(0, abs=1e-6) and max(seen.order_uploads.values()) < 1e-6
    assert (
        seen.leaks == 0
        and seen.carries == 0
        and seen.repeats == 0
        and seen.order_noise == 0
        and seen.evaluate_moves == 0
    )
    assert not (seen.crossed or seen.unheeded or seen.writes or seen.evaluate_writes or seen.examples_wrong)


def test_training_that_contracts_heeds_by_what_it_leaves():
    seen = handled(Contracting)
    for client, heeds in seen.heeds.items():
        assert heeds == pytest.approx(0.5, abs=0.02 + 4 * seen.heeds_error[client])
    assert not seen.unheeded


def test_clients_that_keep_their_own_models_heed_nothing():
    seen = handled(Keeping)
    assert all(abs(heeds) < 4 * seen.heeds_error[client] + 0.02 for client, heeds in seen.heeds.items())
    assert all(follows > 1.5 for follows in seen.follows.values())
    assert seen.unheeded == ("a", "b")
    assert seen.leaks == pytest.approx(0, abs=1e-6) and max(seen.order_uploads.values()) < 1e-6


def test_clients_that_train_one_model_depend_on_the_order():
    seen = handled(Aliased)
    assert max(seen.order_uploads.values()) > 0.5 and seen.order_noise > 0.5
    assert seen.carries == pytest.approx(1, abs=0.1) and handled(Keeping).carries == pytest.approx(0, abs=1e-6)
    assert seen.repeats == 0


def test_a_model_that_is_shared_and_sent_on_leaks_from_client_to_client():
    class Job(Toy):
        """Clients load what they are sent, into the object that the others train, too late."""

        def __init__(self):
            super().__init__()
            self.one = None

        def fit(self, client, received, round):
            start = received if self.one is None else self.one
            upload = super().fit(client, start, round)
            self.one = {name: value.clone() for name, value in upload.state.items()}
            return upload

    seen = handled(Job)
    assert seen.leaks == pytest.approx(1, abs=1e-4)
    assert seen.order > 0.5 and seen.carries == pytest.approx(1, abs=1e-3)


def test_clients_that_share_a_random_generator_are_apart_though_their_order_matters():
    seen = handled(Shared)
    assert max(seen.order_uploads.values()) > 0.2 and seen.order_noise > 0.2
    assert seen.leaks == pytest.approx(0, abs=1e-6) and seen.repeats == 0 and seen.carries < 0.1
    assert all(heeds == pytest.approx(1, abs=5 * seen.heeds_error[c]) for c, heeds in seen.heeds.items())


def test_an_entry_that_is_never_loaded_is_named():
    class Job(Noisy):
        def fit(self, client, received, round):
            return super().fit(client, {**received, "b": self.init()["b"]}, round)

    assert handled(Job).unheeded == ("b",)


def test_entries_that_are_loaded_in_the_wrong_order_are_named():
    class Job(Noisy):
        def fit(self, client, received, round):
            return super().fit(client, {**received, "a": received["b"], "b": received["a"]}, round)

    seen = handled(Job)
    assert seen.crossed == {"a": "b", "b": "a"} and not seen.unheeded


def test_one_weight_under_two_names_is_neither_crossed_nor_unheeded():
    """As load_state_dict fills a tied weight twice, the second entry counts, and both come back alike."""

    class Job(Noisy):
        def init(self):
            first = super().init()
            return {**first, "a": first["b"].clone()}

        def fit(self, client, received, round):
            upload = super().fit(client, {**received, "a": received["b"]}, round)
            upload.state["a"] = upload.state["b"].clone()
            return upload

    seen = handled(Job)
    assert not seen.crossed and not seen.unheeded
    assert all(heeds == pytest.approx(1, abs=5 * seen.heeds_error[c]) for c, heeds in seen.heeds.items())


def test_updates_are_read_as_the_models_they_stand_for():
    class Job(Noisy):
        declared = Declared(payload="update")

        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            return Upload({name: upload.state[name] - received[name] for name in received}, upload.examples)

    seen = handled(Job)
    assert all(heeds == pytest.approx(1, abs=5 * seen.heeds_error[c]) for c, heeds in seen.heeds.items())


def test_what_writes_to_models_that_are_not_its_own_is_told():
    class Fit(Toy):
        def fit(self, client, received, round):
            received["a"] += 1
            return super().fit(client, received, round)

    class Evaluate(Toy):
        def evaluate(self, state, round):
            state["norm.running_mean"] += 1
            return super().evaluate(state, round)

    class Remembering(Toy):
        bias = 0.0

        def evaluate(self, state, round):
            self.bias = 1.0
            return super().evaluate(state, round)

        def direction(self, client, round):
            return {name: value + self.bias for name, value in super().direction(client, round).items()}

    assert handled(Fit).writes and not handled(Fit).evaluate_writes
    assert handled(Evaluate).evaluate_writes and not handled(Evaluate).writes
    assert handled(Remembering).evaluate_moves == pytest.approx(10, rel=0.2)  # 1 beside updates of 0.1 a number


def test_reported_examples_are_compared_with_the_data():
    class Job(Toy):
        def train_data(self, client):
            count = self.sizes[client] if client else 7
            return torch.zeros(count, 3), torch.zeros(count, dtype=torch.long)

        def sample(self, round):
            return [0, 1]

    class Silent(Job):
        def fit(self, client, received, round):
            return super().fit(client, received, round).state

    assert handled(Job).examples_wrong == {0: (10.0, 7)}
    assert handled(Silent).examples_wrong == {}


def test_one_network_trained_by_all_clients_is_seen():
    class Own(Toy):
        def init(self):
            torch.manual_seed(0)
            return torch.nn.Linear(4, 2).state_dict()

        def network(self):
            return torch.nn.Linear(4, 2)

        def fit(self, client, received, round):
            module = self.network()
            module.load_state_dict(received)
            optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
            module(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
            return Upload({name: value.clone() for name, value in module.state_dict().items()}, 8)

    class One(Own):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Linear(4, 2)

        def network(self):
            return self.one

    assert handled(Own).shared == ()
    assert len(handled(One).shared) == 4


def test_a_fit_that_raises_cannot_be_examined_and_an_evaluate_that_does_costs_only_itself():
    class Fit(Toy):
        def fit(self, client, received, round):
            raise ValueError("no data")

    class Evaluate(Toy):
        def evaluate(self, state, round):
            raise ValueError("no data")

    with pytest.raises(Ailing):
        handled(Fit)
    assert handled(Evaluate).leaks == 0 and handled(Evaluate).evaluate_moves is None


def test_clients_that_return_what_they_received_heed_it():
    class Job(Toy):
        def direction(self, client, round):
            return {}

    seen = handled(Job)
    assert all(heeds == pytest.approx(1, abs=1e-2) for heeds in seen.heeds.values()) and seen.order is None
