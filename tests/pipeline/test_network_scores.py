"""What counts as better, as tied and as best; and which network the pressure would choose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pipeline.network_comparison.judging import area_deviations
from pipeline.network_comparison.scores import (
    AREA,
    DISTANCE,
    METRICS,
    Row,
    Score,
    best_of,
    choose_by_pressure,
    make_row,
    metric_of,
    pool_spreads,
    surely_best,
    verdict,
)

CASES = ("head", "phantom")
finite = st.floats(-100, 100)
scores = st.builds(Score, finite, st.floats(0, 10))


def make_result(case, seed=None, *, phase=0, psnr=30.0, distance=0.2, area=5.0, volume=1.0):
    return {
        "case": case,
        "seed": seed,
        "phase": phase,
        "image": {"psnr_db": psnr},
        "airway": {DISTANCE: distance, AREA: area, "volume_deviation_percent": volume},
    }


def make_rows(**distances_and_areas):
    """Return complete rows from name=(distance, its spread, area, its spread)."""
    return [
        Row(name, (0, 1), (), {DISTANCE: Score(d, ds), AREA: Score(a, as_)})
        for name, (d, ds, a, as_) in distances_and_areas.items()
    ]


@given(scores, scores)
def test_ties_are_mutual_and_exactly_the_differences_within_the_larger_spread(a, b):
    metric = metric_of(DISTANCE)
    tied = abs(a.mean - b.mean) <= max(a.spread, b.spread)
    assert (verdict(metric, a, b) == "tied") == (verdict(metric, b, a) == "tied") == tied


@given(st.sampled_from(METRICS), scores, scores)
def test_better_one_way_is_worse_the_other_way(metric, a, b):
    opposite = {"better": "worse", "worse": "better", "tied": "tied"}
    assert verdict(metric, b, a) == opposite[verdict(metric, a, b)]


@given(st.floats(-100, 100), st.floats(0, 10))
def test_equal_deviations_of_opposite_sign_are_tied(deviation, spread):
    metric = metric_of("volume_deviation_percent")
    assert verdict(metric, Score(deviation, spread), Score(-deviation, spread)) == "tied"


@given(st.sampled_from(METRICS), st.dictionaries(st.text(min_size=1), scores, min_size=1))
def test_the_best_are_those_that_nothing_beats_beyond_the_spread(metric, entries):
    best = best_of(metric, entries)
    assert best
    for name in best:
        assert verdict(metric, entries[name], entries[best[0]]) == "tied"
    for name in set(entries) - set(best):
        assert verdict(metric, entries[best[0]], entries[name]) != "tied"


# --- single runs ----------------------------------------------------------------------------


@given(st.sampled_from(METRICS), finite, finite)
def test_of_two_single_runs_at_one_position_nothing_is_said(metric, a, b):
    single = {"a": Score(a), "b": Score(b)}
    assert verdict(metric, single["a"], single["b"]) == "not judged"
    assert surely_best(metric, single) == ()
    assert set(best_of(metric, single)) == {"a", "b"}  # neither is beaten either


def test_a_single_run_is_judged_by_the_pooled_spread_of_the_methods_with_seeds():
    """Spreads of 3 and 4 pool to the root of (9 + 16) / 2, 3.54: beyond it better, within it tied."""
    metric = metric_of("psnr_db")

    def row(method, *values):
        results = [make_result("head", s, psnr=v) for s, v in enumerate(values)]
        seeds = range(len(values)) if len(values) > 1 else ()
        results = results if seeds else [make_result("head", psnr=values[0])]
        return make_row(method, results, cases=("head",), seeds=seeds)

    rows = [
        row("shipped", 34),
        row("near", 37.5),
        row("far", 37.6),
        row("a", 1, 4),
        row("b", 1, 5),
    ]
    pooled = {r.method: r for r in pool_spreads(rows)}
    for scores in (lambda r: r.scores, lambda r: r.cases["head"]):
        shipped, near, far = (scores(pooled[m])["psnr_db"] for m in ("shipped", "near", "far"))
        assert_allclose(shipped.pooled, np.sqrt(12.5), rtol=1e-12)
        assert verdict(metric, near, shipped) == "tied"
        assert verdict(metric, far, shipped) == "better"
        assert verdict(metric, shipped, far) == "worse"
    # What has seeds keeps its own spread, and the mean of nobody changes.
    assert pooled["a"].scores["psnr_db"] == rows[3].scores["psnr_db"]
    assert pooled["shipped"].scores["psnr_db"].mean == 34


def test_a_method_whose_seeds_are_not_all_there_lends_no_spread():
    """Of three seeds two are judged: their range is not that of three."""
    results = [make_result(case, seed, psnr=30.0 + seed) for case in CASES for seed in (0, 1)]
    partial = make_row("unet", results, cases=CASES, seeds=(0, 1, 2))
    alone = make_row("shipped", [make_result(c) for c in CASES], cases=CASES, seeds=())
    judged = pool_spreads([partial, alone])[1]
    assert judged.scores["psnr_db"].pooled is None
    assert judged.cases["head"]["psnr_db"].pooled is None


def test_one_seed_is_no_spread_of_zero():
    results = [make_result(case, 0) for case in CASES]
    row = make_row("unet", results, cases=CASES, seeds=(0, 1))
    assert row.scores["psnr_db"].spread is None


def test_a_score_is_the_mean_over_cases_then_seeds_and_its_spread_that_of_the_seeds():
    results = [
        make_result("head", 0, psnr=30.0),
        make_result("phantom", 0, psnr=34.0),
        make_result("head", 1, psnr=31.0),
        make_result("phantom", 1, psnr=36.0),
    ]
    row = make_row("unet", results, cases=CASES, seeds=(0, 1))
    assert row.is_complete
    assert row.scores["psnr_db"] == Score(32.75, 1.5)
    assert row.cases["head"]["psnr_db"] == Score(30.5, 1.0)


def test_a_shift_of_all_methods_with_the_slices_is_no_reason_for_a_tie_but_a_changing_difference_is():
    """Methods are paired by position: what moves all of them alike says nothing about them."""

    def row(name, *distances):
        results = [make_result("head", phase=p, distance=d) for p, d in enumerate(distances)]
        found = make_row(name, results, cases=("head",), seeds=(), phases=len(distances))
        return found.scores[DISTANCE]

    low, high = row("low", 0.10, 0.30, 0.20), row("high", 0.13, 0.33, 0.23)
    assert verdict(metric_of(DISTANCE), low, high) == "better"
    changing = row("changing", 0.16, 0.30, 0.23)
    assert_allclose([low.mean, changing.mean], [0.20, 0.23])
    assert verdict(metric_of(DISTANCE), low, changing) == "tied"


def test_a_phase_that_is_missing_leaves_the_method_incomplete():
    results = [make_result(case) for case in CASES]
    assert make_row("linear", results, cases=CASES, seeds=(), phases=1).is_complete
    assert not make_row("linear", results, cases=CASES, seeds=(), phases=2).is_complete


def test_the_order_of_results_changes_nothing():
    rng = np.random.default_rng(0)
    results = [make_result(c, s, psnr=rng.uniform(20, 40)) for c in CASES for s in (0, 1)]
    first = make_row("unet", results, cases=CASES, seeds=(0, 1))
    assert make_row("unet", results[::-1], cases=CASES, seeds=(0, 1)) == first


def test_deviations_of_opposite_sign_do_not_cancel_over_cases_but_keep_their_sign_in_one():
    results = [make_result("head", volume=-4.0), make_result("phantom", volume=2.0)]
    row = make_row("linear", results, cases=CASES, seeds=())
    assert row.scores["volume_deviation_percent"].mean == 3.0
    assert row.cases["head"]["volume_deviation_percent"].mean == -4.0


def test_a_measure_that_one_case_lacks_is_given_for_no_method_as_if_it_had_all():
    results = [make_result("head"), make_result("phantom")]
    del results[1]["airway"][DISTANCE]
    row = make_row("linear", results, cases=CASES, seeds=())
    assert DISTANCE not in row.scores
    assert DISTANCE in row.cases["head"]


def test_a_seed_that_is_missing_or_failed_is_said_and_keeps_the_method_out_of_the_choice():
    results = [make_result(case, 0, distance=0.01) for case in CASES]
    failures = {1: "failed: the loss is no longer finite"}
    partial = make_row("unet", results, cases=CASES, seeds=(0, 1), failures=failures)
    assert partial.seeds == (0,)
    assert partial.missing == ("seed 1: failed: the loss is no longer finite",)
    whole = make_rows(srcnn=(0.3, 0.0, 5.0, 0.0))
    assert choose_by_pressure([partial, *whole], ["unet", "srcnn"]).method == "srcnn"


def test_the_nearest_surface_is_chosen_and_among_ties_the_best_minimal_area():
    rows = make_rows(
        far=(0.30, 0.00, 1.0, 0.0),
        near=(0.20, 0.02, 6.0, 0.5),
        tied=(0.21, 0.01, 4.0, 0.5),
    )
    choice = choose_by_pressure(rows, ["far", "near", "tied"])
    assert choice.method == "tied"
    assert choice.nearest == ("near", "tied")
    assert choice.narrowest == ("far",)
    assert not choice.agrees


def test_a_large_spread_ties_with_the_best_but_does_not_win_by_it():
    rows = make_rows(steady=(0.20, 0.001, 5.3, 1.0), scattered=(0.21, 0.05, 5.2, 1.0))
    choice = choose_by_pressure(rows, ["steady", "scattered"])
    assert choice.nearest == ("steady", "scattered")
    assert choice.method == "steady"


def test_no_candidate_with_an_airway_makes_no_choice():
    assert choose_by_pressure([Row("unet", (0,), ())], ["unet"]).method is None


@given(st.floats(1, 500), st.floats(1, 500), st.floats(0.1, 3))
def test_areas_scaled_by_a_share_are_off_by_it_on_both_sides(left, right, share):
    found = area_deviations(
        {"left": left, "right": right}, {"left": left * share, "right": right * share}
    )
    expected = 100 * (share - 1)
    assert_allclose(list(found["minimal_area_deviation_percent"].values()), expected, atol=1e-9)
    assert_allclose(found["minimal_area_error_percent"], abs(expected), atol=1e-9)


def test_a_side_that_closed_is_off_by_all_of_it():
    found = area_deviations({"left": 40.0, "right": 50.0}, {"right": 50.0})
    assert found["minimal_area_deviation_percent"] == {"left": -100.0, "right": 0.0}
    assert found["minimal_area_error_percent"] == 50.0


@pytest.mark.parametrize("key", [DISTANCE, AREA])
def test_pressure_relevant_errors_are_better_the_smaller(key):
    assert verdict(metric_of(key), Score(0.1, 0.0), Score(0.2)) == "better"
