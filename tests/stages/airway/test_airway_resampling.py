"""The grid on which the airway is sought: one lattice for every crop, and what lies between slices."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from stages.airway.resampling import resample, upright_grid

corner = st.tuples(*[st.floats(-300, 300)] * 3)


@given(corner, st.tuples(*[st.floats(1, 80)] * 3), st.sampled_from([0.4, 0.6, 1.0]))
def test_every_box_is_filled_by_voxels_of_one_lattice(low, size, spacing):
    high = tuple(np.add(low, size))
    grid = upright_grid((low, high), spacing)
    first = np.array(grid.origin_mm)
    last = first + spacing * (np.array(grid.shape[::-1]) - 1)
    np.testing.assert_allclose(first / spacing, np.rint(first / spacing), atol=1e-9)
    assert (first >= np.array(low) - 1e-3).all()
    assert (first - spacing < np.array(low)).all()
    assert (last <= np.array(high) + 1e-3).all()
    assert (last + spacing > np.array(high)).all()


def test_splines_find_more_of_a_bell_between_coarse_slices_than_lines():
    coarse = VoxelGrid((13, 9, 9), (3.0, 1.0, 1.0), (-4.0, -4.0, -18.0))
    fine = VoxelGrid((49, 1, 1), (0.5, 1.0, 1.0), (0.0, 0.0, -12.0))

    def bell(grid):
        z = grid.origin_mm[2] + grid.spacing_mm[0] * np.arange(grid.shape[0])
        hu = -1000 * np.exp(-0.5 * (z / 3.0) ** 2)
        return np.broadcast_to(hu[:, None, None], grid.shape).astype(np.float32)

    scan = Volume(np.ascontiguousarray(bell(coarse)), coarse)
    errors = [np.abs(resample(scan, fine, smoothly=s) - bell(fine)).max() for s in (False, True)]
    assert errors[1] < 0.25 * errors[0]
