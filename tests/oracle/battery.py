"""The battery that every method passes: check_method(make), for each entry of the table."""

from collections.abc import Callable, Mapping

import torch
from small import experiment
from torch import Tensor

from fedlens import Clients, Engine, Local
from fedlens.methods import Client, Method, Reduced, Server
from fedlens.runs import Federation, prepare
from fedlens.runs.loop import State, advance, untrained

SIZE = 7


def check_method(make: Callable[..., Method]) -> None:
    """Run the whole battery on the method that `make()` gives, in float64."""
    method = make()
    _says_where_it_is_from(method)
    _rows_of_a_cohort_are_clients_one_by_one(method)
    _hooks_leave_their_arguments_alone(method)
    federation = federation_of(method)
    _equal_models_average_to_themselves(federation)
    _order_changes_nothing_and_twice_counts_twice(federation)
    _buffers_are_averaged_plainly_and_integers_copied(federation)
    states = list(advance(federation))
    _memory_is_written_back(federation, states)
    _what_is_kept_never_travels(federation, states)
    _a_resumed_run_goes_on(federation, states)
    assert all(torch.isfinite(state.tree.vector).all() for state in states)


def federation_of(method: Method, **changes: object) -> Federation:
    """A small federation in float64 with batch norm, dropout and ragged clients, every client drawn often."""
    full = method.name == "fedsgd"
    local = Local(batch="all" if full else 4, lr=0.05)
    held = 0.2 if method.personal else 0.0
    clients = Clients(count=4, cohort=3, partition={"kind": "quantity", "sigma": 1.0}, holdout=held)
    settings = {"method": method, "local": local, "clients": clients, "rounds": 5}
    return prepare(experiment(**{**settings, "engine": Engine(precision="float64"), **changes}))


def _says_where_it_is_from(method: Method) -> None:
    assert method.source and any(letter.isdigit() for letter in method.source)
    assert set(method.sends) <= set(method.server_memory)


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _clients(method: Method, rows: int) -> Client:
    memory = {name: _random(rows, SIZE) for name in method.client_memory}
    received = {name: _random(SIZE) for name in method.sends}
    reach = torch.arange(1, rows + 1, dtype=torch.float64)[:, None]
    return Client(_random(rows, SIZE), received, memory, 0.1 * reach, reach)


def _row(client: Client, i: int) -> Client:
    memory = {name: value[i] for name, value in client.memory.items()}
    return Client(client.start[i], client.received, memory, client.rate[i], client.reach[i])


def _rows_of_a_cohort_are_clients_one_by_one(method: Method) -> None:
    client, weights, gradient = _clients(method, 3), _random(3, SIZE) + 1, _random(3, SIZE) - 1
    upload, memory = method.finish(weights, client)
    assert "update" in upload and set(memory) == set(method.client_memory)
    for i in range(3):
        alone_upload, alone_memory = method.finish(weights[i], _row(client, i))
        _same({name: value[i] for name, value in upload.items()}, alone_upload)
        _same({name: value[i] for name, value in memory.items()}, alone_memory)
        if method.correct is not None:
            alone = method.correct(gradient[i], weights[i], _row(client, i))
            assert torch.allclose(method.correct(gradient, weights, client)[i], alone, rtol=1e-12)
        if method.perturb is not None:
            alone = method.perturb(gradient[i], weights[i], _row(client, i))
            assert torch.allclose(method.perturb(gradient, weights, client)[i], alone, rtol=1e-12)


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name], other[name], rtol=1e-12, atol=1e-14), name


def _hooks_leave_their_arguments_alone(method: Method) -> None:
    client, weights, gradient = _clients(method, 2), _random(2, SIZE), _random(2, SIZE) - 1
    given = [weights, gradient, client.start, *client.memory.values(), *client.received.values()]
    before = [value.clone() for value in given]
    for hook in (method.correct, method.perturb):
        if hook is not None:
            hook(gradient, weights, client)
    upload, _ = method.finish(weights, client)
    memory = {name: _random(SIZE).abs() for name in method.server_memory}
    server = Server(_random(SIZE), memory)
    given += [server.weights, *memory.values(), *upload.values()]
    before += [value.clone() for value in given[len(before) :]]
    method.aggregate(server, Reduced({name: value.mean(0) for name, value in upload.items()}, 0.5))
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True))


