"""Signs of norm layers and their buffers."""

from dataclasses import replace

import pytest
import torch.nn as nn
from evidence_of import (
    ENTRIES,
    aggregation,
    effect,
    evaluating,
    exam,
    facts,
    handling,
    job,
    outcome,
    rounds,
    trials,
    visit,
    watched,
)

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.normalisation.apart import groups_of_one_channel
from fedlens.diagnosis.signs.normalisation.counters import buffers_are_cast
from fedlens.diagnosis.signs.normalisation.frozen import trained_in_evaluation_mode
from fedlens.diagnosis.signs.normalisation.ignored import declared_entries_do_not_exist
from fedlens.diagnosis.signs.normalisation.mode import evaluated_in_training_mode
from fedlens.diagnosis.signs.normalisation.skewed import batch_norm_suffers
from fedlens.diagnosis.signs.normalisation.stepped import statistics_are_stepped
from fedlens.diagnosis.signs.normalisation.unaggregated import statistics_are_not_averaged
from fedlens.diagnosis.subject.patient import norms_of

MEAN, VAR, COUNT = "2.running_mean", "2.running_var", "2.num_batches_tracked"
ALL = dict.fromkeys(ENTRIES, "mean")


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


@pytest.mark.parametrize("fate", ["kept", "one", "missing", "sum"])
def test_statistics_that_are_no_mean_are_found_with_made_up_uploads(fate: str) -> None:
    e = job(aggregation=aggregation(fates=ALL | {MEAN: fate, VAR: fate}))
    assert certainty(statistics_are_not_averaged(e)) is Certainty.FOUND


def test_statistics_that_are_one_clients_in_every_round_are_found() -> None:
    e = job(rounds=rounds(fates={MEAN: "one", VAR: "one", COUNT: "one"}))
    assert certainty(statistics_are_not_averaged(e)) is Certainty.FOUND


def test_statistics_that_come_back_as_they_went_are_the_clients_matter() -> None:
    """Rounded to whole numbers they stay those of the start, 0 and 1; the server averages what differs."""
    e = job(rounds=rounds(fates={MEAN: "kept", VAR: "mean", COUNT: "mean"}))
    finding = statistics_are_not_averaged(e)
    assert finding is not None and (finding.where, finding.treatment) == ("job.py:10", "reference-client")
    assert "as they went" in finding.says and "X2" in finding.also
    kept = aggregation(fates=ALL | {MEAN: "kept"})
    server = statistics_are_not_averaged(job(rounds=e.rounds, aggregation=kept))
    assert server is not None and (server.where, server.treatment) == ("job.py:20", "mean-buffers")


def test_the_weight_is_what_running_statistics_cost() -> None:
    kept = ALL | {MEAN: "kept", VAR: "kept"}
    e = job(aggregation=aggregation(fates=kept), rounds=rounds(exam=exam(0.11), exam_batch=exam(0.6)))
    finding = statistics_are_not_averaged(e)
    assert finding is not None and finding.weight == pytest.approx(0.49) and "N2" in finding.hides


def test_counters_masks_local_and_idle_statistics_are_no_fault() -> None:
    kept = ALL | {MEAN: "kept", VAR: "kept"}
    assert statistics_are_not_averaged(job(aggregation=aggregation(fates=ALL | {COUNT: "kept"}))) is None
    assert statistics_are_not_averaged(job({"local_entries": ("2.",)}, aggregation=aggregation(fates=kept))) is None
    idle = rounds(visits=tuple(visit(c, watched=watched(updating=False)) for c in range(4)))
    assert statistics_are_not_averaged(job(aggregation=aggregation(fates=kept), rounds=idle)) is None
    table = {name: entry for name, entry in ENTRIES.items() if entry.kind == "parameter"}
    table["positions"] = ENTRIES[MEAN]
    fates = dict.fromkeys(table, "mean") | {"positions": "kept"}
    e = job(facts=facts(entries=table, norms={}), aggregation=aggregation(fates=fates))
    assert statistics_are_not_averaged(e) is None


def test_statistics_that_no_state_holds_are_consistent_where_they_cost() -> None:
    trained = {name: entry for name, entry in ENTRIES.items() if entry.kind == "parameter"}
    seen = rounds(exam=exam(0.11), exam_batch=exam(0.6), fates={})
    e = job(facts=facts(entries=trained), rounds=seen, trials=trials(job=outcome(0.11)))
    assert certainty(statistics_are_not_averaged(e)) is Certainty.CONSISTENT
    assert statistics_are_not_averaged(job(facts=facts(entries=trained), rounds=seen)) is None


def test_statistics_that_no_state_holds_are_found_where_the_report_is_of_those_of_the_start() -> None:
    trained = {name: entry for name, entry in ENTRIES.items() if entry.kind == "parameter"}
    same, other = ({"accuracy": 0.11}, {"accuracy": 0.6})
    for reported, expected in ((same, Certainty.FOUND), (other, None)):
        seen = rounds(exam=exam(0.11), exam_batch=exam(0.6), fates={}, reported=reported)
        e = job(facts=facts(entries=trained), rounds=seen)
        assert certainty(statistics_are_not_averaged(e)) is expected


def suffering(**effects: float) -> Evidence:
    gains = {name.replace("_", "-"): effect(gain) for name, gain in effects.items()}
    seen = rounds(exam=exam(0.5), exam_batch=exam(0.7))
    return job(trials=trials(job=outcome(0.5), effects=gains), rounds=seen)


