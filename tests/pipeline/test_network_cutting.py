"""What is cut out of a head, and what is shown of it, stays where it was in the patient."""

from io import BytesIO

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from numpy.testing import assert_allclose

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from pipeline.network_comparison.cutting import LEAST_EDGE, box_around, cut_volume, shifted
from pipeline.network_comparison.pictures import coronal_png


def make_ramp(shape, spacing=(1.5, 0.5, 0.7)):
    """Return a volume whose values are where its voxels lie: x + y + z, mm."""
    turned = ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (1.0, 0.0, 0.0))
    grid = VoxelGrid(shape, spacing, (-11.0, 7.0, 3.0), turned)
    index = np.moveaxis(np.indices(shape), 0, -1)
    return Volume(grid.to_world_mm(index).sum(axis=-1).astype(np.float32), grid)


def test_what_is_cut_stays_where_it_was_in_the_patient():
    piece = cut_volume(make_ramp((12, 14, 10)), np.array([3, 2, 4]), np.array([9, 13, 8]))
    places = piece.grid.to_world_mm(np.moveaxis(np.indices(piece.grid.shape), 0, -1))
    assert_allclose(piece.values, places.sum(axis=-1), atol=1e-4)  # float32 at 30 mm


@given(st.integers(0, 2**31), st.floats(0, 6))
def test_the_box_holds_the_mask_and_its_margin_inside_the_volume(seed, margin_mm):
    rng = np.random.default_rng(seed)
    volume = make_ramp((40, LEAST_EDGE + 30, 60))
    mask = np.zeros((20, 30, 30), dtype=bool)
    low = rng.integers(0, 15, 3)
    mask[tuple(slice(a, a + 4) for a in low)] = True
    x, y, z = (float(v) for v in volume.grid.to_world_mm(np.array([5.0, 20.0, 5.0])))
    mask_grid = VoxelGrid(mask.shape, (0.9, 1.1, 0.8), (x, y, z), volume.grid.axes)
    first, last = box_around(mask, mask_grid, volume.grid, margin_mm=margin_mm)
    shape = np.array(volume.grid.shape)
    assert (first >= 0).all()
    assert (last <= shape).all()
    assert last[1] - first[1] >= LEAST_EDGE
    centres = volume.grid.to_index(mask_grid.to_world_mm(np.argwhere(mask)))
    margin = margin_mm / np.array(volume.grid.spacing_mm)
    assert (first <= np.maximum(centres.min(axis=0) - margin, 0)).all()
    assert (last - 1 >= np.minimum(centres.max(axis=0) + margin, shape - 1)).all()


@given(st.integers(0, 40), st.integers(9, 60), st.sampled_from([3, 5]))
def test_phases_hold_equally_many_whole_thick_slices_one_thin_slice_apart(start, size, factor):
    box = np.array([start, 2, 3]), np.array([start + size, 20, 30])
    found = [shifted(*box, phase=phase, factor=factor) for phase in range(factor)]
    for phase, (first, last) in enumerate(found):
        assert first[0] == start + phase
        assert (last[0] - first[0]) % factor == 0
        assert last[0] <= start + size
        assert last[0] - first[0] == found[0][1][0] - found[0][0][0] > 0
        assert_allclose([*first[1:], *last[1:]], [2, 3, 20, 30])


def test_a_picture_shows_the_voxels_of_the_coronal_slice_through_a_place():
    grid = VoxelGrid((3, 4, 5), (2.0, 1.0, 1.0))
    values = np.full(grid.shape, -1000, dtype=np.int16)
    values[2, 1, 4] = 300
    shown = imread(BytesIO(coronal_png(Volume(values, grid), np.array([0.0, 1.2, 0.0]))))[..., 0]
    # z upwards, slices of 2 mm two pixels high
    expected = np.zeros((6, 5))
    expected[:2, 4] = 1.0
    assert_allclose(shown, expected, atol=1e-6)
    elsewhere = imread(BytesIO(coronal_png(Volume(values, grid), np.array([0.0, 3.0, 0.0]))))
    assert elsewhere[..., 0].max() == 0
