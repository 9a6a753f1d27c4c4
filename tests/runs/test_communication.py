"""Codecs in a run: bytes by hand, what clients receive and remember, resuming, and that training still learns.

conv_bn trains T = 112 (conv) + 51 (head) + 8 (norm) = 171 numbers; with 8 running statistics the model has P = 179.
Running statistics go up as they are, in 32 bytes. Three clients take part in a round.
"""

import pytest
import torch
from safetensors.torch import load_file
from small import experiment

import fedlens as fl
from fedlens import Clients, ConfigurationError, Experiment, Local
from fedlens.methods import METHODS
from fedlens.runs import execute, prepare
from fedlens.runs.loop import advance

STATISTICS = 8 * 4


def job(**changes: object) -> Experiment:
    communication = {key: changes.pop(key) for key in ("up", "down", "error_feedback") if key in changes}
    return experiment(communication=communication, evaluate_every=4, **changes)


@pytest.mark.parametrize(
    ("up", "bytes_up"),
    [
        ("none", 4 * 171),
        ("float16", 2 * 171),
        ("bfloat16", 2 * 171),
        # Levels -127 to 127 take 8 bits; one bucket of up to 512 entries has one norm.
        ("qsgd:127", 4 + 171),
        # Levels -23 to 23 are 47: 6 bits, 171 * 6 / 8 = 128.25 bytes.
        ("qsgd:23", 4 + 129),
        # ceil(0.1 * 171) = 18 places and values.
        ("top-k:0.1", 18 * 8),
        # One scale and 171 bits, 21.375 bytes.
        ("sign", 4 + 22),
    ],
)
def test_bytes_up_are_those_of_the_codec_by_hand(up, bytes_up):
    for state in list(fl.stream(job(up=up)))[1:]:
        assert state.row["bytes_up"] == 3 * (bytes_up + STATISTICS)
        assert state.row["bytes_down"] == 3 * 4 * 179


@pytest.mark.parametrize(("down", "each"), [("none", 4), ("float16", 2), ("bfloat16", 2)])
@pytest.mark.parametrize(("method", "numbers"), [("fedavg", 179), ("scaffold", 179 + 171)])
def test_bytes_down_are_those_of_the_model_and_what_is_sent_along(down, each, method, numbers):
    for state in list(fl.stream(job(down=down, method=method)))[1:]:
        assert state.row["bytes_down"] == 3 * each * numbers


@pytest.mark.parametrize(
    ("method", "bytes_up", "held"),
    [
        ("scaffold", 2 * (4 + 22) + STATISTICS, 0.0),  # update and c
        ("fednova", 4 + 22 + 4 + STATISTICS, 0.0),  # a single number is not worth a codec
        ("fedper", 4 + 15 + STATISTICS, 0.2),  # 171 - 51 = 120 bits, the head stays
        ("fedbn", 4 + 21, 0.2),  # 171 - 8 = 163 bits, and statistics stay, too
    ],
)
def test_every_part_of_an_upload_is_encoded_and_what_is_kept_is_not_sent(method, bytes_up, held):
    for state in list(fl.stream(job(up="sign", method=method, clients=Clients(count=6, cohort=3, holdout=held))))[1:]:
        assert state.row["bytes_up"] == 3 * bytes_up


def test_down_a_client_trains_from_the_rounded_model():
    plain, rounded = prepare(job()), prepare(job(down="float16"))
    start = plain.start.with_(plain.start.vector.half().float())
    assert not torch.equal(start.vector, plain.start.vector)
    visits = plain.plan.visits(1)
    expected = plain.engine.round(start, {}, visits, {}).reduced()["update"]
    assert torch.equal(rounded.engine.round(rounded.start, {}, visits, {}).reduced()["update"], expected)
    # The server keeps its own digits: the update is added to the model as it was before it was rounded.
    after = list(advance(rounded))[1].tree.vector[:171]
    assert torch.equal(after, rounded.start.vector[:171] + expected)


