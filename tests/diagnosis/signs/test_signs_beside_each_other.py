"""Which of two causes a measurement speaks for: skew or batch norm, a codec or a frozen part, rounds or the network."""

from dataclasses import replace

from evidence_of import (
    aggregation,
    effect,
    exam,
    job,
    labels,
    learning,
    outcome,
    participation,
    round_of,
    rounds,
    trials,
    visit,
    watched,
)

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Outcome
from fedlens.diagnosis.signs.aggregation.poisoned import not_a_number_is_accepted
from fedlens.diagnosis.signs.capacity.stride import maps_shrink_too_early
from fedlens.diagnosis.signs.capacity.weak import model_is_too_weak
from fedlens.diagnosis.signs.communication.sparse import comes_later, updates_are_sparsified
from fedlens.diagnosis.signs.few import unseen
from fedlens.diagnosis.signs.normalisation.skewed import batch_norm_suffers
from fedlens.diagnosis.signs.optimisation.drifts import rate_drifts
from fedlens.diagnosis.signs.optimisation.frozen import parameters_stand_still
from fedlens.diagnosis.signs.partition.skew import labels_are_skewed
from fedlens.diagnosis.verdict.judgement import judged


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def first_of(*findings: Finding | None) -> list[str]:
    return [one.cause for one in judged([one for one in findings if one is not None])[0]]


# Skew, batch norm, drift


def skewed(norm: float, **effects: float) -> Evidence:
    """Dealt again IID the job gains 0.2; group norm gains `norm`."""
    tried = {"iid": effect(0.2), "norm-group": effect(norm)}
    tried |= {name.replace("_", "-"): effect(x) for name, x in effects.items()}
    ends = {"iid": outcome(0.7), "norm-group": outcome(0.5 + norm)}
    seen = rounds(3, exam=exam(0.5), exam_batch=exam(0.7))
    return job(rounds=seen, trials=trials(job=outcome(0.5), reference=outcome(0.5), knobs=ends, effects=tried))


def test_batch_norm_stands_before_skew_where_it_explains_what_skew_costs() -> None:
    most, some = skewed(0.35), skewed(0.05)
    assert first_of(batch_norm_suffers(most), labels_are_skewed(most)) == ["N2"]
    assert first_of(batch_norm_suffers(some), labels_are_skewed(some)) == ["P1"]


def test_many_local_steps_stand_beside_skew_where_fewer_gain_much() -> None:
    far, near = labels_are_skewed(skewed(0.0, fewer_steps=0.1)), labels_are_skewed(skewed(0.0, fewer_steps=0.04))
    assert far is not None and near is not None
    assert "C1" not in far.hides and "C1" in near.hides


# A codec, or a part that is trained alone


def sparse(
    zero: float, still: tuple[str, ...] = (), *, later: float | None = None, codec: str | None = None
) -> Evidence:
    """Two rounds of the same four clients with so many zeros; `later`: what the second sends beyond the trained."""
    seen = tuple(
        round_of(
            number,
            zero=zero,
            visits=tuple(visit(c, zero=zero, still=still, watched=watched(beyond=beyond)) for c in range(4)),
        )
        for number, beyond in ((1, None if later is None else 0.0), (2, later))
    )
    behind = trials(job=outcome(0.45), own_clients=outcome(0.46), effects={"codec-off": effect(0.3)})
    return job({} if codec is None else {"codec": codec}, rounds=seen, trials=behind)


def test_zeros_of_entries_that_nobody_trains_are_no_codec() -> None:
    """The second matrix holds 256 of 384 parameters; without it nothing of an update is 0."""
    head = sparse(256 / 384, still=("1.weight",))
    wide = replace(
        head,
        facts=replace(
            head.facts,
            entries=head.facts.entries | {"1.weight": head.facts.entries["1.weight"]._replace(shape=(64, 512))},
        ),
    )
    almost = 32768 / (32768 + 128)
    wide = replace(
        wide,
        rounds=tuple(
            replace(one, zero=almost, visits=tuple(replace(v, zero=almost) for v in one.visits)) for one in wide.rounds
        ),
    )
    assert updates_are_sparsified(wide) is None
    found = parameters_stand_still(wide)
    assert found is not None and (found.cause, found.certainty) == ("O8", Certainty.FOUND)
    everywhere = replace(
        wide, rounds=tuple(replace(one, visits=tuple(replace(v, still=()) for v in one.visits)) for one in wide.rounds)
    )
    assert updates_are_sparsified(everywhere) is not None and parameters_stand_still(everywhere) is None


def test_a_part_that_stands_still_is_noted_where_training_it_is_no_better() -> None:
    alone = sparse(256 / 384, still=("1.weight",))
    idle = replace(alone, trials=replace(alone.trials, reference=outcome(0.45)))  # type: ignore[type-var]
    assert certainty(parameters_stand_still(alone)) is Certainty.FOUND
    assert certainty(parameters_stand_still(idle)) is Certainty.NOTED


def test_what_is_left_out_comes_later_where_more_than_was_trained_is_sent_again() -> None:
    assert comes_later(sparse(0.99)) is None
    assert comes_later(sparse(0.99, later=0.0)) is False
    assert comes_later(sparse(0.99, later=0.8)) is True


