"""Every method against its definition: the battery, its special cases, and an optimum that is known."""

import dataclasses

import pytest
import torch
from battery import check_method, federation_of
from quadratics import Quadratics, federate

from fedlens import ConfigurationError, Experiment, Local
from fedlens.local import Optimizer
from fedlens.methods import METHODS, Client, Method, Reduced, Server, Transfer
from fedlens.runs.configuration import experiment_from
from fedlens.runs.loop import advance

UPDATES = [name for name, make in METHODS.items() if not isinstance(make(), Transfer)]  # FedGKT: test_fedgkt.py


@pytest.mark.parametrize("name", UPDATES)
def test_the_battery(name):
    check_method(METHODS[name])


def final(method: Method, **changes: object) -> torch.Tensor:
    return list(advance(federation_of(method, **changes)))[-1].tree.vector


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


UNIFORM = {"server": {"weights": "uniform"}}
HELD = {"count": 4, "cohort": 3, "holdout": 0.2}
EQUAL = {"clients": {"count": 4, "cohort": 3, "partition": "iid"}, **UNIFORM}


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        (METHODS["fedprox"](mu=0.0), {}),
        (METHODS["fedavgm"](beta=0.0), {}),
        (METHODS["fednova"](), EQUAL),
        (METHODS["scaffold"](), {**UNIFORM, "rounds": 1}),  # the first round: all control variates are zero
        (METHODS["fedexp"](eps=1e6), UNIFORM),  # eta_g falls to its floor of one
        (METHODS["fedsam"](rho=0.0), {"model": {"name": "small:conv_bn_without_dropout"}}),
        (METHODS["fedasam"](rho=0.0), {"model": {"name": "small:conv_bn_without_dropout"}}),
        (METHODS["moon"](mu=0.0), {}),
        (METHODS["ditto"](), {"clients": HELD}),  # the global model is trained as by FedAvg
    ],
    ids=lambda value: value.name if isinstance(value, Method) else "",
)
def test_a_special_case_is_fedavg(method, changes):
    assert relative(final(method, **changes), final(METHODS["fedavg"](), **changes)) <= 1e-12


SAME = ("fedavg", "fedsgd", "fednova", "fedexp", "ditto")  # in the test below


@pytest.mark.parametrize("name", [name for name in UPDATES if name not in SAME])
def test_a_method_is_not_fedavg(name):
    # The same local work and uniform means, one class a client: what differs is the method itself.
    skewed = {"clients": {"count": 4, "cohort": 3, "partition": "shards:1", "holdout": 0.2}, **UNIFORM}
    assert relative(final(METHODS[name](), **skewed), final(METHODS["fedavg"](), **skewed)) > 1e-6


def test_fednova_is_not_fedavg_where_clients_take_different_numbers_of_steps():
    assert relative(final(METHODS["fednova"]()), final(METHODS["fedavg"]())) > 1e-4


# What a correction adds to the gradient is the gradient of a potential that the paper names.
def _potential_fedprox(weights: torch.Tensor, client: Client) -> torch.Tensor:
    return 0.5 * 0.3 * ((weights - client.start) ** 2).sum()


def _potential_feddyn(weights: torch.Tensor, client: Client) -> torch.Tensor:
    return -(client.memory["h_i"] * weights).sum() + 0.5 * 0.3 * ((weights - client.start) ** 2).sum()


@pytest.mark.parametrize(
    ("method", "potential"),
    [
        (METHODS["fedprox"](mu=0.3), _potential_fedprox),
        (METHODS["feddyn"](alpha=0.3), _potential_feddyn),
        (METHODS["ditto"](lam=0.3), _potential_fedprox),  # of the second model v_i: lambda/2 ||v_i - w||^2
    ],
    ids=["fedprox", "feddyn", "ditto"],
)
def test_a_correction_is_the_gradient_of_its_potential_by_finite_differences(method, potential):
    draw = torch.Generator().manual_seed(0)
    start, weights, h, gradient = (torch.randn(9, generator=draw, dtype=torch.float64) for _ in range(4))
    client = Client(start, {}, {"h_i": h}, 0.1, 1.0)
    step = 1e-5 * torch.eye(9, dtype=torch.float64)
    numeric = torch.stack([(potential(weights + e, client) - potential(weights - e, client)) / 2e-5 for e in step])
    correct = method.own or method.correct
    added = correct(gradient, weights, client) - gradient
    assert relative(added, numeric) <= 1e-3
    # Published code forgets the square: its pull is the same at every distance. Ours doubles with it.
    twice = correct(gradient, start + 2 * (weights - start), client) - gradient
    assert torch.allclose(twice + client.memory["h_i"] * (method.name == "feddyn"),
                          2 * (added + client.memory["h_i"] * (method.name == "feddyn")))  # fmt: skip


