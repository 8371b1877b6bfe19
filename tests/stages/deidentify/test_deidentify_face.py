"""Cutting the face off: the skin's relief goes, the airway and its surroundings stay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from pipeline.cli import exit_code
from pipeline.core.errors import InputError
from pipeline.core.face import shows_face
from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import read_planes
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.deidentify.face_stage import deface
from stages.deidentify.settings import FaceSettings

SPACING_MM = 2.0
SETTINGS = FaceSettings()
UPRIGHT = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SAGITTAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
MARGIN_MM = SETTINGS.protect_airway_mm


def distance_to_segment(points, start, end):
    start, end = np.array(start, float), np.array(end, float)
    along = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return np.linalg.norm(points - start - along[..., None] * (end - start), axis=-1)


def in_head(points):
    """Say what is tissue: a head with brows, eye sockets, a nose and a chin."""
    x, y, z = np.moveaxis(points, -1, 0)

    def ball(cx, cy, cz, r):
        return (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < r**2

    head = (x / 72) ** 2 + (y / 92) ** 2 + (z / 110) ** 2 < 1
    head &= ~(ball(32, -82, 22, 16) | ball(-32, -82, 22, 16))
    nose = distance_to_segment(points, (0, -84, 20), (0, -104, -8)) < 13
    chin = ball(0, -62, -72, 22)
    return head | nose | chin


def in_lumen(points):
    """Say what is the airway: two nostrils that open downwards, joined by a pharynx."""
    sides = [
        (distance_to_segment(points, (5 * s, -100, -26), (5 * s, -95, 0)) < 3.5)
        | (distance_to_segment(points, (5 * s, -95, 0), (0, -10, 0)) < 3.5)
        for s in (1, -1)
    ]
    return sides[0] | sides[1] | (distance_to_segment(points, (0, -10, 0), (0, -5, -120)) < 7)


def grid_of(axes=UPRIGHT):
    lengths = {"z": 224.0, "y": 250.0, "x": 190.0}
    counts, corner = [], np.zeros(3)
    for axis in np.array(axes):
        direction = int(np.abs(axis).argmax())
        length = lengths["xyz"[direction]]
        counts.append(int(length / SPACING_MM))
        corner -= axis * length / 2
    corner[1] -= 12.0
    return VoxelGrid(tuple(counts), (SPACING_MM,) * 3, tuple(float(v) for v in corner), axes)


def points_of(grid):
    return grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1))


def make_head(axes=UPRIGHT):
    """Return a head in HU with noise, and its lumen on a grid of its own."""
    grid = grid_of(axes)
    points = points_of(grid)
    tissue = in_head(points) & ~in_lumen(points)
    noise = np.random.default_rng(1).normal(0, 15, grid.shape)
    hu = np.rint(np.where(tissue, 40.0, -1000.0) + noise).astype(np.int16)
    fine = VoxelGrid((130, 120, 40), (1.0, 1.0, 1.0), (-20.0, -106.0, -104.0))
    inside = points_of(fine)
    lumen = in_lumen(inside) & in_head(inside)
    return Volume(hu, grid), Volume(lumen.astype(np.uint8), fine)


@pytest.fixture(scope="module", params=[UPRIGHT, SAGITTAL], ids=["axial", "sagittal"])
def case(request):
    image, lumen = make_head(request.param)
    defaced, change = deface(image, SETTINGS, lumen)
    return image, lumen, defaced, change


def distance_to_lumen(image, lumen):
    """Return each voxel's true distance to the nearest centre of a lumen voxel, mm."""
    outside = np.pad(lumen.values == 0, 20, constant_values=True)
    reach = ndimage.distance_transform_edt(outside, sampling=lumen.grid.spacing_mm)
    index = lumen.grid.to_index(points_of(image.grid)) + 20
    at = np.moveaxis(np.rint(index).astype(int), -1, 0)
    inside = np.all([(a >= 0) & (a < n) for a, n in zip(at, reach.shape, strict=True)], axis=0)
    distance = np.full(image.grid.shape, np.inf)
    distance[inside] = reach[tuple(a[inside] for a in at)]
    return distance


def test_every_voxel_near_the_airway_keeps_its_value(case):
    image, lumen, defaced, _ = case
    near = distance_to_lumen(image, lumen) <= MARGIN_MM
    assert near.sum() > 1000
    np.testing.assert_array_equal(defaced.values[near], image.values[near])


def test_nothing_changes_behind_the_middle_of_the_head(case):
    image, _, defaced, _ = case
    behind = points_of(image.grid)[..., 1] > 5.0
    np.testing.assert_array_equal(defaced.values[behind], image.values[behind])


def test_what_changes_becomes_even_air(case):
    image, _, defaced, _ = case
    changed = defaced.values != image.values
    assert changed.any()
    assert (defaced.values[changed] == -1000).all()


def test_no_skin_of_the_face_is_left_away_from_the_airway(case):
    image, lumen, defaced, change = case
    skin_mm = 3.0
    points = points_of(image.grid)
    inside = in_head(points)
    depth = ndimage.distance_transform_edt(inside, sampling=SPACING_MM)
    x, y, z = np.moveaxis(points, -1, 0)
    face = (np.abs(x) < 40) & (y < -50) & (np.abs(z) < 80) & inside & (depth <= skin_mm)
    far = distance_to_lumen(image, lumen) > MARGIN_MM + 4.0
    left = (defaced.values > -400) & face & far
    assert left.sum() <= 0.02 * (face & far).sum()
    assert change.mean_mm > 5.0