def _equal_models_average_to_themselves(federation: Federation) -> None:
    state, method = untrained(federation), federation.engine.trainer.method
    start = state.tree.vector[: state.tree.layout.trained]
    memory = {name: torch.zeros_like(start) for name in method.client_memory}
    upload, _ = method.finish(start, Client(start, state.server, memory, 1.0, 1.0))
    server = method.aggregate(Server(start, state.server), Reduced(upload, 0.75))
    assert torch.equal(server.weights, start)


def _order_changes_nothing_and_twice_counts_twice(federation: Federation) -> None:
    state, engine = untrained(federation), federation.engine
    first, second, third = federation.plan.visits(1)

    def reduced(*visits: object) -> dict[str, Tensor]:
        return engine.round(state.tree, state.server, visits, {}).reduced()

    _same(reduced(first, second, third), reduced(third, first, second))
    singles = {visit.client: reduced(visit) for visit in (first, second)}
    twice = reduced(first, first, second)
    for name, mean in twice.items():
        uniform = engine.trainer.method.weights.get(name) == "uniform"
        one, other = (1.0, 1.0) if uniform else (first.weight, second.weight)
        expected = (2 * one * singles[first.client][name] + other * singles[second.client][name]) / (2 * one + other)
        assert torch.allclose(mean, expected, rtol=1e-12, atol=1e-14), name


def _buffers_are_averaged_plainly_and_integers_copied(federation: Federation) -> None:
    state, visits = untrained(federation), federation.plan.visits(1)
    alone = [federation.engine.round(state.tree, state.server, [visit], {}) for visit in visits]
    together = federation.engine.round(state.tree, state.server, visits, {})
    total = sum(visit.weight for visit in visits)
    expected = sum(v.weight * o.rest.mean() for v, o in zip(visits, alone, strict=True)) / total
    assert together.rest.mean().numel() == 8 and torch.allclose(together.rest.mean(), expected, rtol=1e-12)
    most = max(zip(visits, alone, strict=True), key=lambda pair: pair[0].examples)[1]
    assert together.integers["norm.num_batches_tracked"] == most.integers["norm.num_batches_tracked"]
    assert together.integers["norm.num_batches_tracked"].dtype == torch.int64


def _memory_is_written_back(federation: Federation, states: list[State]) -> None:
    method, visited = federation.engine.trainer.method, {record.client for state in states for record in state.records}
    for name in method.client_memory:
        for client in visited:
            values = [state.memory[client][f"method.{name}"] for state in states if client in state.memory]
            assert any(not torch.equal(values[0], later) for later in values[1:]), f"{name} of {client} stays as it was"
    for name in method.server_memory:
        assert not torch.equal(states[0].server[name], states[-1].server[name]), f"{name} stays as it was"


def _what_is_kept_never_travels(federation: Federation, states: list[State]) -> None:
    trainer, visited = federation.engine.trainer, {record.client for state in states for record in state.records}
    first, last = states[0].tree.vector, states[-1].tree.vector
    if trainer.kept is not None:
        assert torch.equal(first[trainer.kept], last[trainer.kept])
        assert not torch.equal(first[~trainer.kept], last[~trainer.kept])
    if trainer.method.personal:
        own = [trainer.personal(states[-1].tree, states[-1].memory[client]).vector for client in visited]
        alike = bool(trainer.method.tune)  # a head that is never trained is the same everywhere
        assert all(torch.equal(own[0], other) == alike for other in own[1:])


def _a_resumed_run_goes_on(federation: Federation, states: list[State]) -> None:
    again = list(advance(federation, states[2]))
    assert torch.equal(again[-1].tree.vector, states[-1].tree.vector)