def test_feddyns_terms_vanish_at_the_start_and_reach_the_local_model():
    start = torch.randn(5)
    client = Client(start, {}, {"h_i": torch.zeros(5)}, 0.1, 1.0)
    assert torch.equal(METHODS["feddyn"]().correct(torch.ones(5), start, client), torch.ones(5))
    # With detached penalties, as published code has them, alpha would not change local training at all.
    small, large = (list(advance(federation_of(METHODS["feddyn"](alpha=a), rounds=1)))[-1] for a in (1e-9, 1.0))
    one, other = ({r.client: r.update_norm for r in state.records} for state in (small, large))
    assert all(other[client] < 0.999 * one[client] for client in one)


def test_adaptive_servers_follow_their_formulas_by_hand():
    # w = 1, mean Delta = 0.5, twice, with m = 0 and v = tau^2 = 0.01 at the start.
    update = Reduced({"update": torch.tensor([0.5], dtype=torch.float64)}, 1.0)
    tau, rate, b1, b2, square = 0.1, 0.2, 0.9, 0.99, 0.25

    def by_hand(second, beta1):
        w, m, v = 1.0, 0.0, tau**2
        for _ in range(2):
            m, v = beta1 * m + (1 - beta1) * 0.5, second(v)
            w += rate * m / (v**0.5 + tau)
        return w

    settings = {"server_lr": rate, "tau": tau}
    cases = [
        (METHODS["fedadagrad"](**settings), by_hand(lambda v: v + square, 0.0)),
        (METHODS["fedadam"](**settings), by_hand(lambda v: b2 * v + (1 - b2) * square, b1)),
        # v stays below Delta^2 here, so Yogi's sign is negative and v grows by (1 - beta2) Delta^2.
        (METHODS["fedyogi"](**settings), by_hand(lambda v: v + (1 - b2) * square, b1)),
    ]
    for method, expected in cases:
        memory = {n: torch.full((1,), value, dtype=torch.float64) for n, value in method.server_memory.items()}
        server = Server(torch.ones(1, dtype=torch.float64), memory)
        for _ in range(2):
            server = method.aggregate(server, update)
        assert server.weights.item() == pytest.approx(expected, rel=1e-12), method.name


def test_fedexp_extrapolates_by_the_ratio_of_squares_and_never_below_one():
    # m orthogonal updates of norm 2: mean square 4, the mean's square 4 / m, so eta = 4 / (2 (4 / m + eps)) = m / 2.
    assert _extrapolation(2 * torch.eye(8, dtype=torch.float64), eps=0.5) == pytest.approx(4 / (2 * (0.5 + 0.5)))
    assert _extrapolation(2 * torch.eye(8, dtype=torch.float64), eps=1e-9) == pytest.approx(4.0)
    assert _extrapolation(torch.ones(8, 8, dtype=torch.float64), eps=1e-9) == 1.0  # agreement: 1/2, held at one


def _extrapolation(updates: torch.Tensor, eps: float) -> float:
    """eta_g of clients [C, T] that send `updates`: the server's step over the mean update."""
    method, start = METHODS["fedexp"](eps=eps), torch.zeros_like(updates)
    upload, _ = method.finish(updates, Client(start, {}, {}, 0.1, 1.0))
    server = Server(torch.zeros(updates.shape[1], dtype=torch.float64))
    step = method.aggregate(server, Reduced({name: value.mean(0) for name, value in upload.items()}, 1.0)).weights
    return (step / updates.mean(0))[0].item()


def test_server_momentum_gains_one_over_one_minus_beta():
    method = METHODS["fedavgm"](beta=0.9)
    server = Server(torch.zeros(1), {"v": torch.zeros(1)})
    for _ in range(300):
        before, server = server.weights, method.aggregate(server, Reduced({"update": torch.ones(1)}, 1.0))
    assert (server.weights - before).item() == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize(
    ("local", "steps", "reach"),
    [
        (Local(), 7, 7.0),
        # [K - r (1 - r^K) / (1 - r)] / (1 - r) with r = 0.9, K = 7
        (Local(momentum=0.9), 7, (7 - 0.9 * (1 - 0.9**7) / 0.1) / 0.1),
        (Local(momentum=0.9, nesterov=True), 1, 1.9),
    ],
)
def test_the_reach_of_the_steps_is_the_norm_that_fednova_names(local, steps, reach):
    assert Optimizer(local).reach(steps) == pytest.approx(reach)
    weights, optimizer = torch.zeros(1, dtype=torch.float64), Optimizer(local)
    state = optimizer.start(weights)
    for _ in range(steps):
        optimizer.step(weights, torch.ones(1, dtype=torch.float64), state, 1.0)
    assert -weights.item() == pytest.approx(reach)


