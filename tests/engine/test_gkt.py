"""Rounds of knowledge transfer: whose model, whose logits, what travels, what is remembered."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import small
import torch

from fedlens import Local
from fedlens.data import Dataset
from fedlens.engine.gkt import Exchange, Exchanged
from fedlens.engine.plan import Federated
from fedlens.errors import RunError
from fedlens.local import evaluate
from fedlens.local.augment import AUGMENTATIONS
from fedlens.methods.fedgkt import Transfer, fedgkt
from fedlens.models import Model
from fedlens.models.halves import build_halves
from fedlens.partition import IID, Partition, Shards
from fedlens.runs.loop import State
from fedlens.runs.store import Journal
from fedlens.server import Server
from fedlens.tree import Tree, bind

LOCAL = Local(batch=4, lr=0.02)


def named(count: int = 18) -> Dataset:
    """Random images 4 x 4, each of a class of its own: a label then says which example it is."""
    draw = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=draw)
    return Dataset(images, torch.arange(count), tuple(map(str, range(count))), (0.5,), (0.25,))


def ready(
    data: Dataset, method: Transfer, local: Local = LOCAL, norm: str = "group", rounds: int = 3, **changes: object
) -> tuple[Exchange, Federated, Tree]:
    """An exchange over 3 clients of `data`, all of them in every round, with its plan and the server's first half."""
    deal = changes.pop("deal", None) or IID().deal(data.labels.numpy(), 3, np.random.default_rng(0))
    plan = Federated(deal, 3, rounds, local, Server(), 5)
    torch.manual_seed(0)
    halves = build_halves(Model("resnet4/resnet7", norm=norm), data.shape, len(data.classes))
    first, start = Tree.of(halves.client), Tree.of(halves.server)
    exchange = Exchange(bind(halves.client), bind(halves.server), first, data, local, method, 5, rounds, **changes)
    return exchange, plan, start


def rounds(exchange: Exchange, plan: Federated, start: Tree, count: int) -> list[Exchanged]:
    """The first `count` rounds; each one's memory holds all clients'."""
    done, memory = [Exchanged(start, {})], {}
    for number in range(1, count + 1):
        last = exchange.round(done[-1].tree, done[-1].server, plan.visits(number), memory)
        memory = {**memory, **last.memory}
        last.memory = memory
        done.append(last)
    return done[1:]


def model_of(exchange: Exchange, state: Mapping[str, torch.Tensor]) -> Tree:
    """The client half that a client's state holds."""
    integers = {name: state[f"gkt.integer.{name}"] for name in exchange.first.integers}
    return exchange.first.with_(state["gkt.model"], integers)