def test_error_feedback_is_no_fault_of_its_own_and_a_codec_one_where_a_trial_shows_it() -> None:
    assert certainty(updates_are_sparsified(sparse(0.99, later=0.0))) is Certainty.SUPPORTED
    assert certainty(updates_are_sparsified(sparse(0.99, later=0.8))) is Certainty.NOTED
    declared = updates_are_sparsified(sparse(0.99, later=0.8, codec="topk:0.01"))
    assert declared is not None and declared.certainty is Certainty.SUPPORTED and "comes later" in declared.says


def test_a_codec_that_is_only_slow_at_first_is_noted() -> None:
    e = sparse(0.99, later=0.8, codec="topk:0.01")
    assert e.trials is not None and e.trials.reference is not None
    well = replace(e, trials=replace(e.trials, job=outcome(0.85)))
    assert certainty(updates_are_sparsified(well)) is Certainty.NOTED


# Rounds, rates, or the network


def unable(small: float | None, *, rates: tuple[float, float] | None = (0.01, -0.02), map_size: int = 7) -> Evidence:
    """Pooled training of the job's network reaches 0.42, a probe 0.88; no time was left to search rates."""
    curve = (0.1, 0.2, 0.3, 0.4, 0.41, 0.42)
    knobs = {"pooled-samples": outcome(0.42, curve=curve)}
    knobs |= {} if small is None else {"small-network": outcome(small)}
    tried = {} if rates is None else dict(zip(("lr*3", "lr/3"), map(effect, rates), strict=True))
    known = trials(
        job=outcome(0.2), reference=outcome(0.25), knobs=knobs, effects=tried, best=0.42, best_rate_outcome=None
    )
    return job(trials=known, labels=labels(learnable=0.88), learning=learning(half_way=(map_size, map_size)))


def test_a_small_network_that_comes_much_further_shows_a_weak_one() -> None:
    finding = model_is_too_weak(unable(0.9))
    assert certainty(finding) is Certainty.SUPPORTED and finding is not None and "90.0 %" in finding.says
    assert model_is_too_weak(unable(0.55)) is None  # not far enough
    assert model_is_too_weak(unable(None)) is None  # untried
    assert model_is_too_weak(unable(0.9, rates=None)) is None  # another rate may mend it
    assert model_is_too_weak(unable(0.9, rates=(0.4, 0.0))) is None  # another rate does


def test_maps_of_two_pixels_are_the_reason_where_a_small_network_comes_much_further() -> None:
    seen = unable(0.9, map_size=2)
    assert first_of(model_is_too_weak(seen), maps_shrink_too_early(seen)) == ["K4"]
    assert certainty(maps_shrink_too_early(seen)) is Certainty.SUPPORTED
    assert certainty(maps_shrink_too_early(unable(None, map_size=2))) is Certainty.CONSISTENT
    assert certainty(maps_shrink_too_early(job(learning=learning(half_way=(2, 2))))) is Certainty.NOTED
    assert maps_shrink_too_early(unable(0.9, map_size=3)) is None


def at_rates(*of_rounds: float) -> Evidence:
    """Four clients a round that begin with these rates, times 1, 2, 3 and 4."""
    return job(
        {"lr": 0.1},
        rounds=tuple(
            round_of(k, visits=tuple(visit(c, watched=watched(rates=(rate * (c + 1),) * 10)) for c in range(4)))
            for k, rate in enumerate(of_rounds, 1)
        ),
    )


def test_rates_that_compound_in_one_order_are_found_and_a_warm_up_of_each_is_not() -> None:
    assert certainty(rate_drifts(at_rates(0.1, 2.0, 40.0))) is Certainty.FOUND
    assert certainty(rate_drifts(at_rates(0.03, 0.06, 0.1))) is Certainty.NOTED


def test_one_rate_that_begins_at_the_declared_one_and_grows_is_found() -> None:
    grown = tuple(
        round_of(k, visits=tuple(visit(c, watched=watched(rates=(r,) * 10, groups=(r,))) for c in range(4)))
        for k, r in enumerate((0.1, 0.15, 0.22), 1)
    )
    assert certainty(rate_drifts(job({"lr": 0.1}, rounds=grown))) is Certainty.FOUND


# Clients that no round asked


def test_a_client_asked_only_later_that_sends_no_numbers_is_found_where_nothing_refuses_it() -> None:
    bad = (visit(8), visit(9, finite=False))
    finding = not_a_number_is_accepted(job(beside=bad, aggregation=aggregation(non_finite="passed on")))
    assert finding is not None and (finding.certainty, finding.clients) == (Certainty.FOUND, (9,))
    assert not_a_number_is_accepted(job(beside=bad)) is None  # it is refused


def test_who_was_not_asked_yet_is_visited_first_where_the_plan_asks_everybody() -> None:
    asked = rounds(2, visits=tuple(visit(c) for c in range(4)))
    called = unseen(job(rounds=asked, participation=participation(distinct=10)))
    assert (set(called[:6]), set(called[6:])) == ({4, 5, 6, 7, 8, 9}, {0, 1, 2, 3})
    assert unseen(job(rounds=asked, participation=participation(distinct=9))) == ()
    assert unseen(job(rounds=rounds(20, visits=asked[0].visits), participation=participation(distinct=10))) == ()


def test_a_trial_that_ends_in_nothing_proves_no_weakness() -> None:
    lost = unable(0.9)
    assert lost.trials is not None
    diverged = Outcome((0.9,), 20, 1.0, finite=False)
    knobs = {**lost.trials.knobs, "small-network": diverged}
    assert model_is_too_weak(replace(lost, trials=replace(lost.trials, knobs=knobs))) is None
