"""From single results to a table: means over test cases, spread over seeds, ties, and an order.

Notes
-----
A seed's score is the mean over the test cases; a method's score is the mean over its seeds and its
spread the largest minus the smallest of them. A method with a single run (training-free, or a model
that came trained) has no spread of its own; the pooled one of the methods with seeds, the root mean
square of their spreads, stands in for it. If the test cases are judged at several positions of the
thick slices, each position gives a difference between two methods. Two methods are tied if their
scores differ by no more than the larger of their spreads, or by no more than the spread of that
difference over the positions. Where none of these is known, nothing is said: not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metric:
    """Name a measure: where a result holds it, and which way is better.

    Parameters
    ----------
    key
        Name in the result's section.
    section
        ``image`` or ``airway``.
    title
        Column of the tables, with its unit.
    sign
        1: more is better; -1: less; 0: nearer to zero.
    decimals
        Digits shown.
    """

    key: str
    section: str
    title: str
    sign: int
    decimals: int


METRICS = (
    Metric("psnr_db", "image", "PSNR, dB", 1, 2),
    Metric("psnr_soft_tissue_db", "image", "PSNR soft tissue, dB", 1, 2),
    Metric("psnr_airway_wall_db", "image", "PSNR wall, dB", 1, 2),
    Metric("rms_airway_wall_hu", "image", "RMS wall, HU", -1, 1),
    Metric("ssim", "image", "SSIM", 1, 4),
    Metric("ms_ssim", "image", "MS-SSIM", 1, 4),
    Metric("mean_distance_mm", "airway", "surface distance, mean, mm", -1, 4),
    Metric("hausdorff95_mm", "airway", "surface distance, 95 %, mm", -1, 3),
    Metric("volume_deviation_percent", "airway", "airway volume, % off", 0, 2),
    Metric("minimal_area_error_percent", "airway", "minimal area, % off", -1, 2),
)
DISTANCE, AREA = "mean_distance_mm", "minimal_area_error_percent"
"""The two that the pressure loss feels: where the wall is, and how wide the narrowest place is."""


@dataclass(frozen=True)
class Score:
    """Hold a method's mean over seeds and what it varies by.

    Parameters
    ----------
    mean
        Mean over the seeds and the positions of the thick slices.
    spread
        Largest minus smallest seed; None: a single run, of which it is not known.
    phases
        Mean over the seeds at each position of the thick slices.
    pooled
        What stands in for a spread that is not known: that of the methods with seeds, pooled.
    """

    mean: float
    spread: float | None = None
    phases: tuple[float, ...] = ()
    pooled: float | None = None

    def margin(self, other: Score) -> float | None:
        """Return what a difference must exceed, the largest of what was measured; None: nothing was."""
        spreads = [s.pooled if s.spread is None else s.spread for s in (self, other)]
        differences = [a - b for a, b in zip(self.phases, other.phases, strict=False)]
        if len(differences) > 1:
            spreads.append(max(differences) - min(differences))
        return max((spread for spread in spreads if spread is not None), default=None)


@dataclass(frozen=True)
class Row:
    """Hold what is known of one method.

    Parameters
    ----------
    method
        ``linear``, ``unet``, ...
    seeds
        Seeds that are judged on every case.
    missing
        What is not there yet or failed; empty for a complete row.
    scores
        By metric, over all cases; a metric that a case cannot give is left out.
    cases
        By case and metric.
    """

    method: str
    seeds: tuple[int, ...]
    missing: tuple[str, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    cases: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Say whether every seed is judged on every case."""
        return not self.missing


def make_row(
    method: str,
    results: Sequence[Mapping[str, Any]],
    *,
    cases: Sequence[str],
    seeds: Sequence[int],
    phases: int = 1,
    failures: Mapping[int, str] | None = None,
) -> Row:
    """Summarise the results of one method.

    Parameters
    ----------
    method
        Its name.
    results
        Result records of it, any order.
    cases
        Test cases of the comparison.
    seeds
        Seeds wanted; empty for a method without seeds.
    phases
        Positions of the thick slices.
    failures
        Why a seed's training failed.
    """
    by_place = {(r["seed"], r["phase"], r["case"]): r for r in results}
    wanted: Sequence[int | None] = seeds or [None]
    steps = range(phases)
    done = [s for s in wanted if all((s, p, c) in by_place for p in steps for c in cases)]
    failed = failures or {}
    missing = tuple(
        f"seed {seed}: {failed.get(seed, 'not done')}" if seed is not None else "not done"
        for seed in wanted
        if seed not in done
    )
    per_case: dict[str, dict[str, Score]] = {
        case: _scores([[[by_place[s, p, case]] for p in steps] for s in done]) for case in cases
    }
    total = _scores([[[by_place[s, p, case] for case in cases] for p in steps] for s in done])
    return Row(method, tuple(s for s in done if s is not None), missing, total, per_case)


