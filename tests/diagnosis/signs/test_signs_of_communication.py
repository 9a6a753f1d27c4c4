"""Signs of what travels."""

from dataclasses import replace

from evidence_of import aggregation, effect, job, outcome, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.communication.coarse import weights_are_rounded
from fedlens.diagnosis.signs.communication.partial import payload_is_partial
from fedlens.diagnosis.signs.communication.sparse import updates_are_sparsified


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


TOP = {"residual": 0.95, "cosine": 0.3, "zero": 0.999, "total": 0.07, "unexplained": 0.8, "weights": (0.02,) * 4}


def compressed(gain: float, past: float = 0.0) -> Evidence:
    """A declared codec in a job 40 points short, without which the reference gains `gain`."""
    short = trials(job=outcome(0.45), effects={"codec-off": effect(gain)})
    return job({"codec": "topk:0.001"}, rounds=rounds(**(TOP | {"past": past})), trials=short)


def test_a_server_that_keeps_the_largest_entries_is_found() -> None:
    assert certainty(updates_are_sparsified(job(rounds=rounds(**TOP)))) is Certainty.FOUND


def test_zeros_of_a_grid_or_of_a_wrong_sum_are_no_sparsification() -> None:
    assert certainty(updates_are_sparsified(job(rounds=rounds(**TOP, grid=0.01)))) is not Certainty.FOUND
    replaced = aggregation(current=0.0)  # updates take the model's place
    assert certainty(updates_are_sparsified(job(rounds=rounds(**TOP), aggregation=replaced))) is not Certainty.FOUND


def test_features_that_are_always_zero_are_no_sparsification() -> None:
    """A third of the updates is 0 at the clients, and of the aggregate too; the mean is conserved."""
    quiet = tuple(visit(c, zero=0.35) for c in range(4))
    assert updates_are_sparsified(job(rounds=rounds(visits=quiet, zero=0.35))) is None


def test_a_declared_codec_is_blamed_by_a_trial_alone() -> None:
    finding = updates_are_sparsified(compressed(0.3))
    assert certainty(finding) is Certainty.SUPPORTED and finding is not None and finding.treatment == "feedback"
    assert updates_are_sparsified(compressed(0.3, past=0.4)) is None  # with error feedback


def test_uploads_of_zeros_take_a_trial_of_the_clients() -> None:
    sparse = rounds(visits=tuple(visit(c, zero=0.99) for c in range(4)), zero=0.96)
    short = trials(job=outcome(0.45), own_clients=outcome(0.46))
    assert certainty(updates_are_sparsified(job(rounds=sparse, trials=short))) is Certainty.SUPPORTED
    assert certainty(updates_are_sparsified(job(rounds=sparse))) is Certainty.NOTED  # embeddings have this


def test_an_aggregate_on_a_grid_is_found_unless_declared() -> None:
    seen = rounds(grid=0.05)
    assert certainty(weights_are_rounded(job(rounds=seen))) is Certainty.FOUND
    assert weights_are_rounded(job({"codec": "int8"}, rounds=seen)) is None
    assert certainty(weights_are_rounded(job(aggregation=aggregation(truncated=True, grid=0.05)))) is Certainty.FOUND
    assert weights_are_rounded(job(aggregation=aggregation(truncated=True, grid=1.0))) is None  # A2


def test_uploads_on_a_grid_are_noted_where_the_job_is_well() -> None:
    seen = rounds(visits=tuple(visit(c, grid=0.001) for c in range(4)))
    assert certainty(weights_are_rounded(job(rounds=seen))) is Certainty.NOTED
    assert certainty(weights_are_rounded(job(rounds=seen, trials=trials(job=outcome(0.2))))) is Certainty.FOUND


def test_a_declared_codec_through_which_nothing_arrives_is_found() -> None:
    still = rounds(moved=0.0, grid=0.05)
    assert certainty(weights_are_rounded(job({"codec": "int4"}, rounds=still))) is Certainty.FOUND


def test_weights_that_overflow_their_type_are_found() -> None:
    sent = tuple(visit(c, finite=False, retyped=("0.weight",), watched=watched(loss_last=0.4)) for c in range(4))
    assert certainty(weights_are_rounded(job(rounds=rounds(visits=sent, finite=False)))) is Certainty.FOUND
    lost = tuple(visit(c, finite=False, watched=watched(loss_last=float("nan"))) for c in range(4))
    assert weights_are_rounded(job(rounds=rounds(visits=lost, finite=False))) is None


def test_parameters_in_no_upload_are_found_unless_declared() -> None:
    partial = rounds(visits=tuple(visit(c, missing=("1.weight", "2.running_mean")) for c in range(4)))
    assert certainty(payload_is_partial(job(rounds=partial))) is Certainty.FOUND
    for said in ({"local_entries": ("1.",)}, {"frozen": ("1.",)}, {"stateful": True}):
        assert payload_is_partial(job(said, rounds=partial)) is None
    buffers = rounds(visits=tuple(visit(c, missing=("2.running_mean",)) for c in range(4)))
    assert payload_is_partial(job(rounds=buffers)) is None


def test_a_model_in_half_precision_is_noted_until_updates_are_as_small_as_its_steps() -> None:
    fine, some, lost = (rounds(narrow="float16", residual=taken) for taken in (0.006, 0.25, 0.6))
    for harmless in (fine, some):  # rounding to the nearest evens out until steps are as large as updates
        assert certainty(weights_are_rounded(job(rounds=harmless))) is Certainty.NOTED
    finding = weights_are_rounded(job(rounds=lost))
    assert certainty(finding) is Certainty.FOUND and finding is not None and finding.also == ("A2",)
    assert weights_are_rounded(job({"codec": "fp16"}, rounds=lost)) is None
    once = (*rounds(2), *rounds(1, narrow="float16", residual=0.6))
    assert weights_are_rounded(job(rounds=once)) is None


def test_parameters_that_a_few_clients_keep_back_are_found_by_client() -> None:
    def asked(*outside: str, some: tuple[int, ...] = (2, 5), **said: object) -> Evidence:
        kept = replace(watched(), outside=outside)
        sent = tuple(visit(c, still=outside, watched=kept) if c in some else visit(c) for c in range(8))
        return job(said, rounds=rounds(2, visits=sent))

    finding = payload_is_partial(asked("0.weight"))
    assert certainty(finding) is Certainty.FOUND and finding is not None
    assert finding.clients == (2, 5) and "0.weight" in finding.says and finding.hides >= {"B7", "A9", "O8"}
    assert payload_is_partial(asked("0.weight", "1.weight")) is None  # nothing of theirs arrives: another model
    assert payload_is_partial(asked("0.weight", some=(0, 1, 2, 3))) is None  # no few
    assert payload_is_partial(asked("0.weight", codec="topk")) is None
    assert payload_is_partial(asked("0.weight", frozen=("0.",))) is None
    once = asked("0.weight")
    assert payload_is_partial(replace(once, rounds=once.rounds[:1])) is None