def test_clients_own_their_models_and_never_share_one():
    exchange, plan, start = ready(small.split()[0], fedgkt(server_epochs=1))
    one, two = rounds(exchange, plan, start, 2)
    vectors = [one.memory[client]["gkt.model"] for client in range(3)]
    places = {vector.data_ptr() for vector in (*vectors, exchange.client.vector, exchange.first.vector)}
    assert len(places) == 5
    assert all((vectors[i] - vectors[j]).norm() > 1e-3 for i in range(3) for j in range(i))
    # A second visit goes on from the client's own model, one step of rate 0.02 at a time, and not from another's.
    for client in range(3):
        moved = (two.memory[client]["gkt.model"] - vectors[client]).norm().item()
        assert two.records[client].update_norm == pytest.approx(moved, rel=1e-3) and moved > 0


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_rounds_visits_do_not_depend_on_each_other(norm):
    exchange, plan, start = ready(small.split()[0], fedgkt(server_epochs=1), norm=norm)
    together = exchange.round(start, {}, plan.visits(1), {})
    for visit in reversed(plan.visits(1)):
        alone = exchange.round(start, {}, [visit], {})
        assert torch.equal(alone.memory[visit.client]["gkt.model"], together.memory[visit.client]["gkt.model"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched(Transfer):
    """Keeps what every batch's loss is given."""

    seen: list = dataclasses.field(default_factory=list, compare=False)

    def objective(self, outputs, labels, teacher):
        self.seen.append((labels.clone(), None if teacher is None else teacher.clone()))
        return super().objective(outputs, labels, teacher)


def watched(**settings: float) -> Watched:
    plain = fedgkt(**settings)
    return Watched(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})


def test_whatever_the_order_of_batches_an_example_meets_its_own_teacher():
    # Teacher logits point at the example's label. Two epochs in batches of 4 in other orders; every example has a
    # label of its own, so that any row but the right one would point elsewhere.
    method = watched(server_epochs=1)
    exchange, plan, start = ready(named(), method, Local(epochs=2, batch=4, lr=0.02))
    memory = {}
    for visit in plan.visits(1):
        pointing = 9.0 * torch.nn.functional.one_hot(exchange.data.labels[np.sort(visit.indices)], 18).float()
        memory[visit.client] = {"gkt.model": exchange.first.vector, "gkt.logits": pointing}
        assert not all((np.diff(batch) > 0).all() for batch in visit.batches)  # they are shuffled indeed
    exchange.round(start, {}, plan.visits(1), memory)
    # 6 examples a client make 2 batches an epoch: 3 clients, 2 epochs; what follows is the server's.
    taught = method.seen[:12]
    assert sum(len(labels) for labels, _ in taught) == 36
    for labels, teacher in taught:
        assert torch.equal(teacher.argmax(1), labels)


def test_server_and_clients_teach_each_other_the_logits_of_the_very_example():
    method = watched(server_epochs=2, server_batch=5)
    # A rate that moves nothing leaves every half at its first draw, whose logits are then known for every example.
    exchange, plan, start = ready(named(), method, Local(batch=4, lr=1e-12))
    images = exchange.data.normalise(exchange.data.images)
    exchange.client.load(exchange.first)
    exchange.server.load(start)
    with torch.no_grad():
        client, server = exchange.client.module.eval(), exchange.server.module.eval()
        by_client, by_server = client(images), server(client.extractor(images))
    assert (by_client - by_client[torch.randperm(18)]).abs().max() > 1e-2  # other examples have other logits
    first, _ = rounds(exchange, plan, start, 2)
    # Round 1: 6 client batches (6 examples in 4 + 2, 3 clients), 8 of the server (18 in 5 + 5 + 5 + 3, twice).
    assert [teacher is None for _, teacher in method.seen[:14]] == [True] * 6 + [False] * 8
    for labels, teacher in method.seen[6:14] + method.seen[20:28]:
        assert torch.allclose(teacher, by_client[labels], atol=1e-5)
    for labels, teacher in method.seen[14:20]:
        assert torch.allclose(teacher, by_server[labels], atol=1e-5)
    seen = torch.cat([labels for labels, _ in method.seen[6:10]])
    assert sorted(seen.tolist()) == list(range(18))  # an epoch of the server passes once over all, clients mixed
    for client_number, state in first.memory.items():
        rows = np.sort(plan.partition.client(client_number))
        assert torch.allclose(state["gkt.logits"], by_server[rows], atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_client_gets_what_the_trained_server_says_of_its_examples_in_evaluation(norm):
    exchange, plan, start = ready(small.split()[0], fedgkt(server_epochs=1), norm=norm)
    done = rounds(exchange, plan, start, 1)[0]
    exchange.server.load(done.tree)
    server = exchange.server.module.eval()
    for client, state in done.memory.items():
        exchange.client.load(model_of(exchange, state))
        rows = torch.from_numpy(np.sort(plan.partition.client(client)))
        with torch.no_grad():
            features = exchange.client.module.eval().extractor(exchange.data.normalise(exchange.data.images[rows]))
            assert torch.allclose(state["gkt.logits"], server(features), atol=1e-5)


def test_the_second_round_is_taught_by_the_first():
    exchange, plan, start = ready(small.split()[0], fedgkt(server_epochs=1))
    first, second = rounds(exchange, plan, start, 2)
    other = {client: {**state, "gkt.logits": -state["gkt.logits"]} for client, state in first.memory.items()}
    changed = exchange.round(first.tree, first.server, plan.visits(2), other)
    for client in range(3):
        assert not torch.equal(changed.memory[client]["gkt.model"], second.memory[client]["gkt.model"])


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_equal_seeds_give_equal_bits_and_no_global_randomness_is_used(norm):
    data, local = small.split()[0], Local(batch=4, lr=0.02, momentum=0.9, keep_optimizer=True)
    runs = []
    for number in (1, 2):
        exchange, plan, start = ready(data, fedgkt(server_epochs=1), local, norm, augment=AUGMENTATIONS["crop-flip"])
        torch.manual_seed(number)
        before = torch.get_rng_state()
        runs.append(rounds(exchange, plan, start, 2)[-1])
        assert torch.equal(torch.get_rng_state(), before)
    one, two = runs
    assert torch.equal(one.tree.vector, two.tree.vector) and one.facts() == two.facts()
    assert {name for state in one.memory.values() for name in state} == set(one.memory[0])
    for client, state in one.memory.items():
        assert all(torch.equal(value, two.memory[client][name]) for name, value in state.items())


@pytest.mark.parametrize("optimizer", [{"momentum": 0.9}, {"optimizer": "adam", "lr": 0.002}, {}])
def test_a_checkpoint_of_a_run_folder_holds_all_that_the_next_round_needs(tmp_path, optimizer):
    local = Local(**{"batch": 4, "lr": 0.02, "keep_optimizer": True, **optimizer})
    exchange, plan, start = ready(small.split()[0], fedgkt(server_epochs=1), local, norm="batch")
    first, second = rounds(exchange, plan, start, 2)
    Journal(tmp_path).append(State(1, first.tree, first.server, first.memory, {"round": 1}), last=True)
    state = Journal(tmp_path).latest(start)
    assert state is not None
    resumed = exchange.round(state.tree, state.server, plan.visits(2), state.memory)
    assert torch.equal(resumed.tree.vector, second.tree.vector)
    assert all(torch.equal(value, second.tree.integers[name]) for name, value in resumed.tree.integers.items())
    for client, kept in second.memory.items():
        assert all(torch.equal(value, resumed.memory[client][name]) for name, value in kept.items())
    # 20 examples of a client in batches of 4: 5 steps a round, which the layer has counted over both.
    assert second.memory[0]["gkt.integer.extractor.norm.num_batches_tracked"].item() == 10
    assert bool(first.server) == bool(optimizer)


def test_optimisers_go_on_where_they_are_kept_and_the_servers_always():
    data, method = small.split()[0], fedgkt(server_epochs=2, server_batch=20)
    kept, fresh = (Local(batch=4, lr=0.002, optimizer="adam", keep_optimizer=keep) for keep in (True, False))
    exchange, plan, start = ready(data, method, kept)
    two = rounds(exchange, plan, start, 2)[-1]
    # 60 examples in batches of 20, 2 epochs, 2 rounds: 12 steps of the server; 5 of a client, twice.
    assert two.server["optimizer.count"].item() == 12 and two.memory[0]["optimizer.count"].item() == 10
    exchange, plan, start = ready(data, method, fresh)
    two = rounds(exchange, plan, start, 2)[-1]
    assert two.server["optimizer.count"].item() == 12 and "optimizer.count" not in two.memory[0]


def test_bytes_are_those_of_features_logits_labels_and_first_models():
    exchange, plan, start = ready(named(), fedgkt(server_epochs=1))
    first, second = rounds(exchange, plan, start, 2)
    # 18 examples: 16 maps of 4 x 4 floats, 18 logits, an i64 label up; 18 logits down. 3 clients are new in round 1.
    up, down = 18 * (16 * 16 * 4 + 18 * 4 + 8), 18 * 18 * 4
    assert first.bytes_up == second.bytes_up == up
    assert second.bytes_down == down and first.bytes_down == down + 3 * exchange.first.layout.size * 4


def test_facts_count_visits_and_the_servers_work():
    exchange, plan, start = ready(named(), fedgkt(server_epochs=3, server_batch=5), Local(epochs=2, batch=4, lr=0.02))
    facts = rounds(exchange, plan, start, 1)[0].facts()
    assert (facts["clients"], facts["samples"], facts["steps"], facts["skipped"]) == ([0, 1, 2], 36, 12, [])
    assert (facts["server_epochs"], facts["server_steps"]) == (3, 12)  # 18 in batches of 5: 4 steps an epoch
    assert all(math.isfinite(facts[name]) for name in ("loss_first", "loss_last", "server_loss_last", "update_norm"))


def batches(data: Dataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for chosen in torch.arange(len(data)).split(7):
        yield data.normalise(data.images[chosen]), data.labels[chosen]


def test_accuracy_is_the_mean_over_clients_of_the_server_on_their_features_and_never_above_one():
    train, test = small.split()
    exchange, plan, start = ready(train, fedgkt(server_epochs=2), norm="batch")
    done = rounds(exchange, plan, start, 1)[0]
    found = exchange.evaluate(done.tree, done.memory, [0, 1, 2], lambda: batches(test))
    expected = []
    for client in range(3):
        torch.manual_seed(0)
        halves = build_halves(Model("resnet4/resnet7", norm="batch"), train.shape, 3)
        halves.client.load_state_dict(model_of(exchange, done.memory[client]).state_dict())
        halves.server.load_state_dict(done.tree.state_dict())
        expected.append(evaluate(halves.whole(), batches(test), 3))
    assert found.accuracy == pytest.approx(np.mean([one.accuracy for one in expected]), rel=1e-12)
    assert found.loss == pytest.approx(np.mean([one.loss for one in expected]), rel=1e-9)
    assert len({one.loss for one in expected}) == 3  # every client's own extractor, not one of them thrice
    assert found.examples == 90 and 0 <= found.accuracy <= 1


def test_a_client_without_a_model_is_evaluated_with_the_first_draw():
    train, test = small.split()
    exchange, _, start = ready(train, fedgkt())
    found = exchange.evaluate(start, {}, [0, 1], lambda: batches(test))
    assert np.array_equal(found.confusion, 2 * exchange.evaluate(start, {}, [2], lambda: batches(test)).confusion)


@pytest.mark.parametrize(("partition", "norm"), [(IID(), "batch"), (IID(), "group"), (Shards(1), "group")])
def test_it_learns_what_can_be_told_apart(partition, norm):
    train, test = small.split()
    deal = partition.deal(train.labels.numpy(), 3, np.random.default_rng(0))
    exchange, plan, start = ready(train, fedgkt(server_epochs=4, server_batch=20), norm=norm, deal=deal)
    first, *_, last = rounds(exchange, plan, start, 3)
    found = exchange.evaluate(last.tree, last.memory, [0, 1, 2], lambda: batches(test))
    # The classes differ in the mean of one channel by 100 grey levels, whose noise is 120 / sqrt(12 * 64) = 4.3. Of 30
    # test images guessing gets 1/3 with a standard deviation of sqrt(2 / 9 / 30) = 0.086: five of them are 0.76.
    assert 0.76 < found.accuracy <= 1
    assert last.server_losses[-1] < first.server_losses[0]


def wild(deal_of: Partition) -> tuple[Exchange, Federated, Tree]:
    """Client 1's images are so bright that its training overflows."""
    train = small.split()[0]
    images = train.normalise(train.images).clone()
    images[torch.from_numpy(deal_of.client(1))] *= 1e30
    data = dataclasses.replace(train, images=images, mean=(), std=())
    return ready(data, fedgkt(server_epochs=1), norm="none", deal=deal_of)


def test_a_client_that_diverges_stops_the_run_or_sits_out():
    deal = IID().deal(small.split()[0].labels.numpy(), 3, np.random.default_rng(0))
    exchange, plan, start = wild(deal)
    with pytest.raises(RunError, match="client 1, round 1"):
        exchange.round(start, {}, plan.visits(1), {})
    patient = dataclasses.replace(exchange, skip_failures=True)
    done = patient.round(start, {}, plan.visits(1), {})
    assert [record.client for record in done.records] == [0, 2] == sorted(done.memory)
    assert [entry["client"] for entry in done.skipped] == [1]
    assert len(done.memory[0]["gkt.logits"]) == len(done.memory[2]["gkt.logits"]) == 20
    assert done.bytes_up == 40 * (16 * 64 * 4 + 3 * 4 + 8)
    with pytest.raises(RunError, match="every client of the cohort failed"):
        patient.round(start, {}, plan.visits(1)[1:2], {})


def test_a_server_that_diverges_or_cannot_train_is_told_as_the_server():
    train = small.split()[0]
    exchange, plan, start = ready(train, fedgkt(server_epochs=2, server_lr=1e30), norm="none")
    with pytest.raises(RunError, match="server's training diverged") as told:
        exchange.round(start, {}, plan.visits(1), {})
    assert "server, round 1" in str(told.value) and "server_lr" in str(told.value)
    # 4 x 4 images end as one cell a map: a last batch of one example has no variance.
    exchange, plan, start = ready(named(), fedgkt(server_epochs=1, server_batch=17), norm="batch")
    with pytest.raises(RunError, match="server's training failed") as told:
        exchange.round(start, {}, plan.visits(1), {})
    assert "method.server_batch" in str(told.value)