def test_what_an_upload_lost_stays_with_its_client_and_is_sent_later():
    equal = {"server": {"weights": "uniform"}}  # a weight of one rounds nothing
    coded, plain = prepare(job(up="top-k:0.1", **equal)), prepare(job(**equal))
    first = list(advance(coded))[1]
    visits = plain.plan.visits(1)
    assert sorted(first.memory) == [visit.client for visit in visits]
    mean = torch.zeros(171)
    for visit in visits:
        whole = plain.engine.round(plain.start, {}, [visit], {}).reduced()["update"]
        lost = first.memory[visit.client]["feedback.update"]
        sent = whole != lost
        assert sent.sum() == 18 and not lost[sent].any()  # float32 values travel as they are
        mean += (whole - lost) / 3
    assert torch.allclose(first.tree.vector[:171] - coded.start.vector[:171], mean, atol=1e-7)
    # The next visit from the same model sends what remained beside its update.
    (visit, *_) = visits
    lost = first.memory[visit.client]["feedback.update"]
    again = coded.engine.round(coded.start, {}, [visit], first.memory)
    whole = plain.engine.round(plain.start, {}, [visit], {}).reduced()["update"]
    assert torch.allclose(again.reduced()["update"] + again.memory[visit.client]["feedback.update"], whole + lost)


def test_without_error_feedback_clients_remember_nothing():
    assert list(fl.stream(job(up="top-k:0.1", error_feedback=False)))[-1].memory == {}
    assert list(fl.stream(job()))[-1].memory == {}


def test_coarse_levels_with_error_feedback_are_refused():
    with pytest.raises(ConfigurationError, match="set error_feedback = false"):
        job(up="qsgd:8")
    # Levels -8 to 8 are 17: 5 bits, 106.875 bytes.
    row = list(fl.stream(job(up="qsgd:8", error_feedback=False)))[1].row
    assert row["bytes_up"] == 3 * (4 + 107 + STATISTICS)


def test_a_random_codec_repeats_with_the_seed_alone():
    one, two, other = (list(fl.stream(job(up="qsgd:127", seed=seed))) for seed in (0, 0, 1))
    assert [state.row for state in one] == [state.row for state in two]
    assert torch.equal(one[-1].tree.vector, two[-1].tree.vector)
    assert not torch.equal(one[-1].tree.vector, other[-1].tree.vector)
    # Rounding differs from client to client and round to round: what is lost is never the same twice.
    lost = [kept["feedback.update"] for state in one[1:3] for kept in state.memory.values()]
    assert len({tuple(vector.tolist()) for vector in lost}) >= 3


@pytest.mark.parametrize("up", ["top-k:0.1", "qsgd:127"])
def test_a_stopped_run_resumes_with_what_its_clients_remember(up):
    def stop(title, state, rounds):
        if state.round == 2:
            raise KeyboardInterrupt

    whole = execute(job(up=up, down="float16"), out="whole")
    with pytest.raises(KeyboardInterrupt):
        execute(job(up=up, down="float16"), out="stopped", progress=stop)
    done = execute(out="stopped", resume=True)
    for file in ("rounds.jsonl", "model.safetensors"):
        assert (done / file).read_bytes() == (whole / file).read_bytes()
    (states,) = done.glob("checkpoints/clients-*.safetensors")
    assert [name for name in load_file(states) if name.endswith("/feedback.update")]


@pytest.mark.parametrize("up", ["float16", "qsgd:127", "top-k:0.1", "sign"])
def test_training_still_learns(up):
    coded = experiment(
        rounds=12,
        evaluate_every=12,
        clients=Clients(count=6, cohort=6),
        local=Local(batch=5, lr=0.1, epochs=2),
        communication={"up": up, "down": "float16"},
    )
    last = list(fl.stream(coded))[-1]
    # Guessing gets 1/3 of 30 test images with a standard deviation of 0.086: five of them are 0.76.
    assert last.accuracy > 0.76


def test_methods_that_send_more_learn_through_codecs_too():
    for name in ("scaffold", "fednova", "feddyn"):
        coded = job(up="qsgd:127", method=METHODS[name](), rounds=8, local=Local(batch=5, lr=0.1, epochs=2))
        assert list(fl.stream(coded))[-1].accuracy > 0.76, name