def test_the_relief_of_the_sockets_is_gone(case):
    """Left of the nose the original front varies by a socket's depth, the new one by less."""
    image, lumen, defaced, _ = case
    points = points_of(image.grid)
    far = distance_to_lumen(image, lumen) > MARGIN_MM + 4.0

    def front(volume, x_mm, z_mm):
        there = np.abs(points[..., 0] - x_mm) < 1.5
        there &= np.abs(points[..., 2] - z_mm) < 1.5
        return points[..., 1][there & far & (volume.values > -400)].min()

    def bend(volume):
        brow, socket, cheek = (front(volume, 32.0, z) for z in (45.0, 22.0, 0.0))
        return socket - (brow + cheek) / 2

    assert bend(image) > 8.0
    assert abs(bend(defaced)) < 0.5 * bend(image)


def test_no_new_way_leads_from_outside_to_the_airway(case):
    """With the nostrils plugged, what was apart from the outside stays apart."""
    image, _, defaced, _ = case
    x, y, z = np.moveaxis(points_of(image.grid), -1, 0)
    plug = (z < -8) & (z > -30) & (np.abs(x) < 12) & (y < -88)
    bottom = z < z.min() + 1.9 * SPACING_MM
    for volume in (image, defaced):
        labels, _ = ndimage.label((volume.values < -400) & ~plug & ~bottom)
        pharynx = labels[tuple(np.rint(volume.grid.to_index(np.array([0, -8, -50]))).astype(int))]
        outside = labels[tuple(np.rint(volume.grid.to_index(np.array([0, -125, 60]))).astype(int))]
        assert pharynx > 0
        assert pharynx != outside


def test_the_nostrils_stay_open(case):
    image, _, defaced, _ = case
    nostril = in_lumen(points_of(image.grid))
    assert (defaced.values[nostril] < -400).all()


def test_without_an_airway_all_air_inside_is_kept_as_it_is():
    image, lumen = make_head()
    defaced, _ = deface(image, SETTINGS, None)
    deep = distance_to_lumen(image, lumen) <= 2.0
    deep &= points_of(image.grid)[..., 2] > -6.0
    np.testing.assert_array_equal(defaced.values[deep], image.values[deep])
    assert (defaced.values != image.values).any()


def test_the_seed_alone_decides_the_random_part():
    image, lumen = make_head()
    one, two = (deface(image, SETTINGS, lumen)[0].values for _ in range(2))
    other = deface(image, FaceSettings(seed=1), lumen)[0].values
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_a_volume_without_a_head_is_refused():
    grid = grid_of()
    with pytest.raises(InputError, match="head"):
        deface(Volume(np.full(grid.shape, -1000, np.int16), grid), SETTINGS, None)


def test_a_face_is_seen_if_its_skin_is_in_the_image():
    image, _ = make_head()
    assert shows_face(image)
    cropped = image.values[:, 50:]
    origin = tuple(float(v) for v in image.grid.to_world_mm(np.array([0, 50, 0])))
    grid = VoxelGrid(cropped.shape, image.grid.spacing_mm, origin, image.grid.axes)
    assert not shows_face(Volume(cropped, grid))
    assert shows_face(make_head(SAGITTAL)[0])


def test_the_command_writes_a_volume_with_its_record(tmp_path, capsys):
    image, lumen = make_head()
    write_volume(tmp_path / "case.nii.gz", image)
    (tmp_path / "airway").mkdir()
    write_volume(tmp_path / "airway" / "lumen.nii.gz", lumen)
    call = ["deidentify", "face", str(tmp_path / "case.nii.gz"), "--output"]
    airway = ["--airway", str(tmp_path / "airway")]
    assert exit_code([*call, str(tmp_path / "a.nii.gz"), *airway]) == 0
    assert exit_code([*call, str(tmp_path / "b.nii.gz"), *airway]) == 0
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    record = json.loads((tmp_path / "a.nii.gz.json").read_text())
    assert record["properties"]["skin_mean_mm"] > 5.0
    assert "may still be recognised" in record["warnings"][-1]
    assert "may still be recognised" in capsys.readouterr().err
    assert exit_code([*call, str(tmp_path / "c.nii.gz"), "--airway", str(tmp_path)]) == 3
    assert read_volume(tmp_path / "a.nii.gz").values.dtype == np.int16


@pytest.mark.slow
def test_the_phantoms_airway_is_found_the_same_voxel_by_voxel(tmp_path):
    scan, case = tmp_path / "scan", tmp_path / "case.nii.gz"
    assert exit_code(["phantom", "dicom", "--seed", "7", "--output", str(scan)]) == 0
    assert exit_code(["ingest", str(scan), "--output", str(case)]) == 0
    found, cut = tmp_path / "airway", tmp_path / "cut.nii.gz"
    assert exit_code(["airway", str(case), "--output", str(found)]) == 0
    assert (
        exit_code(["deidentify", "face", str(case), "--output", str(cut), "--airway", str(found)])
        == 0
    )
    again = tmp_path / "again"
    call = ["airway", str(cut), "--output", str(again), "--reference", str(found)]
    assert exit_code(call) == 0
    before, after = (read_volume(folder / "lumen.nii.gz") for folder in (found, again))
    np.testing.assert_array_equal(after.values, before.values)
    planes = [read_planes(folder / "planes.json") for folder in (found, again)]
    for name, plane in planes[0].items():
        # The planes pass through text and a normalisation: some units in the last place.
        np.testing.assert_allclose(planes[1][name].centre_mm, plane.centre_mm, rtol=0, atol=1e-9)
        np.testing.assert_allclose(planes[1][name].normal, plane.normal, rtol=0, atol=1e-12)
