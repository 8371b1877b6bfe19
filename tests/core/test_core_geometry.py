"""Geometry and volumes: grids, world points and NIfTI agree with one another and SimpleITK."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane, read_planes, write_planes
from pipeline.core.units import m3_s_to_ml_s, ml_s_to_m3_s
from pipeline.core.volume import Volume, read_volume, write_volume

lengths = st.floats(0.1, 10)
places = st.floats(-500, 500)


@st.composite
def grids(draw):
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True)
    axes = turn.as_matrix() * np.array(draw(st.sampled_from([[1, 1, 1], [1, 1, -1]])))
    return VoxelGrid(
        draw(st.tuples(*[st.integers(1, 6)] * 3)),
        draw(st.tuples(lengths, lengths, lengths)),
        draw(st.tuples(places, places, places)),
        tuple(tuple(float(v) for v in row) for row in axes),
    )


@given(grid=grids(), index=st.tuples(*[st.floats(-9, 9)] * 3))
def test_index_to_world_and_back_is_the_identity(grid, index):
    there = grid.to_world_mm(np.array(index))
    assert_allclose(grid.to_index(there), index, atol=1e-9)


@given(grid=grids())
def test_a_step_along_an_axis_is_its_spacing_long(grid):
    origin = grid.to_world_mm(np.zeros(3))
    steps = grid.to_world_mm(np.eye(3)) - origin
    assert_allclose(np.linalg.norm(steps, axis=1), grid.spacing_mm, rtol=1e-9)
    assert abs(np.linalg.det(steps)) == pytest.approx(grid.voxel_volume_mm3, rel=1e-9)


@given(grid=grids())
def test_the_nifti_affine_turns_the_grid_round_trip(grid):
    again = VoxelGrid.from_affine_ras(grid.shape, grid.affine_ras())
    assert grid.matches(again, tolerance_mm=1e-6)


@given(grid=grids(), index=st.tuples(*[st.integers(0, 5)] * 3))
def test_the_affine_is_the_world_in_ras(grid, index):
    ras = grid.affine_ras() @ [index[2], index[1], index[0], 1]
    lps = grid.to_world_mm(np.array(index, dtype=float))
    assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0, 1, 1)},
        {"spacing_mm": (0.0, 1.0, 1.0)},
        {"spacing_mm": (float("nan"), 1.0, 1.0)},
        {"axes": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.1), (1.0, 0.0, 0.0))},
    ],
)
def test_a_grid_that_no_scanner_can_have_is_refused(wrong):
    with pytest.raises(ValueError, match=r"needs|must|orthonormal"):
        VoxelGrid(**({"shape": (2, 2, 2), "spacing_mm": (1.0, 1.0, 1.0)} | wrong))


@settings(max_examples=20, deadline=None)
@given(grid=grids())
def test_simpleitk_sees_the_same_world_points(tmp_path_factory, grid):
    path = tmp_path_factory.mktemp("v") / "v.nii.gz"
    write_volume(path, Volume(np.zeros(grid.shape, np.int16), grid))
    image = SimpleITK.ReadImage(str(path))
    last = np.array(grid.shape) - 1
    point = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in last[::-1]])
    # NIfTI keeps the affine in float32: 500 mm times 2^-23, and SimpleITK rounds directions.
    assert_allclose(point, grid.to_world_mm(last.astype(float)), atol=1e-2)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(8.0).reshape(2, 2, 2), np.int16),
        (np.arange(8.0).reshape(2, 2, 2) + 0.25, np.float32),
        (np.full((2, 2, 2), 40000.0), np.float32),
        (np.ones((2, 2, 2), bool), np.uint8),
    ],
)
def test_values_survive_the_file_in_the_smallest_exact_type(tmp_path, values, kind):
    grid = VoxelGrid((2, 2, 2), (1.0, 2.0, 3.0))
    write_volume(tmp_path / "v.nii.gz", Volume(values, grid))
    again = read_volume(tmp_path / "v.nii.gz")
    assert again.values.dtype == kind
    assert np.array_equal(again.values, values)


def test_the_bytes_of_a_volume_depend_on_nothing_else(tmp_path):
    volume = Volume(np.arange(8.0).reshape(2, 2, 2), VoxelGrid((2, 2, 2), (1.0, 2.0, 3.0)))
    for name in ("one.nii.gz", "two.nii.gz"):
        write_volume(tmp_path / name, volume)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.nii.gz", "two.nii.gz"))
    assert one == two
    write_volume(tmp_path / "v.nii", volume)
    assert gzip.decompress(one) == (tmp_path / "v.nii").read_bytes()


def test_unusable_volumes_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "none.nii.gz")
    (tmp_path / "text.nii.gz").write_text("text")
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_volume(tmp_path / "text.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 3)), np.eye(4)), tmp_path / "4.nii")
    with pytest.raises(InputError, match="4 dimensions"):
        read_volume(tmp_path / "4.nii")
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2)), None)
    image.set_sform(sheared, 1)
    nibabel.save(image, tmp_path / "sheared.nii")
    with pytest.raises(InputError, match="orthonormal"):
        read_volume(tmp_path / "sheared.nii")


def test_values_must_fit_their_grid():
    with pytest.raises(ValueError, match="do not fit"):
        Volume(np.zeros((2, 2, 3)), VoxelGrid((2, 2, 2), (1.0, 1.0, 1.0)))


def test_planes_survive_the_file_with_unit_normals(tmp_path):
    planes = [Plane("nostril-left", (1.0, 2.0, 3.0), (0.0, 0.0, 2.0), 8.0)]
    write_planes(tmp_path / "planes.json", planes)
    again = read_planes(tmp_path / "planes.json")
    assert again["nostril-left"] == Plane("nostril-left", (1.0, 2.0, 3.0), (0.0, 0.0, 1.0), 8.0)


@pytest.mark.parametrize(
    "text",
    [
        "text",
        "[]",
        '{"format": 2, "planes": {}}',
        '{"format": 1}',
        '{"format": 1, "planes": {"p": {"centre_mm": [0, 0], "normal": [0, 0, 1], "radius_mm": 1}}}',
        '{"format": 1, "planes": {"p": {"centre_mm": [0, 0, 0], "normal": [0, 0, 0], "radius_mm": 1}}}',
        '{"format": 1, "planes": {"p": {"centre_mm": [0, 0, 0], "normal": [0, 0, 1], "radius_mm": 0}}}',
        '{"format": 1, "planes": {"p": 3}}',
    ],
)
def test_unusable_planes_are_refused(tmp_path, text):
    (tmp_path / "planes.json").write_text(text)
    with pytest.raises(InputError, match=r"planes\.json"):
        read_planes(tmp_path / "planes.json")


@given(rate=st.floats(1e-3, 1e4))
def test_flow_rates_convert_there_and_back(rate):
    assert m3_s_to_ml_s(ml_s_to_m3_s(rate)) == pytest.approx(rate, rel=1e-14)
    assert ml_s_to_m3_s(1e6) == 1.0
