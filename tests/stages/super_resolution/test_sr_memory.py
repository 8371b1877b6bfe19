"""Restoring a stack holds its result and one slice's work, however many slices there are."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest
from sr_networks import make_small, wake

from stages.super_resolution import volume_restoration
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.volume_restoration import Restorer, restore_stack

EDGE = 64


def make_restorer():
    model = Model(
        "espcn", wake(make_small("espcn")), Layout(3, 3, "box"), Normalisation(0.0, 500.0)
    )
    return Restorer("network", 3, model)


def make_stack(count):
    rng = np.random.default_rng(0)
    return rng.normal(0, 300, (count, EDGE, EDGE)).astype(np.int16)


@pytest.mark.parametrize("whole_hu", [True, False])
def test_restored_slices_are_let_go_before_the_next_but_one(monkeypatch, whole_hu):
    """Their memory is torch's, which no Python tool counts: so the slices themselves are counted."""
    made, alive = [], []
    real = volume_restoration.restore_volume

    def counted(*arguments, **keywords):
        for restored in real(*arguments, **keywords):
            made.append(weakref.ref(restored.values))
            yield restored
            alive.append(sum(one() is not None for one in made))

    monkeypatch.setattr(volume_restoration, "restore_volume", counted)
    restore_stack(make_stack(8), make_restorer(), whole_hu=whole_hu)
    assert len(made) == 8
    assert max(alive) <= 2


def beyond_result_bytes(count):
    """Return the peak of numpy's memory beyond the thick slices and the restored ones."""
    thick, restorer = make_stack(count), make_restorer()
    tracemalloc.start()
    try:
        found = restore_stack(thick, restorer, whole_hu=True)
        return tracemalloc.get_traced_memory()[1] - found.values.nbytes
    finally:
        tracemalloc.stop()


def test_memory_beyond_the_result_does_not_grow_with_the_stack():
    """A copy of the added slices in float32, even of half of them, would be seen."""
    few, many = 48, 96  # more than the 41 that one slice depends on
    beyond_result_bytes(2)  # what is imported and kept at first use is no cost of a slice
    grown = beyond_result_bytes(many) - beyond_result_bytes(few)
    added = 3 * (many - few) * EDGE * EDGE * np.dtype(np.float32).itemsize
    assert grown < added / 2