def _scores(results: Sequence[Sequence[Sequence[Mapping[str, Any]]]]) -> dict[str, Score]:
    """Return the score of each metric that every result, by seed, phase and case, holds."""
    found = {}
    for metric in METRICS:
        means = [[_mean_over_cases(metric, cases) for cases in phases] for phases in results]
        if means and not any(value is None for phases in means for value in phases):
            values = np.array(means, dtype=np.float64)
            seeds, phases = values.mean(axis=1), values.mean(axis=0)
            moved = tuple(float(v) for v in phases) if len(phases) > 1 else ()
            # One run varies by nothing that could be seen; that is not a spread of zero.
            spread = float(np.ptp(seeds)) if len(seeds) > 1 else None
            found[metric.key] = Score(float(seeds.mean()), spread, moved)
    return found


def pool_spreads(rows: Sequence[Row]) -> list[Row]:
    """Give scores of single runs the pooled spread of the methods with seeds, by metric and case."""
    whole = [row.scores for row in rows if row.is_complete]
    cases = {
        case: [r.cases.get(case, {}) for r in rows if r.is_complete]
        for r in rows
        for case in r.cases
    }
    return [
        replace(
            row,
            scores=_with_pooled(row.scores, whole),
            cases={case: _with_pooled(own, cases[case]) for case, own in row.cases.items()},
        )
        for row in rows
    ]


def _with_pooled(
    own: Mapping[str, Score], others: Sequence[Mapping[str, Score]]
) -> dict[str, Score]:
    return {
        key: replace(score, pooled=pooled_spread(key, others)) if score.spread is None else score
        for key, score in own.items()
    }


def pooled_spread(key: str, methods: Iterable[Mapping[str, Score]]) -> float | None:
    """Return the root mean square of the spreads over seeds of a metric; None: no method has one."""
    spreads = [m[key].spread for m in methods if key in m]
    known = [spread for spread in spreads if spread is not None]
    return float(np.sqrt(np.mean(np.square(known)))) if known else None


def _mean_over_cases(metric: Metric, results: Sequence[Mapping[str, Any]]) -> float | None:
    values = [result[metric.section].get(metric.key) for result in results]
    if not values or any(value is None for value in values):
        return None
    # Of several cases the size of a deviation counts: opposite signs must not cancel.
    several = metric.sign == 0 and len(values) > 1
    return float(np.mean(np.abs(values) if several else values))


def goodness(metric: Metric, value: float) -> float:
    """Return a number that is larger for a better value."""
    return metric.sign * value if metric.sign else -abs(value)


def best_of(metric: Metric, scores: Mapping[str, Score]) -> tuple[str, ...]:
    """Return the method of the best score and all that it does not beat, best first."""
    if not scores:
        return ()
    ordered = sorted(scores, key=lambda name: -goodness(metric, scores[name].mean))
    first = scores[ordered[0]]
    return tuple(name for name in ordered if verdict(metric, scores[name], first) != "worse")


def surely_best(metric: Metric, scores: Mapping[str, Score]) -> tuple[str, ...]:
    """Return the best and those tied with it; nothing if a spread is not known that would tell."""
    best = best_of(metric, scores)
    said = [verdict(metric, scores[name], scores[best[0]]) for name in best]
    return () if "not judged" in said else best


def verdict(metric: Metric, own: Score, other: Score) -> str:
    """Say whether a method is ``better``, ``worse``, ``tied`` or ``not judged`` beside another."""
    margin = own.margin(other)
    if margin is None:
        return "not judged"
    # Of goodness, not of the numbers: equal deviations of opposite sign are tied.
    difference = goodness(metric, own.mean) - goodness(metric, other.mean)
    if abs(difference) <= margin:
        return "tied"
    return "better" if difference > 0 else "worse"


def metric_of(key: str) -> Metric:
    """Return a metric by its key."""
    return next(metric for metric in METRICS if metric.key == key)


@dataclass(frozen=True)
class Choice:
    """Say which method a pressure loss would choose.

    Parameters
    ----------
    method
        The choice; None: no method has an airway to judge.
    nearest
        Methods whose surfaces are nearest to the thin slices', ties included, best first.
    narrowest
        Methods whose minimal areas are nearest, ties included, best first.
    """

    method: str | None
    nearest: tuple[str, ...]
    narrowest: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Say whether the choice is among the best in both."""
        return self.method in self.narrowest


def choose_by_pressure(rows: Sequence[Row], candidates: Sequence[str]) -> Choice:
    """Choose among candidates: nearest surface; of those tied, best minimal area; then nearest again.

    Rows that are not complete do not take part. A large spread ties a method with the best, but
    does not put it first: between those tied in both the smaller mean distance decides.
    """
    known = {
        row.method: row.scores
        for row in rows
        if row.method in candidates and row.is_complete and {DISTANCE, AREA} <= set(row.scores)
    }
    nearest = best_of(metric_of(DISTANCE), {n: s[DISTANCE] for n, s in known.items()})
    narrowest = best_of(metric_of(AREA), {n: s[AREA] for n, s in known.items()})
    within = best_of(metric_of(AREA), {name: known[name][AREA] for name in nearest})
    chosen = next((name for name in nearest if name in within), None)
    return Choice(chosen, nearest, narrowest)