def test_batch_norm_is_only_blamed_by_a_trial() -> None:
    finding = batch_norm_suffers(suffering(norm_group=0.2))
    assert certainty(finding) is Certainty.SUPPORTED and finding is not None and finding.treatment == "norm-group"
    assert batch_norm_suffers(suffering(norm_group=-0.05)) is None
    assert batch_norm_suffers(suffering()) is None


def test_group_norm_that_gains_on_tiny_batches_leaves_nothing_to_a_weak_network() -> None:
    e = suffering(norm_group=0.2)
    tiny = rounds(visits=tuple(visit(c, watched=watched(batches=(2,) * 100)) for c in range(4)))
    small, usual = (batch_norm_suffers(one) for one in (replace(e, rounds=tiny), e))
    assert small is not None and {"K1", "O1"} <= small.hides
    assert usual is not None and not {"K1", "O1"} & usual.hides


def test_a_variance_below_zero_is_found() -> None:
    assert certainty(statistics_are_stepped(job(rounds=rounds(negative=(VAR,))))) is Certainty.FOUND


def test_statistics_that_are_no_mean_beside_sound_parameters_are_found_and_beside_unsound_ones_not() -> None:
    other = ALL | {MEAN: "other", VAR: "other"}
    odd = rounds(fates={MEAN: "other", VAR: "other"})
    assert certainty(statistics_are_stepped(job(aggregation=aggregation(fates=other), rounds=odd))) is Certainty.FOUND
    twice = aggregation(fates=other, weights=(0.25, 0.5, 1.25))
    assert statistics_are_stepped(job(aggregation=twice, rounds=odd)) is None
    assert statistics_are_stepped(job({"reduce": "median"}, rounds=odd)) is None


def test_statistics_under_a_declared_server_optimiser_are_judged_by_rounds_alone() -> None:
    odd = rounds(fates={MEAN: "other", VAR: "other"}, residual=0.9)
    adam = {"server_optimizer": "adam", "server_lr": 0.03}
    assert certainty(statistics_are_stepped(job(adam, rounds=odd))) is Certainty.FOUND
    other = aggregation(fates=ALL | {MEAN: "other", VAR: "other"}, rule="adaptive")
    assert statistics_are_stepped(job(adam, aggregation=other)) is None


def test_a_report_in_training_mode_is_found_where_it_differs() -> None:
    v = evaluating(matches="train mode", reported=(0.6,), measured=(0.3,))
    assert certainty(evaluated_in_training_mode(job(evaluating=v))) is Certainty.FOUND
    near = evaluating(matches="train mode", reported=(0.301,), measured=(0.3,))
    assert certainty(evaluated_in_training_mode(job(evaluating=near))) is Certainty.NOTED
    assert certainty(evaluated_in_training_mode(job(handling=handling(evaluate_writes=True)))) is Certainty.NOTED
    drops = {"training": ("Dropout",), "reported": (0.3,), "measured": (0.3,), "measured_train": (), "matches": "none"}
    moves = evaluated_in_training_mode(job(evaluating=evaluating(**drops, steady=0.01)))
    assert certainty(moves) is Certainty.FOUND and moves is not None and "D9" in moves.hides and "Dropout" in moves.says
    off = evaluating(**{**drops, "measured": (0.4,)})
    assert certainty(evaluated_in_training_mode(job(evaluating=off))) is Certainty.FOUND
    unmoved = evaluating(**drops)
    assert certainty(evaluated_in_training_mode(job(evaluating=unmoved))) is Certainty.NOTED


def test_a_counter_that_becomes_a_float_is_noted_and_a_statistic_of_whole_numbers_found() -> None:
    assert certainty(buffers_are_cast(job(aggregation=aggregation(dtypes={COUNT: ("int64", "float32")})))) == 0
    assert certainty(buffers_are_cast(job(aggregation=aggregation(dtypes={MEAN: ("float32", "int64")})))) == 3
    shapeless = rounds(visits=tuple(visit(c, reshaped=(COUNT,)) for c in range(4)))
    assert certainty(buffers_are_cast(job(rounds=shapeless))) is Certainty.FOUND


def still_in_evaluation(**changes: object) -> tuple[object, ...]:
    return rounds(visits=tuple(visit(c, watched=watched(stuck=("2",), updating=False, **changes)) for c in range(4)))


def test_training_in_evaluation_mode_is_found_where_statistics_stand_still() -> None:
    assert certainty(trained_in_evaluation_mode(job(rounds=still_in_evaluation()))) is Certainty.FOUND
    assert trained_in_evaluation_mode(job({"frozen": ("2",)}, rounds=still_in_evaluation())) is None
    assert trained_in_evaluation_mode(job({"method": "FixBN"}, rounds=still_in_evaluation())) is None


def test_modules_in_evaluation_mode_without_statistics_are_only_noted() -> None:
    trained = {name: entry for name, entry in ENTRIES.items() if entry.kind == "parameter"}
    e = job(facts=facts(entries=trained, norms={}), rounds=still_in_evaluation())
    assert certainty(trained_in_evaluation_mode(e)) is Certainty.NOTED


def test_group_norm_with_a_group_for_every_channel_is_noted() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(4, 4), nn.GroupNorm(2, 4), nn.GroupNorm(1, 1))

    def told(part: nn.Module) -> Finding | None:
        return groups_of_one_channel(job(facts=replace(facts(), norms=norms_of(part))))

    assert certainty(told(network)) is Certainty.NOTED and "1 of 3 group norms" in str(told(network))
    assert told(network[2:]) is None


def test_a_declared_beginning_that_no_entry_has_is_noted() -> None:
    assert certainty(declared_entries_do_not_exist(job({"local_entries": ("bn",)}))) is Certainty.NOTED
    assert declared_entries_do_not_exist(job({"local_entries": ("2.",)})) is None