def test_scaffolds_client_memory_is_the_mean_gradient_also_under_momentum():
    # Under one constant gradient g every local step sees g, so c_i+ must be g whatever K, rate and momentum are.
    g, method = torch.tensor([2.0, -1.0], dtype=torch.float64), METHODS["scaffold"]()
    start = torch.zeros_like(g)
    for local in (Local(), Local(momentum=0.9), Local(momentum=0.5, nesterov=True)):
        optimizer, weights = Optimizer(local), start.clone()
        zero = torch.zeros(2, dtype=torch.float64)
        client = Client(start, {"c": zero}, {"c_i": zero}, 0.03, optimizer.reach(11))
        state = optimizer.start(weights)
        for _ in range(11):
            optimizer.step(weights, g.clone(), state, 0.03, lambda gr, w, c=client: method.correct(gr, w, c))
        _, memory = method.finish(weights, client)
        assert torch.allclose(memory["c_i"], g, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "local"),
    [
        ("scaffold", {}, Local(optimizer="adam")),
        ("scaffold", {}, Local(weight_decay=0.1)),
        ("fednova", {}, Local(optimizer="adamw")),
        ("fedsgd", {}, Local(epochs=2, batch="all")),
    ],
)
def test_local_work_that_a_method_excludes_is_refused(name, settings, local):
    with pytest.raises(ConfigurationError, match=name):
        Experiment(method=METHODS[name](**settings), local=local)


def test_wrong_settings_of_a_method_are_told():
    with pytest.raises(ConfigurationError, match="Did you mean 'mu'"):
        Experiment(method={"name": "fedprox", "mue": 0.1})
    with pytest.raises(ConfigurationError, match="alpha = -1 is not above 0"):
        Experiment(method={"name": "feddyn", "alpha": -1})
    with pytest.raises(ConfigurationError, match="mu = 'big' is not a number"):
        Experiment(method={"name": "fedprox", "mu": "big"})


def distance(path: torch.Tensor, clients: Quadratics) -> float:
    return ((path[-1] - clients.optimum).norm() / clients.optimum.norm()).item()


def test_scaffold_and_feddyn_reach_the_optimum_at_ten_per_cent_participation():
    """100 clients, 10 a round, 20 exact gradient steps of rate 0.02, 400 rounds; distances relative to ||w*||.

    FedAvg stops where the cohort's noise and the clients' drift balance; the memories of SCAFFOLD and FedDyn remove
    both, so that their distances go on falling. Measured after 100, 200, 400 rounds: FedAvg 2.2, 2.0, 1.4; SCAFFOLD
    9.2e-3, 8.9e-5, 4.1e-9. FedDyn with alpha = 1 after 100, 400, 800: 0.23, 1.3e-3, 2.4e-6.
    """
    clients = Quadratics.draw()
    average = distance(federate(METHODS["fedavg"](), clients, rounds=400, cohort=10, rate=0.02), clients)
    scaffold = distance(federate(METHODS["scaffold"](), clients, rounds=400, cohort=10, rate=0.02), clients)
    dynamic = distance(federate(METHODS["feddyn"](alpha=1.0), clients, rounds=400, cohort=10, rate=0.02), clients)
    assert average > 0.1
    assert scaffold < 1e-6
    assert dynamic < 1e-2


def test_fednova_removes_the_bias_of_unequal_steps():
    """Curvature 1 everywhere, so K_i steps of rate r move client i by s_i (b_i - w), s_i = 1 - (1 - r)^K_i.

    FedAvg's fixed point is sum s_i b_i / sum s_i. Half of the clients take 2 steps and sit at +1, half take 20 and sit
    at -1: with r = 0.01, s = 0.0199 and 0.182, so FedAvg goes to -0.80; the optimum is 0. FedNova weighs by s_i / K_i =
    0.00995 and 0.0091, which alone would go to (0.00995 - 0.0091) / (0.00995 + 0.0091) = 0.044. With ten of 100 clients
    tau_eff = 2 + 18 q and d = r (1 - 2 q - w) both depend on the cohort's part q of long clients, and their covariance
    -0.36 var(q) over the mean gain 0.11 moves it by -0.074, with var(q) = 0.25 / 10 * 90 / 99: to -0.03. The mean of
    the last 500 of 1,000 rounds.
    """
    steps = torch.tensor([2, 20]).repeat(50)
    centre = torch.where(steps == 2, 1.0, -1.0).double()[:, None]
    clients = Quadratics(torch.ones(100, 1, 1, dtype=torch.float64), centre, steps)

    def settled(name: str) -> float:
        return federate(METHODS[name](), clients, rounds=1000, cohort=10, rate=0.01)[500:].mean().item()

    assert settled("fedavg") == pytest.approx(-0.80, abs=0.03)
    assert settled("fednova") == pytest.approx(-0.03, abs=0.05)


def test_a_method_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        METHODS["fedavg"]().name = "other"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_comes_back_from_its_toml_file(name):
    local = Local(batch="all") if name == "fedsgd" else Local()
    personal = METHODS[name]().personal
    model = {"name": "resnet4/resnet7" if name == "fedgkt" else "resnet8"}
    clients = {"holdout": 0.2 if personal else 0.0}
    experiment = Experiment(method=METHODS[name](), local=local, clients=clients, model=model)
    assert experiment_from(experiment.as_dict()) == experiment
